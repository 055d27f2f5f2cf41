"""The table of `docs/fidelity.md`, proved: values from PostgreSQL, through a whole export, read by strangers, put back.

What PostgreSQL prints of a value that went out and came back must be what it printed of the original.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import export_pipelines
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import ValueBeyondRepresentation
from export_pipelines.core.fidelity import Carried
from export_pipelines.core.model import ExportPlan, TableSelection, TenantScope
from export_pipelines.core.types import Kind, field_of
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.lake.materialize import whole_partition
from export_pipelines.pipeline.progress import RunProgress, Unwatched
from export_pipelines.pipeline.publish.package import assemble_package
from export_pipelines.pipeline.restoration.restore import restore_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines.settings import Settings
from export_pipelines.stores.migrate import migrate
from export_pipelines_tests.fidelity.matrix import CASES, CLAIMS, SETUP, VARIANTS, TypeCase, Variant, claim
from export_pipelines_tests.fidelity.readers import READERS, Cells, Columns, as_input, restore
from export_pipelines_tests.workshop import login_url, make_workshop

TENANT = "t"
UNUSUAL = {  # types for PostgreSQL's own tables, and xml, which the server of these tests was built without
    *("aclitem", "cid", "gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies"),
    *("pg_mcv_list", "pg_ndistinct", "pg_node_tree", "refcursor", "tid", "txid_snapshot", "xid", "xml"),
}
RANGES = {"int8range", "tsrange", "int4multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange"}
ONE_LINE = "translate({}::text, E'\\r\\n', '  ')"  # JSON formats keep a record on one line


def declared(case: TypeCase, variant: Variant) -> Carried:
    """What the format says of the kind, whatever PostgreSQL's type."""
    return all_formats()[variant.format].carries(field_of("v", case.form), variant.options).carried


ROWS = max(len(case.values) for case in CASES) + 1


def column_of(case: TypeCase) -> str:
    return f"v{CASES.index(case):02}"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Finished exports of all types, and the database they came from."""

    connection: psycopg.Connection[Any]
    catalog: Catalog
    folders: dict[str, Path]  # variant → its package
    read: dict[str, Columns] = field(default_factory=dict)  # variant → what was found in it

    def cells(self, case: TypeCase, variant: Variant) -> Cells:
        if variant.title not in self.read:
            (path,) = (self.folders[variant.title] / "data").iterdir()
            kinds = {column_of(other): other.form.kind for other in CASES}
            self.read[variant.title] = READERS[variant.format](path, kinds, self.connection)
        return self.read[variant.title][column_of(case)]

    def noted(self, case: TypeCase, variant: Variant) -> Carried:
        """What the package's own manifest says of the column."""
        (table,) = json.loads((self.folders[variant.title] / "manifest.json").read_text())["tables"]
        noted = {note["column"]: note["carried_as"] for note in table["fidelity"]}
        return Carried(noted.get(column_of(case), Carried.EXACT))


@pytest.fixture(scope="module")
def source(database: Callable[[str], str]) -> str:
    """A database with a table for each type: every value once, and NULL where it may be."""
    url = database("types")
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        connection.execute("CREATE TABLE tenants (id text PRIMARY KEY)")
        connection.execute("INSERT INTO tenants VALUES (%s)", (TENANT,))
        connection.execute(SETUP)
        columns = ", ".join(f"{column_of(case)} {case.type}" for case in CASES)
        connection.execute(
            sql.SQL(
                "CREATE TABLE types (id int PRIMARY KEY, tenant_id text NOT NULL DEFAULT 't' REFERENCES tenants, {})"
            ).format(sql.SQL(columns))
        )
        names = sql.SQL(", ").join(map(sql.Identifier, ["id", *map(column_of, CASES)]))
        insert = sql.SQL("INSERT INTO types ({}) VALUES ({})").format(
            names, sql.SQL(", ").join([sql.Placeholder()] * (len(CASES) + 1))
        )
        with connection.cursor() as cursor:
            cursor.executemany(insert, [[row, *(value_in(case, row) for case in CASES)] for row in range(ROWS)])
    return url


def value_in(case: TypeCase, row: int) -> str | None:
    """Each value once, then NULL; where there may be none, the first value again."""
    if row < len(case.values):
        return case.values[row]
    return None if case.nullable else case.values[0]


@pytest.fixture(scope="module")
def proof(source: str, postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proof]:
    home = tmp_path_factory.mktemp("types")
    with psycopg.connect(source, autocommit=True) as connection:
        catalog = reflect(connection, name="types", tenant_table="tenants").catalog
        apply_rls(connection, catalog)
        with services_on(source, catalog, postgres, home) as services:
            folders = {variant.title: _export(services, catalog, variant) for variant in VARIANTS}
        yield Proof(
            connection=connection,
            catalog=catalog,
            folders={title: home / "objects" / folder for title, folder in folders.items()},
        )


@contextmanager
def services_on(source: str, catalog: Catalog, postgres: EmbeddedPostgres, home: Path) -> Iterator[ExportServices]:
    """What the steps work with, without a request table."""
    with psycopg.connect(source, autocommit=True) as connection:  # a home before this one had another key
        connection.execute("DROP SCHEMA IF EXISTS export_control CASCADE")
    migrate(source)
    written = home / "catalog.yaml"
    written.write_text(catalog.model_dump_json(by_alias=True, exclude_defaults=True))  # JSON is YAML
    settings = Settings(
        EXPORT_SOURCE_URL=login_url(postgres, source, catalog.reader_role),
        EXPORT_CONTROL_URL=source,  # where the signing key is
        EXPORT_HOME=home,
        EXPORT_CATALOG=written,
    )
    with make_workshop(settings, catalog) as workshop:
        yield workshop.services


def plan_of(catalog: Catalog, variant: Variant) -> ExportPlan:
    return ExportPlan(
        request_id=variant.title.replace(" ", "-"),
        attempt=1,
        scope=TenantScope(tenant_id=TENANT),
        catalog=catalog.name,
        export_type="selective",
        name="types",
        selections=(TableSelection(table="types", columns=("id", *map(column_of, CASES))),),
        format=variant.format,
        format_options=variant.options,
        requested_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    )


def _export(services: ExportServices, catalog: Catalog, variant: Variant) -> str:
    """A validated package; the key of its folder."""
    plan = plan_of(catalog, variant)
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    verdicts = validate_files(plan, stage, files, services, Unwatched())
    package = assemble_package(plan, stage, files, verdicts, services)
    return package.manifest.key.removesuffix("/manifest.json")


@pytest.mark.parametrize(("case", "variant"), CLAIMS, ids=[f"{variant.title}-{case.title}" for case, variant in CLAIMS])
def test_every_value_comes_back_as_postgresql_printed_it(proof: Proof, case: TypeCase, variant: Variant) -> None:
    kind, array = case.form.kind, case.form.pg_type.endswith("[]")
    cells = proof.cells(case, variant)
    texts = {
        number: None if cell.value is None else as_input(cell.value, kind, array=array)
        for number, cell in cells.items()
    }
    shown = ONE_LINE if kind is Kind.JSON and variant.format in ("json", "ndjson") else "{}::text"
    with proof.connection.transaction(force_rollback=True):
        restore(proof.connection, case.type, texts)
        original, restored = (
            proof.connection.execute(
                sql.SQL(f"SELECT {shown}, id FROM {{}} ORDER BY id").format(
                    sql.Identifier(column), sql.Identifier(table)
                )
            ).fetchall()
            for column, table in ((column_of(case), "types"), ("v", "restored"))
        )
    if variant.format == "xlsx" and kind is Kind.NUMERIC:  # a number cell has no trailing zeros
        original, restored = [[(_trimmed(text), number) for text, number in rows] for rows in (original, restored)]
    assert len(original) == ROWS
    assert [row for row, other in zip(original, restored, strict=True) if row != other] == []


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.title)
def test_whoever_gets_a_package_reads_every_value_of_every_type(proof: Proof, variant: Variant) -> None:
    """By the product's own reader, in types of Python; PostgreSQL takes each value back as what it was."""
    read = export_pipelines.read(proof.folders[variant.title]).to_arrow("types")
    numbers = read["id"].to_pylist()
    assert sorted(numbers) == list(range(ROWS))
    different = []
    for case in CASES:
        kind, array, column = case.form.kind, case.form.pg_type.endswith("[]"), column_of(case)
        cells = zip(numbers, read[column].to_pylist(), strict=True)
        texts = {row: None if value is None else as_literal(value, kind, array=array) for row, value in cells}
        shown = ONE_LINE if kind is Kind.JSON and variant.format in ("json", "ndjson") else "{}::text"
        if variant.format == "xlsx" and kind is Kind.NUMERIC:  # a number cell has no trailing zeros
            shown = "trim_scale({}::numeric)::text"
        with proof.connection.transaction(force_rollback=True):
            restore(proof.connection, case.type, texts)
            query = sql.SQL(
                f"SELECT t.id FROM types t JOIN restored r USING (id) WHERE {shown} IS DISTINCT FROM {shown}"
            )
            found = query.format(sql.Identifier("t", column), sql.Identifier("r", "v"))
            different += [(case.title, row) for (row,) in proof.connection.execute(found).fetchall()]
    assert different == []


def as_literal(value: Any, kind: Kind, *, array: bool) -> str:
    """A value of Python as PostgreSQL takes it."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return value.isoformat() if isinstance(value, dt.datetime) else as_input(value, kind, array=array)


def _trimmed(number: str | None) -> str | None:
    return number.rstrip("0").rstrip(".") if number and "." in number else number


def decided_by_column(case: TypeCase, variant: Variant) -> bool:
    undecided = all_formats()[variant.format].undecided
    return undecided is not None and undecided(field_of("v", case.form), variant.options)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.title)
def test_every_column_is_carried_as_its_format_says(proof: Proof, variant: Variant) -> None:
    assert [case.title for case in CASES if not carried_as_claimed(proof, case, variant)] == []


def carried_as_claimed(proof: Proof, case: TypeCase, variant: Variant) -> bool:
    cells = [cell for cell in proof.cells(case, variant).values() if cell.value is not None]
    natives = {cell.native for cell in cells}
    marked = any(cell.marked for cell in cells)
    match claim(case, variant).carried:
        case Carried.EXACT:
            return natives == {True} and not marked
        case Carried.TEXT:
            as_text = case.form.kind in (Kind.TEXT, Kind.JSON) or natives == {False}
            return as_text and (declared(case, variant) is Carried.ESCAPED or not marked)
        case Carried.MIXED if decided_by_column(case, variant):  # some of these values force text on all others
            return natives == {False} and proof.noted(case, variant) is Carried.TEXT
        case Carried.MIXED:
            return natives == {True, False}
        case Carried.ESCAPED:  # that some value needs a mark is proved below, kind by kind
            return case.form.kind is Kind.JSON or natives == {True}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.title)
@pytest.mark.parametrize("kind", Kind)
def test_marks_are_declared_only_where_some_value_needs_one(proof: Proof, kind: Kind, variant: Variant) -> None:
    cases = [case for case in CASES if case.form.kind is kind]
    assert cases
    escaped = [case for case in cases if declared(case, variant) is Carried.ESCAPED]
    assert not escaped or any(cell.marked for case in escaped for cell in proof.cells(case, variant).values())


def test_every_type_of_the_catalog_is_in_the_matrix(proof: Proof) -> None:
    """That is, every base type a user may give a column."""
    found = proof.connection.execute(
        """
        SELECT format_type(oid, NULL) FROM pg_type
        WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typelem = 0
        """
    ).fetchall()
    types = {case.type.partition("(")[0] for case in CASES} | {case.base.partition("(")[0] for case in CASES}
    assert {name for (name,) in found if not name.startswith("reg")} - types - UNUSUAL - RANGES == set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_package_documents_say_which_columns_are_carried_as_text_and_why(proof: Proof, case: TypeCase) -> None:
    folder = proof.folders["CSV"]
    manifest = json.loads((folder / "manifest.json").read_text())
    (table,) = manifest["tables"]
    (column,) = [column for column in table["columns"] if column["name"] == column_of(case)]
    (resource,) = json.loads((folder / "datapackage.json").read_text())["resources"]
    (described,) = [entry for entry in resource["schema"]["fields"] if entry["name"] == column_of(case)]
    assert column["kind"] == case.form.kind
    assert column.get("carried_as") == described.get("carried_as") == ("text" if case.beyond else None)
    assert ("reason" in column) == ("reason" in described) == bool(case.beyond)
    noted = {note["column"]: note["carried_as"] for note in table["fidelity"]}
    reported = Carried.TEXT if case.beyond else declared(case, VARIANTS[0])
    assert noted.get(column_of(case), Carried.EXACT) == reported


def test_the_xml_of_every_type_satisfies_its_schema(proof: Proof) -> None:
    command = ["xmllint", "--noout", "--huge", "--schema", "schema/types.xsd", "data/types.xml"]
    checked = subprocess.run(command, cwd=proof.folders["XML"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr[:500]


@pytest.mark.parametrize("variant", [VARIANTS[0], VARIANTS[-1]], ids=lambda variant: variant.title)
def test_a_migration_makes_every_type_again_with_every_value(
    source: str, proof: Proof, postgres: EmbeddedPostgres, tmp_path: Path, variant: Variant
) -> None:
    plan = replace(plan_of(proof.catalog, variant), export_type="migration", request_id="migration")
    with services_on(source, proof.catalog, postgres, tmp_path) as services:
        stage = stage_tables(plan, services, Unwatched())
        files = convert_tables(plan, stage, services, Unwatched())
        verdicts = validate_files(plan, stage, files, services, Unwatched())
        package = assemble_package(plan, stage, files, verdicts, services)
    folder = tmp_path / "objects" / package.manifest.key.removesuffix("/manifest.json")
    restore_package(folder, source, find_format, schema="again")
    try:
        names = [column_of(case) for case in CASES]
        one, other = (
            sql.SQL("SELECT {} FROM {}.types").format(
                sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in ["id", *names]),
                sql.Identifier(schema),
            )
            for schema in ("public", "again")
        )
        for left, right in ((one, other), (other, one)):
            assert proof.connection.execute(sql.SQL("({}) EXCEPT ALL ({})").format(left, right)).fetchall() == []
        declared_types = proof.connection.execute(
            """
            SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
            WHERE attrelid = ANY(ARRAY['public.types', 'again.types']::regclass[]) AND attname ~ '^v'
            """
        ).fetchall()
        assert len({(name, kind.replace("again.", "")) for name, kind in declared_types}) == len(CASES)
    finally:
        proof.connection.execute("DROP SCHEMA again CASCADE")


@pytest.fixture
def several(source: str) -> Iterator[str]:
    """A table with several columns that only text can carry, and one that could be but need not."""
    name = "several"
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute(
            """
            CREATE TABLE several (
                id int PRIMARY KEY, d date, t time, n numeric(5, 2), "at" timestamptz, calm date, unset date,
                tenant_id text NOT NULL REFERENCES tenants
            )
            """
        )
        connection.execute(
            """
            INSERT INTO several
            SELECT n, CASE WHEN n = 159991 THEN 'infinity' ELSE date '2024-01-31' END,
                   CASE WHEN n = 160000 THEN '24:00' ELSE time '09:30' END,
                   CASE WHEN n = 159992 THEN numeric 'NaN' ELSE n % 100 END,
                   CASE WHEN n = 159993 THEN '0044-03-15Z BC' ELSE timestamptz '2024-01-31 12:00Z' END,
                   '2024-01-31', NULL, 't'
            FROM generate_series(1, 160000) AS n
            """
        )
        yield name
        connection.execute("DROP TABLE several")


def test_all_columns_that_need_it_become_text_at_once_and_rows_are_told_once(
    source: str, several: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    with psycopg.connect(source, autocommit=True) as connection:
        catalog = reflect(connection, name="types", tenant_table="tenants").catalog
        apply_rls(connection, catalog)
    columns = catalog.tables[several].exported_columns
    selections = tuple(
        TableSelection(table=table, columns=columns if table == several else ("id", "v00"))
        for table in ("types", several)
    )
    with services_on(source, catalog, postgres, tmp_path) as services:
        plan = replace(plan_of(catalog, VARIANTS[0]), selections=selections)
        progress = RunProgress(step="stage", expected_rows=0)
        stage = stage_tables(plan, services, progress)
        validate_files(plan, stage, convert_tables(plan, stage, services, Unwatched()), services, Unwatched())
    assert [table.as_text for table in stage.tables] == [(), ("d", "t", "n", "at")]
    assert progress.rows == sum(table.rows for table in stage.tables) == 160_000 + ROWS


def test_the_lake_keeps_its_schema_and_says_what_to_declare(
    source: str, proof: Proof, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    selection = whole_partition(proof.catalog, "types", None)
    with (
        services_on(source, proof.catalog, postgres, tmp_path) as services,
        services.source.snapshot(TenantScope(tenant_id=TENANT)) as snapshot,
        pytest.raises(ValueBeyondRepresentation, match=r"types\.v.*`as_text: true` in the catalog"),
    ):
        list(snapshot.read(selection))


def test_every_format_is_in_the_matrix_and_has_a_reader_that_is_not_ours() -> None:
    assert {variant.format for variant in VARIANTS} == set(all_formats()) == set(READERS)
