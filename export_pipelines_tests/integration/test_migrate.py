"""The control database's schema: from nothing, again, from two processes at once, and without the rights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest
from alembic import command
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.control_schema import DAGSTER_SCHEMA, SCHEMA, head
from export_pipelines.stores.migrate import migrate
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.upgrade import _address, _config

TABLES = {
    "export_requests", "export_request_events", "export_files", "export_deliveries", "export_links",
    "export_schedules", "export_templates", "export_batches",
    "api_replies", "api_keys", "rate_limits", "audit_log", "signing_keys", "export_measures", "metric_counters",
    "metric_histograms", "schema_version", "service_state",
}  # fmt: skip


# Every part of the schema as a line of text, whatever order the parts and a table's columns were made in.
DESCRIBED = """
SELECT format('column %s.%s %s%s default %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' not null' END, pg_get_expr(d.adbin, d.adrelid),
              a.attgenerated::text || a.attidentity::text, a.attacl::text)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
WHERE c.relnamespace = 'export_control'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('%s %s %s %s row security %s %s rights %s', relkind, relname, relpersistence, reloptions, relrowsecurity,
              relforcerowsecurity, relacl::text)
FROM pg_class WHERE relnamespace = 'export_control'::regnamespace AND relkind IN ('r', 'S')
UNION ALL
SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE connamespace = 'export_control'::regnamespace
UNION ALL
SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relnamespace = 'export_control'::regnamespace
UNION ALL
SELECT format('%s rights %s', pg_get_functiondef(oid), proacl::text)
FROM pg_proc WHERE pronamespace = 'export_control'::regnamespace
UNION ALL
SELECT pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
WHERE c.relnamespace = 'export_control'::regnamespace AND NOT tgisinternal
UNION ALL
SELECT format('policy %s %s %s %s %s %s', tablename, policyname, cmd, roles, qual, with_check)
FROM pg_policies WHERE schemaname = 'export_control'
UNION ALL
SELECT format('type %s %s', typname, enum_range_of.labels) FROM pg_type t, LATERAL (
    SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) AS labels FROM pg_enum WHERE enumtypid = t.oid
) AS enum_range_of WHERE typnamespace = 'export_control'::regnamespace AND typtype = 'e'
UNION ALL
SELECT format('schema %s', nspacl::text) FROM pg_namespace WHERE nspname = 'export_control'
"""


def described(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return sorted(line for (line,) in connection.execute(DESCRIBED))


def tables_of(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [SCHEMA]).fetchall()
    return {row[0] for row in rows}


@pytest.fixture
def login(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> Callable[..., str]:
    """``login(name)`` makes a database and a role without rights in it; that role's URL."""

    def make(name: str, *statements: str) -> str:
        url = database(name)
        role = url.rsplit("/", 1)[1]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(role)))
            for statement in statements:
                connection.execute(sql.SQL(statement).format(role=sql.Identifier(role)))
        return postgres.url(role, user=role, password="secret")

    return make


def test_an_empty_database_is_brought_to_the_newest_schema(database: Callable[[str], str]) -> None:
    url = database("empty")
    assert migrate(url) == (None, head())
    assert tables_of(url) == TABLES


def test_migrating_again_changes_nothing(database: Callable[[str], str]) -> None:
    url = database("twice")
    migrate(url)
    with closing(ControlDatabase(url)) as control:
        request_id = RequestStore(control).insert(tenant_id="t", config={"format": "csv", "tables": ["pets"]})
        assert migrate(url) == (head(), head())
        assert RequestStore(control).get(request_id).tenant_id == "t"


def test_the_steps_lead_to_the_schema_that_the_files_say(database: Callable[[str], str]) -> None:
    """A new database is made of `stores/schema`, an old one goes through every step: both must end the same."""
    new, old = database("made"), database("stepped")
    migrate(new)
    with create_engine(_address(old), poolclass=NullPool).begin() as connection:
        for name in (SCHEMA, DAGSTER_SCHEMA):
            connection.execute(text(f"CREATE SCHEMA {name}"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    assert described(old) == described(new)
    assert migrate(old) == (head(), head())


def test_two_processes_may_migrate_at_once(database: Callable[[str], str]) -> None:
    url = database("race")
    program = "import sys; from export_pipelines.stores.migrate import migrate; print(migrate(sys.argv[1])[0])"
    racers = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = sorted(racer.communicate(timeout=120)[0].strip() for racer in racers)
    assert [racer.returncode for racer in racers] == [0, 0]
    assert said == [head(), "None"]  # one applied all steps, the other found them done
    assert tables_of(url) == TABLES


def test_a_role_that_may_not_create_schemas_is_told_what_to_do(login: Callable[..., str]) -> None:
    with pytest.raises(RequestRejected, match=r"CREATE SCHEMA export_control AUTHORIZATION") as refused:
        migrate(login("poor"))
    assert refused.value.field == "EXPORT_CONTROL_URL"


def test_a_role_that_owns_both_schemas_needs_no_other_right(
    login: Callable[..., str], database: Callable[[str], str]
) -> None:
    migrate(database("first"))  # by an administrator: now the server has the API's role
    url = login("owner", *(f"CREATE SCHEMA {name} AUTHORIZATION {{role}}" for name in (SCHEMA, DAGSTER_SCHEMA)))
    assert migrate(url) == (None, head())


def test_a_step_that_is_refused_leaves_nothing_behind(login: Callable[..., str]) -> None:
    """The schema is there and may be used, but not filled: the driver's own error, not SQLAlchemy's, says so."""
    url = login("halfway", f"CREATE SCHEMA {SCHEMA}", f"GRANT USAGE ON SCHEMA {SCHEMA} TO {{role}}")
    with pytest.raises(RequestRejected, match="permission denied"):
        migrate(url)
    assert tables_of(url) == set()


def test_a_schema_of_a_newer_program_is_refused(database: Callable[[str], str]) -> None:
    url = database("newer")
    migrate(url)
    with psycopg.connect(url) as connection:
        connection.execute(sql.SQL("UPDATE {}.schema_version SET version_num = '9999'").format(sql.Identifier(SCHEMA)))
    with pytest.raises(RequestRejected, match="9999"):
        migrate(url)


def test_a_server_that_is_down_is_unavailable_and_the_password_stays_secret() -> None:
    with pytest.raises(Unavailable) as failure:
        migrate("postgresql://user:hunter2@127.0.0.1:1/control")
    assert "hunter2" not in str(failure.value)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(RequestRejected, match="EXPORT_CONTROL_URL"):
        migrate("not a url")


def test_requests_say_to_migrate_when_the_schema_is_missing(database: Callable[[str], str]) -> None:
    with (
        closing(ControlDatabase(database("bare"))) as control,
        pytest.raises(Unavailable, match="export-pipelines migrate"),
    ):
        RequestStore(control).list()
