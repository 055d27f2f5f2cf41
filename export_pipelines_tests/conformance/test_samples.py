"""What every sample must do: load, be what its catalog says, keep tenants apart, go through every kind of export."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import load_catalog
from export_pipelines.core.catalog import Canary, Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import Kind, normalize, value_type
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.pipeline.restoration.restore import restore_package
from export_pipelines.pipeline.verification.unpacking import opened
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.samples.loader import (
    FIRST_TENANT,
    create_tables,
    load_sample,
    loaded_sample,
    sample_catalog_path,
    sample_demo,
    sample_names,
)
from export_pipelines.settings import Settings
from export_pipelines_tests.lanes import every_pair, some
from export_pipelines_tests.workshop import TENANTS, Workshop, login_url, open_workshop

NAMES = sample_names()
FORMATS = list(all_formats())
ROWS, UNTIL = 4_000, dt.date(2025, 3, 15)
MONTHS = 2 * 12 + 3
UNKNOWN = "00000000-0000-4000-8000-00000000ffff"
NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A sample in a database of its own, which no test changes."""

    name: str
    catalog: Catalog
    admin_url: str
    url: str  # of the login that the service reads with
    connection: psycopg.Connection[Any]  # of an administrator

    @property
    def canary(self) -> Canary:
        assert self.catalog.canary is not None
        return self.catalog.canary

    @property
    def relations(self) -> list[tuple[str, str]]:
        return [(table, name) for table, spec in self.catalog.tables.items() for name in spec.relations]

    def place(self, table: str) -> sql.Identifier:
        return sql.Identifier(*self.catalog.relation_name(table))

    def owned(self, table: str) -> sql.Composed:
        """A query for (all columns, the tenant as text: ``owner``), along the catalog's path."""
        joins: list[sql.Composable] = []
        last, column = "t0", self.catalog.tables[table].tenant.column
        for depth, (_, relation) in enumerate(self.catalog.tenant_route(table), start=1):
            last, column = f"t{depth}", self.catalog.tables[relation.references].tenant.column
            pairs = zip(relation.referenced_columns, relation.columns, strict=True)
            on = sql.SQL(" AND ").join(
                sql.SQL("{} = {}").format(sql.Identifier(last, there), sql.Identifier(f"t{depth - 1}", here))
                for there, here in pairs
            )
            joined = sql.SQL("JOIN {} AS {} ON {}").format(self.place(relation.references), sql.Identifier(last), on)
            joins.append(joined)
        return sql.SQL("SELECT t0.*, {}::text AS owner FROM {} AS t0 {}").format(
            sql.Identifier(last, str(column)), self.place(table), sql.SQL(" ").join(joins)
        )

    def ordinary(self, table: str) -> sql.Composed:
        """As `owned`, without the canary's."""
        return sql.SQL("SELECT * FROM ({}) AS o WHERE owner IS DISTINCT FROM {}").format(
            self.owned(table), sql.Literal(self.canary.tenant)
        )

    def rows(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()

    def counts(self, table: str) -> dict[str | None, int]:
        """Rows by tenant; None is everybody's."""
        query = sql.SQL("SELECT owner, count(*) FROM ({}) AS o GROUP BY owner").format(self.owned(table))
        return dict(self.rows(query))

    def expected(self, table: str, tenant: str) -> int:
        """Rows that the tenant may see."""
        counts = self.counts(table)
        return counts.get(tenant, 0) + counts.get(None, 0)


@pytest.fixture(scope="module")
def loaded(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> Iterator[Callable[[str], Loaded]]:
    """``loaded(name)`` is that sample with three tenants, loaded once."""
    connections: list[psycopg.Connection[Any]] = []

    @cache
    def load(name: str) -> Loaded:
        admin_url = database(name)
        load_sample(admin_url, name, rows=ROWS, until=UNTIL)
        connections.append(psycopg.connect(admin_url, autocommit=True))
        catalog = load_catalog(sample_catalog_path(name))
        url = login_url(postgres, admin_url, catalog.reader_role)
        return Loaded(name=name, catalog=catalog, admin_url=admin_url, url=url, connection=connections[-1])

    yield load
    for connection in connections:
        connection.close()


@pytest.fixture(params=NAMES)
def sample(request: pytest.FixtureRequest, loaded: Callable[[str], Loaded]) -> Loaded:
    return loaded(request.param)


# What a sample is ---------------------------------------------------------------------------------------------------


def test_all_five_are_found() -> None:
    assert NAMES == ["agents", "clinic", "goals", "learning", "outreach"]


def test_name_schema_and_catalog_agree(sample: Loaded) -> None:
    """`loaded_sample` finds a sample by its schema."""
    assert (sample.catalog.name, sample.catalog.schema_) == (sample.name, sample.name)
    assert sample.catalog.tenant.table.startswith(f"{sample.name}.")
    assert loaded_sample(sample.admin_url) == sample.name


def test_catalog_check_finds_nothing(sample: Loaded) -> None:
    assert check(sample.connection, sample.catalog) == []


def test_every_table_is_exported_or_excluded_with_a_reason(sample: Loaded) -> None:
    query = sql.SQL("SELECT relname FROM pg_class WHERE relnamespace = {}::regnamespace AND relkind = 'r'")
    found = {name for (name,) in sample.rows(query.format(sample.catalog.schema_))}
    assert found == {*sample.catalog.tables, *sample.catalog.excluded}
    assert sample.catalog.excluded


def test_columns_and_descriptions_are_those_of_the_database(sample: Loaded) -> None:
    columns = sql.SQL(
        "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, col_description(attrelid, attnum) "
        "FROM pg_attribute WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    for name, table in sample.catalog.tables.items():
        place = ".".join(sample.catalog.relation_name(name))
        found = [
            (column, normalize(kind), nullable, text)
            for column, kind, nullable, text in sample.rows(columns.format(place))
        ]
        assert found == [(key, spec.type, spec.nullable, spec.description) for key, spec in table.columns.items()]
        comment = sample.rows(sql.SQL("SELECT obj_description({}::regclass, 'pg_class')").format(place))
        assert comment == [(table.description,)]


def test_everything_is_described(sample: Loaded) -> None:
    tables = sample.catalog.tables
    assert sample.catalog.title
    assert sample.catalog.description
    assert [name for name, table in tables.items() if not (table.description and table.module)] == []
    assert [
        f"{name}.{key}"
        for name, table in tables.items()
        for key, column in table.columns.items()
        if not (column.label and column.description)
    ] == []


def test_some_tables_have_measures(sample: Loaded) -> None:
    measured = [table for table in sample.catalog.tables.values() if table.measures]
    assert len(measured) >= 2
    assert any(measure.function == "sum" for table in measured for measure in table.measures.values())


def test_relations_are_the_databases_foreign_keys(sample: Loaded) -> None:
    found = sample.rows(
        sql.SQL(
            """
            SELECT child.relname, parent.relname,
                   array(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS k(num, place)
                         JOIN pg_attribute ON attrelid = conrelid AND attnum = num ORDER BY place),
                   array(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS k(num, place)
                         JOIN pg_attribute ON attrelid = confrelid AND attnum = num ORDER BY place)
            FROM pg_constraint
                 JOIN pg_class child ON child.oid = conrelid JOIN pg_class parent ON parent.oid = confrelid
            WHERE contype = 'f' AND connamespace = {}::regnamespace AND child.relname <> ALL ({})
            """
        ).format(sample.name, list(sample.catalog.excluded))
    )
    declared = [sample.catalog.tables[table].relations[name] for table, name in sample.relations]
    assert sorted((child, parent, tuple(here), tuple(there)) for child, parent, here, there in found) == sorted(
        (table, relation.references, relation.columns, relation.referenced_columns)
        for (table, _), relation in zip(sample.relations, declared, strict=True)
    )


# What is in it ------------------------------------------------------------------------------------------------------


def test_rows_are_about_as_many_as_asked_and_the_first_tenant_has_most(sample: Loaded) -> None:
    counts = {table: sample.counts(table) for table in sample.catalog.tables}
    ordinary = [rows for each in counts.values() for owner, rows in each.items() if owner != sample.canary.tenant]
    assert sum(ordinary) == pytest.approx(ROWS, rel=0.03)
    for table, each in counts.items():
        of = [each[tenant] for tenant in TENANTS]
        assert of == sorted(of, reverse=True), table
        assert of[-1] >= 1, table


def test_each_nullable_column_is_null_in_some_rows_and_not_in_others(sample: Loaded) -> None:
    wrong = []
    for name, table in sample.catalog.tables.items():
        columns = [key for key, column in table.columns.items() if column.nullable]
        if not columns:
            continue
        figures = sql.SQL(", ").join(sql.SQL("count({})").format(sql.Identifier(key)) for key in columns)
        query = sql.SQL("SELECT count(*), {} FROM ({}) AS o").format(figures, sample.ordinary(name))
        rows, *filled = sample.rows(query)[0]
        wrong += [f"{name}.{key}" for key, count in zip(columns, filled, strict=True) if not 0 < count < rows]
    assert wrong == []


def test_there_are_deleted_rows_wherever_rows_can_be_deleted(sample: Loaded) -> None:
    deletable = {name: table for name, table in sample.catalog.tables.items() if table.deleted_column}
    assert len(deletable) >= 2
    for name, table in deletable.items():
        column, alive = sql.Identifier(str(table.deleted_column)), sql.Literal(table.alive_when)
        deleted = sql.SQL("count(*) FILTER (WHERE {0} IS NOT NULL AND {0} IS DISTINCT FROM {1})").format(column, alive)
        query = sql.SQL("SELECT count(*), {} FROM ({}) AS o").format(deleted, sample.ordinary(name))
        rows, gone = sample.rows(query)[0]
        assert 0 < gone < rows, name


def texts(sample: Loaded) -> set[str]:
    """All texts of the first tenant."""
    found: set[str] = set()
    for name, table in sample.catalog.tables.items():
        for key, column in table.columns.items():
            if value_type(column.type).kind is Kind.TEXT and not column.mask and not column.exclude:
                query = sql.SQL("SELECT DISTINCT {}::text FROM ({}) AS o WHERE owner = {}").format(
                    sql.Identifier(key), sample.owned(name), FIRST_TENANT
                )
                found |= {text for (text,) in sample.rows(query) if text is not None}
    return found


def test_texts_are_of_many_scripts_and_hostile_to_careless_formats(sample: Loaded) -> None:
    found = texts(sample)
    assert len([text for text in found if NOT_ASCII.search(text)]) > 30
    hostile = {"", "\\N", "NULL", "=SUM(A1:A9)", "carriage\rreturn", "semicolon; comma, pipe | done", "0049170000000"}
    assert hostile - found == set()
    assert any(any("\u0590" <= char <= "\u06ff" for char in text) for text in found)  # Hebrew and Arabic
    assert any("\u4e00" <= char <= "\u9fff" for text in found for char in text)
    assert any(ord(char) > 0xFFFF for text in found for char in text)


def test_local_times_are_of_more_than_one_zone(sample: Loaded) -> None:
    zones = {
        zone
        for table in sample.catalog.tables
        if "timezone" in sample.catalog.tables[table].columns
        for (zone,) in sample.rows(sql.SQL("SELECT DISTINCT timezone FROM ({}) AS o").format(sample.ordinary(table)))
    }
    assert len(zones) >= 2
    kinds = {column.type for table in sample.catalog.tables.values() for column in table.columns.values()}
    assert {"timestamp with time zone", "timestamp without time zone"} <= kinds


def test_one_person_is_in_several_tables(sample: Loaded) -> None:
    """What belongs to the same person is found along relations; a person is a row with a personal mail address."""
    most = 0
    for person, table in sample.catalog.tables.items():
        if "email" not in table.columns or table.columns["email"].classification != "personal":
            continue
        pointing = [
            (child, relation.columns[0])
            for child, name in sample.relations
            if (relation := sample.catalog.tables[child].relations[name]).references == person
        ]
        if len({child for child, _ in pointing}) < 2:
            continue
        members = sql.SQL(" UNION ").join(
            sql.SQL("SELECT {} AS person, {} AS place FROM {}").format(sql.Identifier(key), child, sample.place(child))
            for child, key in pointing
        )
        query = sql.SQL("SELECT count(DISTINCT place) FROM ({}) AS o WHERE person IS NOT NULL GROUP BY person")
        most = max([most, *(count for (count,) in sample.rows(query.format(members)))])
    assert most >= 2


def test_rows_reach_from_the_first_months_to_the_last_day(sample: Loaded) -> None:
    for name, table in sample.catalog.tables.items():
        if (column := table.partition_column) is None:
            continue
        query = sql.SQL("SELECT min({0}), max({0}) FROM ({1}) AS o").format(
            sql.Identifier(column), sample.ordinary(name)
        )
        first, last = sample.rows(query)[0]
        assert first < dt.datetime(2023, 7, 1, tzinfo=dt.UTC), name
        assert dt.datetime(2024, 9, 1, tzinfo=dt.UTC) < last < dt.datetime.combine(UNTIL, dt.time(), dt.UTC), name


def test_no_foreign_key_leaves_its_tenant(sample: Loaded) -> None:
    for table, name in sample.relations:
        relation = sample.catalog.tables[table].relations[name]
        on = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("child", here), sql.Identifier("parent", there))
            for here, there in zip(relation.columns, relation.referenced_columns, strict=True)
        )
        query = sql.SQL(
            "SELECT count(*), count(*) FILTER (WHERE child.owner <> parent.owner) "
            "FROM ({}) AS child JOIN ({}) AS parent ON {}"
        ).format(sample.owned(table), sample.owned(relation.references), on)
        together, strangers = sample.rows(query)[0]
        assert together > 0, (table, name)
        assert strangers == 0, (table, name)


def test_the_canary_has_a_row_of_every_month_in_each_table_and_nobody_else_its_marker(sample: Loaded) -> None:
    root = sample.catalog.tenant.table.split(".")[1]
    for table in sample.catalog.tables:
        marked = sql.SQL("count(*) FILTER (WHERE strpos(o::text, {}) > 0)").format(sample.canary.marker)
        query = sql.SQL("SELECT count(*) FILTER (WHERE owner = {}), {} FROM ({}) AS o").format(
            sample.canary.tenant, marked, sample.owned(table)
        )
        months = 1 if table == root else MONTHS
        assert sample.rows(query) == [(months, months)], table


# How it is loaded ---------------------------------------------------------------------------------------------------


def fingerprint(connection: psycopg.Connection[Any], sample: Loaded) -> dict[str, Any]:
    query = sql.SQL("SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) FROM {} AS t")
    names = [*sample.catalog.tables, *sample.catalog.excluded]
    return {name: connection.execute(query.format(sql.Identifier(sample.name, name))).fetchone() for name in names}


def definitions(connection: psycopg.Connection[Any], schema: str) -> list[tuple[str]]:
    query = (
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid "
        "WHERE relnamespace = %(schema)s::regnamespace UNION ALL "
        "SELECT conrelid::regclass || pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = %(schema)s::regnamespace ORDER BY 1"
    )
    return connection.execute(query, {"schema": schema}).fetchall()


def test_the_same_arguments_make_the_same_rows_and_indexes_and_keys_are_back(
    sample: Loaded, database: Callable[[str], str]
) -> None:
    url = database("twin")
    with psycopg.connect(url) as connection:
        create_tables(connection, sample.name)
        untouched = definitions(connection, sample.name)
    load_sample(url, sample.name, rows=ROWS, until=UNTIL)
    with psycopg.connect(url) as connection:
        assert definitions(connection, sample.name) == untouched
        assert fingerprint(connection, sample) == fingerprint(sample.connection, sample)


@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize("name", some(NAMES, ["goals"]))
def test_a_sample_can_be_small(database: Callable[[str], str], name: str, rows: int) -> None:
    url = database("small")
    load_sample(url, name, rows=rows, tenants=2, until=dt.date(2023, 1, 2))
    with psycopg.connect(url) as connection:
        assert check(connection, load_catalog(sample_catalog_path(name))) == []


def test_a_sample_over_another_one_is_refused_and_leaves_nothing(database: Callable[[str], str]) -> None:
    url = database("taken")
    load_sample(url, "outreach", rows=20)
    with psycopg.connect(url) as connection:
        before = connection.execute("SELECT oid::regclass::text FROM pg_class ORDER BY 1").fetchall()
        with pytest.raises(RequestRejected, match=r"^sample: the database already holds sample 'outreach'.*'goals'"):
            load_sample(url, "goals", rows=20)
        assert connection.execute("SELECT oid::regclass::text FROM pg_class ORDER BY 1").fetchall() == before
        assert connection.execute("SELECT to_regnamespace('goals')").fetchone() == (None,)
    assert loaded_sample(url) == "outreach"


def test_a_schema_of_somebody_elses_with_a_samples_name_is_no_sample(database: Callable[[str], str]) -> None:
    url = database("neighbour")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA goals")
    assert loaded_sample(url) is None
    load_sample(url, "outreach", rows=20)
    assert loaded_sample(url) == "outreach"


# Whose rows are seen ------------------------------------------------------------------------------------------------


def seen(sample: Loaded, tenant: str | None) -> dict[str, int]:
    """Rows of each table that the reader role sees for that tenant, by policies alone."""
    found = {}
    with sample.connection.transaction(force_rollback=True):
        sample.connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(sample.catalog.reader_role)))
        if tenant is not None:
            sample.connection.execute("SELECT set_config('export.tenant_id', %s, true)", [tenant])
        for name, table in sample.catalog.tables.items():
            columns = [key for key in table.exported_columns if table.columns[key].mask is None]
            shown = sql.SQL(", ").join(map(sql.Identifier, columns))
            query = sql.SQL("SELECT count(*) FROM (SELECT {} FROM {}) AS o").format(shown, sample.place(name))
            found[name] = sample.rows(query)[0][0]
    return found


def test_policies_alone_show_a_tenant_its_rows_and_what_is_everybodys(sample: Loaded) -> None:
    for tenant in TENANTS:
        assert seen(sample, tenant) == {name: sample.expected(name, tenant) for name in sample.catalog.tables}
    shared = {name: sample.counts(name).get(None, 0) for name in sample.catalog.tables}
    assert seen(sample, UNKNOWN) == shared
    for nobody in (None, ""):
        assert set(seen(sample, nobody).values()) == {0}


def test_the_reader_cannot_read_what_is_kept_back(sample: Loaded) -> None:
    kept = [(name, "*") for name in sample.catalog.excluded]
    kept += [
        (name, key)
        for name, table in sample.catalog.tables.items()
        for key, column in table.columns.items()
        if column.mask or column.exclude
    ]
    assert len(kept) >= 2
    for name, key in kept:
        with sample.connection.transaction(force_rollback=True):
            sample.connection.execute("SET LOCAL ROLE export_reader")
            what = sql.SQL("*") if key == "*" else sql.Identifier(key)
            query = sql.SQL("SELECT {} FROM {}").format(what, sql.Identifier(sample.name, name))
            with pytest.raises(psycopg.errors.InsufficientPrivilege), sample.connection.transaction():
                sample.connection.execute(query)


# What is exported ---------------------------------------------------------------------------------------------------


Exported = Callable[..., Path]


@pytest.fixture(scope="module")
def control(migrated_database: Callable[[str], str]) -> str:
    """One control database for the exports of all samples."""
    return migrated_database("samples")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the key that signs what that control database knows."""
    return tmp_path_factory.mktemp("samples")


@pytest.fixture
def exported(loaded: Callable[[str], Loaded], control: str, home: Path) -> Iterator[Exported]:
    """``exported(name, config, tenant)`` is the published package of that export, which was verified."""
    with ExitStack() as open_ones:

        def export(name: str, config: dict[str, Any], tenant: str = FIRST_TENANT) -> Path:
            settings = Settings(
                EXPORT_SOURCE_URL=loaded(name).url,
                EXPORT_CATALOG=sample_catalog_path(name),
                EXPORT_CONTROL_URL=control,
                EXPORT_HOME=home,
            )
            return verified(open_ones.enter_context(open_workshop(settings)), config, tenant)

        yield export


def verified(workshop: Workshop, config: dict[str, Any], tenant: str) -> Path:
    request = workshop.export(config, tenant)
    assert (request.status, request.error_message) == ("completed", None)
    folder = workshop.package(request)
    found = verify_package(folder / "manifest.json", find_format)
    assert found.valid, found.problems
    return folder


def assert_only_the_tenants(folder: Path, sample: Loaded, tenant: str) -> None:
    """Rows as many as the administrator counts; no byte of another tenant's id or the canary's marker."""
    manifest = json.loads((folder / "manifest.json").read_text())
    counted = {table["name"]: table["rows"] for table in manifest["tables"]}
    assert counted == {name: sample.expected(name, tenant) for name in sample.catalog.tables}
    content = b"".join(path.read_bytes() for path in (folder / "data").rglob("*") if path.is_file())
    for foreign in [*TENANTS, sample.canary.tenant, sample.canary.marker]:
        assert foreign == tenant or foreign.encode() not in content


# Each sample in one format and each format but one; the rest of the product is `exhaustive`.
@pytest.mark.parametrize(("name", "format_name"), every_pair(NAMES, FORMATS, base=None))
def test_a_backup_in_any_format_holds_all_of_the_tenant_and_nothing_else(
    loaded: Callable[[str], Loaded], exported: Exported, name: str, format_name: str
) -> None:
    # The second tenant: larger and smaller ones are beside it.
    config = {"export_type": "full_backup", "format": format_name, "include_deleted": True}
    folder = exported(name, config, TENANTS[1])
    assert_only_the_tenants(folder, loaded(name), TENANTS[1])


@pytest.mark.parametrize("name", some(NAMES, []))
def test_what_demo_orders_is_an_export(exported: Exported, name: str) -> None:
    exported(name, sample_demo(name), FIRST_TENANT)


# Goals has what restores best show: rows of everybody, composite keys, ranges, a number that goes on.
@pytest.mark.parametrize("name", some(NAMES, ["goals"]))
def test_a_migration_restores_to_the_same_rows(loaded: Callable[[str], Loaded], exported: Exported, name: str) -> None:
    sample = loaded(name)
    folder = exported(name, {"export_type": "migration", "format": "csv"})
    try:
        with opened(folder, Keys()) as content:
            restored = restore_package(content, sample.admin_url, find_format, schema="restored")
        assert set(restored.tables) == set(sample.catalog.tables)
        for table, spec in sample.catalog.tables.items():
            columns = [key for key in spec.exported_columns if spec.columns[key].mask is None]
            shown = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(key)) for key in columns)
            there = sql.SQL("SELECT {} FROM ({}) AS o WHERE coalesce(owner, {}) = {}").format(
                shown, sample.owned(table), TENANTS[0], TENANTS[0]
            )
            here = sql.SQL("SELECT {} FROM {}").format(shown, sql.Identifier("restored", table))
            for one, other in ((there, here), (here, there)):
                assert sample.rows(sql.SQL("({}) EXCEPT ALL ({})").format(one, other)) == [], table
    finally:
        sample.connection.execute("DROP SCHEMA IF EXISTS restored CASCADE")
