"""Migration packages from strangers: `restore` runs nothing of theirs but what makes the package's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.restoration.restore import (
    Restoration,
    _require_rolled_back,
    _transaction,
    restore_package,
)
from export_pipelines_tests.tenancy.test_hostile_packages import manifest_of, package, write_manifest

COLUMN = {"name": "a", "type": "integer"}
TABLE: dict[str, Any] = {"table": "t", "schema": None, "name": "t", "columns": [COLUMN]}
PLAIN = "CREATE TABLE t (a integer);"
TARGET = """
CREATE SCHEMA theirs;
CREATE TABLE theirs.users (id integer PRIMARY KEY);
CREATE TABLE theirs.seen (what text);
CREATE SEQUENCE theirs.ids;
CREATE FUNCTION theirs.note(v integer) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN INSERT INTO theirs.seen VALUES ('called'); RETURN v; END $$;
CREATE FUNCTION theirs.twice(v integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT 2 * v $$;
CREATE FUNCTION theirs.apart(integer, integer) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$ SELECT 1.0 $$;
CREATE DOMAIN theirs.watched AS integer CHECK (theirs.note(VALUE) > 0);
CREATE OPERATOR theirs.=== (FUNCTION = theirs.note, RIGHTARG = integer);
"""


@pytest.fixture(scope="module")
def target(database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database("hostile_restore"), autocommit=True) as connection:
        connection.execute(TARGET.encode())
        yield connection


@pytest.fixture
def restore(target: psycopg.Connection[Any], tmp_path: Path) -> Iterator[Callable[..., Restoration]]:
    """Restore a package of one table of two rows with these scripts; afterwards the target must be as it was."""
    before = state(target)

    def run(schema: str = PLAIN, constraints: str = "", dry_run: bool = False, **migration: Any) -> Restoration:
        folder = package(tmp_path / "package")
        (folder / "schema.sql").write_text(schema)
        (folder / "constraints.sql").write_text(constraints)
        manifest = manifest_of(folder, "data/t.csv")
        manifest["migration"] = {"schema": "mine", "tables": [TABLE], **migration}
        write_manifest(folder, manifest)
        url = target.info.dsn + f" password={target.info.password}"
        return restore_package(folder, url, find_format, dry_run=dry_run)

    yield run
    target.execute("DROP SCHEMA IF EXISTS mine CASCADE")
    assert state(target) == before


def state(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute(
        """
        SELECT 'object', oid::regclass::text FROM pg_class WHERE relnamespace = 'theirs'::regnamespace
        UNION ALL SELECT 'row', what FROM theirs.seen UNION ALL SELECT 'user', id::text FROM theirs.users
        UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'mine'
        UNION ALL SELECT 'sequence', last_value::text || is_called FROM theirs.ids
        UNION ALL SELECT 'key', conname FROM pg_constraint WHERE confrelid = 'theirs.users'::regclass
        UNION ALL SELECT 'role', rolname FROM pg_roles ORDER BY 1, 2
        """
    ).fetchall()


def test_the_package_is_restored_before_it_is_made_hostile(
    restore: Callable[..., Restoration], target: psycopg.Connection[Any]
) -> None:
    schema = "CREATE TABLE t (a integer DEFAULT (random() * 9), CONSTRAINT c CHECK (a > 0 AND now() > '2024-01-01'));"
    assert restore(schema).rows == 2
    assert target.execute("SELECT sum(a) FROM mine.t").fetchone() == (3,)


def test_a_dry_run_asks_the_database_whether_nothing_was_changed(
    restore: Callable[..., Restoration], target: psycopg.Connection[Any]
) -> None:
    assert restore(dry_run=True).dry_run
    with target.transaction():
        number = _transaction(target)
    with pytest.raises(IntegrityViolation, match="not taken back"):
        _require_rolled_back(target, number)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT; BEGIN",
        "COPY t FROM PROGRAM 'touch /tmp/restored-by-a-stranger'",
        "INSERT INTO theirs.seen VALUES ('x')",
        "SELECT theirs.note(1)",
        "CREATE ROLE stranger SUPERUSER",
    ],
)
def test_statements_of_other_forms_are_never_sent(
    restore: Callable[..., Restoration], statement: str, dry_run: bool
) -> None:
    for scripts in ({"schema": f"{PLAIN}\n{statement};"}, {"constraints": f"\n{statement};"}):
        with pytest.raises(RequestRejected, match="line 2 has the statement"):
            restore(dry_run=dry_run, **scripts)


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        ("a integer DEFAULT (length(pg_read_file('/etc/passwd')))", "pg_read_file"),
        ("a integer, CONSTRAINT c CHECK (lo_import('/etc/passwd') > 0)", "lo_import"),
        ("a integer, CONSTRAINT c CHECK (pg_sleep(1) IS NOT NULL)", "pg_sleep"),
        ("a integer, CONSTRAINT c CHECK (set_config('role', 'postgres', false) <> '')", "set_config"),
        ("a integer, CONSTRAINT c CHECK (query_to_xml('SELECT 1', true, true, '') IS NOT NULL)", "query_to_xml"),
        ("a integer, CONSTRAINT c CHECK (table_to_xml('theirs.users', true, true, '') IS NOT NULL)", "theirs.users"),
        ("a integer, CONSTRAINT c CHECK (database_to_xml(true, true, '') IS NOT NULL)", "database_to_xml"),
        ("a integer, CONSTRAINT c CHECK (nextval(('theirs.' || 'ids')::regclass) > 0)", "nextval"),
        ("a integer, CONSTRAINT c CHECK (domain_in('1'::cstring, 16384, -1) IS NOT NULL)", "domain_in"),
        ("a integer DEFAULT (nextval('theirs.ids'))", "theirs.ids"),
        ("a integer, CONSTRAINT c CHECK (theirs.note(a) > 0)", "theirs.note"),
        ("a integer, CONSTRAINT c CHECK ((OPERATOR(theirs.===) a) > 0)", "theirs.==="),
        ("a theirs.watched", "theirs.watched"),
        ("a integer, CONSTRAINT c CHECK (a::theirs.watched > 0)", "theirs.watched"),
        ("a integer, b bigint DEFAULT (nextval(('theirs.' || 'ids')::regclass))", "other columns than its files"),
    ],
)
def test_expressions_only_compute(restore: Callable[..., Restoration], column: str, problem: str) -> None:
    for dry_run in (True, False):
        with pytest.raises(RequestRejected) as refused:
            restore(f"CREATE TABLE t ({column});", dry_run=dry_run)
        assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("CREATE DOMAIN d AS integer CONSTRAINT c CHECK (pg_sleep(VALUE) IS NULL); CREATE TABLE t (a d);", "pg_sleep"),
        ("CREATE DOMAIN d AS text DEFAULT (pg_read_file('x')); CREATE TABLE t (a integer);", "pg_read_file"),
        (
            "CREATE TYPE r AS RANGE (SUBTYPE = integer, SUBTYPE_DIFF = theirs.apart); CREATE TABLE t (a integer);",
            "apart",
        ),
        ("CREATE TABLE t (a integer GENERATED ALWAYS AS (theirs.twice(1)) STORED);", "theirs.twice"),
    ],
)
def test_types_bring_no_functions_either(restore: Callable[..., Restoration], script: str, problem: str) -> None:
    with pytest.raises(RequestRejected, match=problem):
        restore(script)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (pg_sleep(a) IS NULL)", "pg_sleep"),
        ("CREATE INDEX i ON t USING btree (theirs.twice(a))", "theirs.twice"),
        ("CREATE INDEX i ON t USING btree (a) WHERE theirs.twice(a) > 0", "theirs.twice"),
        ("ALTER TABLE t ALTER COLUMN a SET DEFAULT (theirs.note(1))", "theirs.note"),
        ("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES theirs.users(id)", "theirs.users"),
    ],
)
def test_what_comes_after_the_rows_is_judged_before_them(
    restore: Callable[..., Restoration], statement: str, problem: str
) -> None:
    with pytest.raises(RequestRejected, match=problem):
        restore(constraints=f"{statement};")
    optional = {"table": "t", "what": "it", "extensions": [], "statement": statement}
    with pytest.raises(RequestRejected, match=problem):
        restore(optional=[optional])


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": [COLUMN | {"type": "integer); DROP TABLE theirs.users; --"}]},
        {"columns": [COLUMN | {"type": "integer", "array": True, "name": 'a"::json)::integer); --'}]},
        {"schema": "theirs", "name": "users"},
        {"name": "pg_authid"},
        {"columns": []},
    ],
)
def test_the_manifest_names_no_table_but_those_that_are_made(
    restore: Callable[..., Restoration], changed: dict[str, Any]
) -> None:
    with pytest.raises(RequestRejected):
        restore(tables=[TABLE | changed])


def test_a_table_named_like_a_system_catalog_does_not_stand_for_it(restore: Callable[..., Restoration]) -> None:
    column = {"name": "rolname", "type": "name"}
    with pytest.raises(RequestRejected, match="another table"):
        restore("CREATE TABLE pg_authid (rolname name);", tables=[TABLE | {"name": "pg_authid", "columns": [column]}])


def test_a_schema_with_functions_is_not_empty(
    restore: Callable[..., Restoration], target: psycopg.Connection[Any]
) -> None:
    target.execute("CREATE SCHEMA mine CREATE VIEW v AS SELECT 1; DROP VIEW mine.v")
    target.execute("CREATE FUNCTION mine.lower(integer) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$")
    with pytest.raises(RequestRejected, match="functions"):
        restore()


def test_somebody_answers_for_what_is_restored(tmp_path: Path) -> None:
    folder = str(package(tmp_path))
    refused = CliRunner().invoke(app, ["restore", folder, "--url", "postgresql://nobody@127.0.0.1:1/none"])
    assert (refused.exit_code, "--trust-unsigned" in refused.output) == (2, True)
    both = ["--trust-unsigned", "--keys", str(Path(folder) / "manifest.json")]
    assert CliRunner().invoke(app, ["restore", folder, "--url", "postgresql:///", *both]).exit_code == 2


def test_rows_that_differ_are_taken_back(restore: Callable[..., Restoration]) -> None:
    with pytest.raises(IntegrityViolation):
        restore(constraints="ALTER TABLE t ADD CONSTRAINT c CHECK (a > 1);")
