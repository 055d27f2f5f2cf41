"""A migration package, restored elsewhere, is what the source was: every row, every key, nothing of anybody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.catalog import Catalog
from export_pipelines.embedded.binaries import locate
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.pipeline.restoration.restore import Restoration, restore_package
from export_pipelines.pipeline.verification.unpacking import opened
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.samples.loader import load_sample
from export_pipelines_tests.architecture.test_docs import ROOT, blocks
from export_pipelines_tests.lanes import EXHAUSTIVE
from export_pipelines_tests.orchestration.lake import OWNED
from export_pipelines_tests.workshop import TENANTS, FinishedExports, Workshop

OURS = TENANTS[0]
PASSWORD = "migrate these rows, please"
MIGRATION: dict[str, Any] = {"export_type": "migration", "format": "csv"}
Database = Callable[[str], str]
Package = Callable[..., Path]


@pytest.fixture(scope="module")
def twin(database: Database) -> str:
    """A database with the rows of the sample that the workshop exports."""
    url = database("twin")
    load_sample(url, "clinic", tenants=3, rows=3_000)
    return url


@pytest.fixture
def target(twin: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the twin; the schema that a test restores into is gone after it."""
    with psycopg.connect(twin, autocommit=True) as connection:
        yield connection
        connection.execute("DROP SCHEMA IF EXISTS restored CASCADE")


@pytest.fixture
def migrated(finished: FinishedExports, tmp_path: Path) -> Package:
    """``migrated(compression="zip")`` is a copy of the package of such a migration."""

    def package(**changes: Any) -> Path:
        return finished.package(tmp_path, {**MIGRATION, **changes})

    return package


def restored(folder: Path, url: str, **options: Any) -> Restoration:
    keys = Keys(password=SecretStr(PASSWORD))
    with opened(folder, keys) as content:
        assert verify_package(content, find_format).valid
        return restore_package(content, url, find_format, **options)


def assert_same_rows(connection: psycopg.Connection[Any], catalog: Catalog) -> None:
    """EXCEPT both ways, duplicates counted, between the tenant's rows in the source's tables and the restored ones."""
    for name, table in catalog.tables.items():
        columns = [column for column in table.exported_columns if table.columns[column].mask is None]
        shown = sql.SQL(", ").join(sql.SQL("r.{}::text").format(sql.Identifier(column)) for column in columns)
        owned = OWNED.get(name, "r.clinic_id = {tenant}")
        there = sql.SQL("SELECT {} FROM {} r WHERE {}").format(
            shown, sql.Identifier("clinic", name), sql.SQL(owned).format(tenant=sql.Literal(OURS))
        )
        here = sql.SQL("SELECT {} FROM {} r").format(shown, sql.Identifier("restored", name))
        for one, other in ((there, here), (here, there)):
            missing = connection.execute(sql.SQL("({}) EXCEPT ALL ({})").format(one, other)).fetchall()
            assert missing == [], name
        counted = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("restored", name)))
        assert counted.fetchone() != (0,), name


CONSTRAINTS = """
SELECT conrelid::regclass::text ~ '^restored' AS copy, relname, contype::text, convalidated,
       replace(pg_get_constraintdef(k.oid), 'restored.', 'clinic.')
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = %s::regnamespace AND contype IN ('p', 'u', 'f', 'c') AND relname = ANY(%s)
"""


def constraints(connection: psycopg.Connection[Any], schema: str, tables: list[str]) -> set[tuple[Any, ...]]:
    return {row[1:] for row in connection.execute(CONSTRAINTS, (schema, tables))}


@pytest.mark.parametrize(
    "changes",
    [
        {"compression": "gzip", "parallel_jobs": 4},
        {"compression": "zip"},
        {"compression": "zstd", "split_files": {"max_size_mb": 0.01}},
        {"format": "parquet", "encryption": {"method": "AES256", "password": PASSWORD}},
    ],
    ids=["csv.gz, four readers", "zip", "csv.zst in pieces", "parquet, encrypted"],
)
def test_a_restored_migration_equals_its_source(
    finished: FinishedExports,
    migrated: Package,
    twin: str,
    target: psycopg.Connection[Any],
    changes: dict[str, Any],
) -> None:
    found = restored(migrated(**changes), twin, schema="restored")
    assert found.rows == finished.request({**MIGRATION, **changes}).package_rows
    assert list(found.tables) == sorted(found.tables, key=list(found.tables).index)
    catalog = finished.workshop.catalog
    assert_same_rows(target, catalog)
    tables = list(catalog.tables)
    assert constraints(target, "restored", tables) == constraints(target, "clinic", tables)
    following = target.execute("SELECT nextval(pg_get_serial_sequence('restored.invoices', 'number'))").fetchone()
    greatest = target.execute("SELECT max(number) + 1 FROM restored.invoices").fetchone()
    assert following == greatest


def test_psql_restores_without_this_program(migrated: Package, database: Database) -> None:
    psql = locate().program("psql")
    package = migrated(compression="gzip")
    url = database("by_psql")
    ran = subprocess.run(
        [psql, "-X", "-q", "-d", url, "-f", "load.sql"],
        cwd=package,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    manifest = json.loads((package / "manifest.json").read_text())
    with psycopg.connect(url) as connection:
        for table in manifest["tables"]:
            counted = connection.execute(
                sql.SQL("SELECT count(*) FROM clinic.{}").format(sql.Identifier(table["name"]))
            )
            assert counted.fetchone() == (table["rows"],)


def test_parents_are_loaded_before_their_children(finished: FinishedExports, migrated: Package) -> None:
    manifest = json.loads((migrated() / "manifest.json").read_text())
    order = manifest["migration"]["load_order"]
    for name, table in finished.workshop.catalog.tables.items():
        for relation in table.relations.values():
            assert order.index(relation.references) <= order.index(name)


def test_foreign_keys_to_what_is_not_in_the_package_are_named_and_left_out(
    migrated: Package, twin: str, target: psycopg.Connection[Any]
) -> None:
    folder = migrated(tables=["pets", "clients"])
    found = restored(folder, twin, schema="restored")
    left = {(left.table, left.what) for left in found.left_out}
    assert left == {
        ("pets", "foreign key pets_clinic_id_fkey"),
        ("clients", "foreign key clients_clinic_id_fkey"),
        ("pets", "comments"),
        ("clients", "comments"),
    }
    assert "clients_clinic_id_fkey" in (folder / "README.md").read_text()
    kinds = [row[1:3] for row in target.execute(CONSTRAINTS, ("restored", ["pets", "clients"]))]
    assert sorted(kinds) == [("clients", "p"), ("pets", "f"), ("pets", "p")]


def schemas_of(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'")}


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["restore", "--trust-unsigned", *arguments])


def test_the_command_tells_what_it_would_do_does_it_and_refuses_to_do_it_twice(
    migrated: Package, database: Database
) -> None:
    folder, url = str(migrated()), database("by_command")
    before = schemas_of(url)
    tried = run(folder, "--url", url, "--dry-run")
    assert (tried.exit_code, schemas_of(url)) == (0, before), tried.output
    assert "nothing was changed" in tried.output
    done = run(folder, "--url", url, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["schema"] == "clinic"
    again = run(folder, "--url", url)
    assert again.exit_code == 2
    assert "already holds" in again.output


def test_a_damaged_package_is_not_restored(migrated: Package, database: Database) -> None:
    folder, url = migrated(), database("of_damaged")
    with (folder / "schema.sql").open("a") as script:
        script.write("CREATE TABLE public.stowaway ();\n")
    before = schemas_of(url)
    assert run(str(folder), "--url", url).exit_code == 3
    assert schemas_of(url) == before


MEDDLING = """
CREATE FUNCTION public.meddle() RETURNS event_trigger LANGUAGE plpgsql SET search_path = clinic AS $$
BEGIN {} END $$;
CREATE EVENT TRIGGER meddling ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION public.meddle();
"""


@pytest.mark.parametrize(
    ("script", "statement", "meddling", "kind"),
    [
        ("constraints.sql", "", "DELETE FROM payments;", "integrity_violation"),
        ("constraints.sql", "", "UPDATE invoices SET total = total + 1;", "integrity_violation"),
        ("constraints.sql", "ALTER TABLE pets ADD CONSTRAINT small CHECK (name = '')", "", "integrity_violation"),
        ("schema.sql", "CREATE SEQUENCE needs AS no_such_type", "", "request_rejected"),
    ],
)
def test_a_failure_leaves_the_target_as_it_was(
    migrated: Package, database: Database, script: str, statement: str, meddling: str, kind: str
) -> None:
    """Triggers of the target and scripts that do not fit stand for a target that does not do what it should."""
    folder, url = migrated(), database("of_failure")
    with (folder / script).open("a") as written:
        written.write(f"{statement};\n" if statement else "")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(MEDDLING.format(meddling).encode() if meddling else b"")
    before = schemas_of(url)
    with pytest.raises(Exception, match="nothing was kept") as refused:
        restore_package(folder, url, find_format)
    assert getattr(refused.value, "error_type", None) == kind
    assert schemas_of(url) == before
    assert "Rex" not in str(refused.value)


@pytest.mark.parametrize("schema", ["", "x" * 64, "ü" * 32])
def test_a_name_that_postgresql_would_not_keep_is_refused(migrated: Package, database: Database, schema: str) -> None:
    folder, url = str(migrated(tables=["clinics"])), database("of_names")
    refused = run(folder, "--url", url, "--schema", schema)
    assert (refused.exit_code, "--schema" in refused.output) == (2, True)
    assert "clinic" not in schemas_of(url)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        ("CREATE VIEW statements AS SELECT 1 AS calls; ALTER EXTENSION plpgsql ADD VIEW statements", 0),
        ("CREATE TABLE places (id serial PRIMARY KEY)", 2),
        ("CREATE VIEW statements AS SELECT 1 AS calls", 2),
        ("CREATE TYPE pair AS (one int, two int)", 2),
        ("CREATE TYPE mood AS ENUM ('calm')", 2),
        ("CREATE SEQUENCE numbers", 2),
    ],
)
def test_a_schema_with_nothing_but_parts_of_extensions_is_empty(
    migrated: Package, database: Database, made: str, code: int
) -> None:
    """Extensions that are wanted everywhere, such as pg_stat_statements, leave views in public."""
    folder, url = str(migrated(tables=["clinics"])), database("of_extensions")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(made)
    done = run(folder, "--url", url, "--schema", "public")
    assert done.exit_code == code, done.output


def test_other_packages_and_unreachable_targets_are_told_apart(
    finished: FinishedExports, migrated: Package, database: Database, tmp_path: Path
) -> None:
    plain = finished.package(tmp_path, {"tables": ["pets"], "format": "csv"})
    assert run(str(plain), "--url", database("of_plain")).exit_code == 2
    gone = urlsplit(database("gone"))._replace(netloc="nobody:x@127.0.0.1:1").geturl()
    assert run(str(migrated(tables=["clinics"])), "--url", gone).exit_code == 4


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": "xlsx"}, "format"),
        ({"options": {"csv_profile": "excel"}}, "options.csv_profile"),
        ({"filters": {"include_deleted": True}}, "config"),
        ({"point_in_time": "2026-01-01T00:00:00Z"}, "config"),
        ({"parallel_jobs": 9}, "parallel_jobs"),
    ],
)
def test_what_could_not_be_restored_is_refused_before_a_row_is_read(
    workshop: Workshop, changes: dict[str, Any], field: str
) -> None:
    done = workshop.export({**MIGRATION, **changes})
    assert (done.status, done.error_type) == ("failed", "request_rejected")
    assert str(done.error_message).startswith(f"{field}: ")


def test_a_backup_is_the_same_bytes_however_many_connections_read_it(workshop: Workshop) -> None:
    with workshop.services.source.snapshot(workshop.scope()) as snapshot:
        made = [
            _files(workshop, snapshot.shared, {"export_type": "full_backup", "format": "csv", "parallel_jobs": jobs})
            for jobs in (1, 8)
        ]
    assert made[0] == made[1]
    assert len(made[0]) > len(workshop.catalog.tables)


def _files(workshop: Workshop, join: Any, config: dict[str, Any]) -> dict[str, bytes]:
    from export_pipelines_tests.packages import make_package

    keys = make_package(workshop.services, OURS, "same", config, join)
    return {key: (workshop.objects / key).read_bytes() for key in keys}


@EXHAUSTIVE
def test_the_how_to_of_the_documentation_moves_a_tenant(workshop: Workshop, database: Database, tmp_path: Path) -> None:
    """The commands of docs/bulk.md as they stand there, with this test's tenant and target."""
    page = (ROOT / "docs" / "bulk.md").read_text()
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    moving = [line for line in lines if " moved" in line or "signing public" in line]
    assert [line.split()[1] for line in moving] == ["bulk", "signing", "restore", "restore"]
    url = database("moved")
    script = "\n".join(moving).replace("4711", OURS).replace("postgresql://me@new-server/empty", url)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EXPORT_HOME": str(workshop.settings.home), "PYTHONPATH": str(ROOT)}
    command = script.replace("export-pipelines ", f"{sys.executable} -m export_pipelines ")
    done = subprocess.run(
        ["bash", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.index("nothing was changed") < done.stdout.index("compared with the manifest")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM clinic.clinics").fetchone() == (1,)
