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
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.migrate import DAGSTER_SCHEMA, SCHEMA, head, migrate
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.upgrade import _address, _config

TABLES = {
    "export_requests", "export_request_events", "export_files", "export_deliveries", "export_links",
    "export_schedules", "export_templates", "export_batches",
    "api_replies", "api_keys", "rate_limits", "audit_log", "signing_keys", "export_measures", "metric_counters",
    "metric_histograms", "schema_version", "service_state",
}  # fmt: skip


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


def test_a_notice_that_waits_meanwhile_is_carried_over(database: Callable[[str], str]) -> None:
    url = database("waiting")
    with create_engine(_address(url), poolclass=NullPool).begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0015")
    with psycopg.connect(url) as connection:
        connection.execute(
            """
            WITH made AS (
                INSERT INTO export_control.export_schedules
                    (tenant_id, owner, name, config, cron, timezone, next_fire_at)
                VALUES ('t', 'ann@example.com', 'Pets', '{}', '0 3 * * *', 'UTC', now()) RETURNING id
            ), asked AS (
                INSERT INTO export_control.export_requests (tenant_id, config, schedule_id)
                SELECT 't', '{"tables": ["pets"], "format": "csv"}', id FROM made RETURNING id
            )
            INSERT INTO export_control.export_deliveries (request_id, method, recipient, message)
            SELECT id, 'notice', 'ann@example.com', '{"schedule": "Pets", "failures": 3, "error": "gone"}'::jsonb
            FROM asked
            UNION ALL
            SELECT id, 'email', 'ben@example.com', '{}' FROM asked
            """
        )
    assert migrate(url) == ("0015", head())
    with closing(ControlDatabase(url)) as control:
        due = [DeliveryStore(control).take_due() for _ in range(2)]
        found = {one.method: (one.tenant_id, one.request_id is None, one.message) for one in due if one}
    told = {"schedule": "Pets", "reason": "3 exports in a row failed; the last one: gone"}
    assert found == {"notice": ("t", True, told), "email": ("t", False, {})}


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
