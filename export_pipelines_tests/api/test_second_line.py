"""The second line: whoever could run SQL of the API's, with the settings of a caller, still reaches no foreign row."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, InsufficientPrivilege, NotNullViolation
from psycopg.rows import dict_row

from export_pipelines.core.access import Role
from export_pipelines.stores.links import token_hash
from export_pipelines_tests.api.site import PEOPLE, PETS, Made, Person, Site
from export_pipelines_tests.workshop import TENANTS

SCHEMA = "export_control"
NOBODY = Person("", Role.MEMBER, None)
STRANGERS = {  # who own nothing, so that whatever they reach is somebody else's
    "colleague": Person("colleague", Role.MEMBER, PEOPLE["ann"].tenant),
    "outsider": Person("outsider", Role.MEMBER, TENANTS[2]),
    "namesake": Person("ann", Role.MEMBER, TENANTS[2]),
    "other admin": Person("other admin", Role.ADMIN, TENANTS[2]),
    "operator": Person("operator", Role.OPERATOR, None),
    "nobody": NOBODY,
}
# What belongs to nobody: rows that every caller may read, and that operators may.
FOR_ALL = {"signing_keys"}
FOR_OPERATORS = {"audit_log"}
# Never told to the API: what a thief of its database login would want.
SECRET = {
    "export_requests": {"sealed_secrets"},
    "export_links": {"token_sha256", "password_hash"},
    "export_schedules": {"sealed_password"},
    "signing_keys": {"sealed_private"},
    "api_keys": {"token_sha256", "hint", "tenant_id"},
    "rate_limits": {"subject", "tokens"},
    "audit_log": set(),
}


@contextmanager
def acting(site: Site, person: Person) -> Iterator[psycopg.Connection[dict[str, Any]]]:
    """The API's login in somebody's name, for one transaction that is rolled back."""
    with psycopg.connect(site.api_url, row_factory=dict_row) as connection:
        connection.execute("SET LOCAL ROLE export_api")
        reported = {"tenant": person.tenant or "", "user": person.name, "role": person.role if person.name else ""}
        for name, value in reported.items():
            connection.execute("SELECT set_config(%s, %s, true)", (f"{SCHEMA}.{name}", value))
        yield connection
        connection.rollback()


@cache
def tables(site_url: str) -> tuple[str, ...]:
    with psycopg.connect(site_url) as connection:
        found = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind IN ('r', 'p', 'v', 'm')",
            (SCHEMA,),
        )
        return tuple(sorted(name for (name,) in found))


def all_tables(site: Site) -> tuple[str, ...]:
    return tables(site.control._url)


@pytest.fixture
def made(site: Site) -> Made:
    """Ann's export with a row of hers in every table that has one of an export."""
    made = site.publish("ann")
    site.ask("ann", "GET", f"/api/v1/exports/jobs/{made.id}/download/0")
    with site.client("ann", **{"Idempotency-Key": secrets.token_hex(8)}) as client:
        assert client.post("/api/v1/exports/jobs", json=PETS).status_code == 202
    site.control.rows(
        """
        INSERT INTO export_control.export_deliveries (request_id, method, recipient)
        VALUES (%(id)s, 'email', 'ann@example.com')
        """,
        {"id": made.id},
    )
    schedule = site.save("schedule")
    site.control.rows(
        """
        INSERT INTO export_control.export_deliveries (schedule_id, kind, method, recipient, message)
        VALUES (%(id)s, 'schedule_paused', 'email', 'ann@example.com', jsonb_build_object('reason', %(mark)s::text))
        """,
        {"id": schedule.id, "mark": schedule.marks[0]},
    )
    site.control.rows(
        """
        INSERT INTO export_control.export_measures
            (request_id, table_name, tenant_id, catalog, format, compression, converted, selection, rows, volume_bytes,
             size_bytes, seconds, completed_at)
        VALUES (%(id)s, 'pets', %(tenant)s, 'clinic', 'csv', 'none', false, 'all', 1, 1, 1, 1, now())
        """,
        {"id": made.id, "tenant": PEOPLE["ann"].tenant},
    )
    return replace(made, marks=(*made.marks, schedule.id, *schedule.marks))


def refused(connection: psycopg.Connection[Any], query: Any, values: Any = None) -> bool:
    """Whether the database says no; the transaction goes on."""
    try:
        with connection.transaction():
            connection.execute(query, values)
    except InsufficientPrivilege:
        return True
    return False


def rows(connection: psycopg.Connection[dict[str, Any]], query: Any) -> list[dict[str, Any]]:
    """What a query finds; nothing where it may not ask."""
    try:
        with connection.transaction():
            return connection.execute(query).fetchall()
    except InsufficientPrivilege:
        return []


def readable(connection: psycopg.Connection[Any], table: str, right: str = "SELECT") -> list[str]:
    """Columns with that right."""
    found = connection.execute(
        """
        SELECT attname FROM pg_attribute
        WHERE attrelid = %(table)s::regclass AND attnum > 0 AND NOT attisdropped
          AND has_column_privilege('export_api', attrelid, attnum, %(right)s)
        """,
        {"table": f"{SCHEMA}.{table}", "right": right},
    )
    return [row["attname"] for row in found]


def visible_to(connection: psycopg.Connection[Any], table: str) -> str:
    """Every row and column that a caller may read of a table, as one text."""
    columns = readable(connection, table)
    if not columns:
        return ""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return json.dumps(rows(connection, sql.SQL("SELECT {} FROM {}").format(names, named(table))), default=str)


def named(table: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, table)


# Rows -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", sorted(STRANGERS))
def test_no_table_shows_a_foreign_row(site: Site, made: Made, who: str) -> None:
    person = STRANGERS[who]
    with acting(site, person) as connection:
        for table in all_tables(site):
            if table in FOR_ALL or (table in FOR_OPERATORS and person.role is Role.OPERATOR):
                continue
            reported = visible_to(connection, table)
            assert [mark for mark in (*made.marks, made.id, '"ann"') if mark in reported] == [], table


def test_the_owner_sees_what_the_others_do_not(site: Site, made: Made) -> None:
    """Otherwise the test above would prove nothing."""
    with acting(site, PEOPLE["ann"]) as connection:
        shown = {table for table in all_tables(site) if made.id in visible_to(connection, table)}
        assert made.marks[-1] in visible_to(connection, "export_deliveries")
    assert shown >= {"export_requests", "export_request_events", "export_files", "export_deliveries", "export_links"}


@pytest.mark.parametrize("who", sorted(STRANGERS))
def test_no_foreign_row_is_changed_or_removed(site: Site, made: Made, who: str) -> None:
    before = site.state()
    with acting(site, STRANGERS[who]) as connection:
        for table in all_tables(site):
            for column in readable(connection, table, "UPDATE"):
                name = sql.Identifier(column)
                update = sql.SQL("UPDATE {} SET {} = DEFAULT").format(named(table), name)
                with connection.transaction():
                    assert connection.execute(update).rowcount == 0, (table, column)
            for statement in ("DELETE FROM {}", "TRUNCATE {}"):
                query = sql.SQL(statement).format(named(table))
                with connection.transaction():
                    done = refused(connection, query) or connection.execute(query).rowcount == 0
                assert done, (table, statement)
        connection.commit()
    assert site.state() == before


INSERTS = {
    "export_requests": (
        "INSERT INTO {} (tenant_id, requested_by, requested_role, config) "
        "VALUES (%(tenant)s, 'ann', 'member', %(config)s)"
    ),
    "export_links": (
        "INSERT INTO {} (request_id, token_sha256, expires_at) VALUES (%(id)s, %(sum)s, now() + interval '1 day')"
    ),
    "export_schedules": (
        "INSERT INTO {} (tenant_id, owner, owner_role, name, config, cron, timezone, next_fire_at) "
        "VALUES (%(tenant)s, 'ann', 'member', 'nightly', %(config)s, '0 3 * * *', 'UTC', now())"
    ),
    "export_templates": (
        "INSERT INTO {} (tenant_id, owner, name, config) VALUES (%(tenant)s, 'ann', 'pets', %(config)s)"
    ),
    "export_batches": "INSERT INTO {} (tenant_id, export_type, total_tables) VALUES (%(tenant)s, 'full_backup', 1)",
    "api_replies": "INSERT INTO {} (tenant_id, user_id, key, fingerprint) VALUES (%(tenant)s, 'ann', %(sum)s, 'f')",
}


@pytest.mark.parametrize("who", sorted(STRANGERS))
def test_no_row_is_made_in_the_name_of_another(site: Site, made: Made, who: str) -> None:
    values = {
        "tenant": PEOPLE["ann"].tenant,
        "config": json.dumps(PETS),
        "id": made.id,
        "sum": token_hash(secrets.token_hex(8)),
    }
    with acting(site, STRANGERS[who]) as connection:
        for table in all_tables(site):
            if table not in INSERTS:
                assert readable(connection, table, "INSERT") == [], f"{table}: say in INSERTS what a stranger would try"
                continue
            assert refused(connection, sql.SQL(INSERTS[table]).format(named(table)), values), table


def test_the_owner_may_insert_what_the_others_may_not(site: Site, made: Made) -> None:
    values = {"tenant": PEOPLE["ann"].tenant, "config": json.dumps(PETS), "id": made.id, "sum": "0" * 64}
    for table, insert in INSERTS.items():
        with acting(site, PEOPLE["chief" if table == "export_batches" else "ann"]) as connection:
            assert not refused(connection, sql.SQL(insert).format(named(table)), values), table


@pytest.mark.parametrize("role", ["admin", "operator"])
def test_a_member_does_not_order_as_somebody_with_more_rights(site: Site, role: str) -> None:
    insert = sql.SQL(INSERTS["export_requests"].replace("'member'", f"'{role}'")).format(named("export_requests"))
    with acting(site, PEOPLE["ann"]) as connection, pytest.raises((InsufficientPrivilege, CheckViolation)):
        connection.execute(insert, {"tenant": PEOPLE["ann"].tenant, "config": json.dumps(PETS)})


@pytest.mark.parametrize("status", ["processing", "completed"])
def test_the_api_cannot_pretend_to_be_a_run(site: Site, status: str) -> None:
    waiting = site.queue("ann")
    update = "UPDATE export_control.export_requests SET status = %s, run_id = 'run' WHERE id = %s"
    with acting(site, PEOPLE["ann"]) as connection, pytest.raises((CheckViolation, InsufficientPrivilege)):
        connection.execute(update, (status, waiting))


# Columns, tables, logins ----------------------------------------------------------------------------------------------


def test_every_table_has_row_security(site: Site) -> None:
    bare = site.control.rows(
        """
        SELECT relname FROM pg_class
        WHERE relnamespace = 'export_control'::regnamespace AND relkind IN ('r', 'p') AND NOT relrowsecurity
        """
    )
    assert {row["relname"] for row in bare} == {"schema_version"}  # which the API has no right on


@pytest.mark.parametrize("table", sorted(SECRET))
def test_what_a_thief_would_want_is_not_told(site: Site, table: str) -> None:
    with acting(site, PEOPLE["chief"]) as connection:
        assert SECRET[table] & set(readable(connection, table)) == set()
        for column in SECRET[table]:
            query = sql.SQL("SELECT {} FROM {}").format(sql.Identifier(column), named(table))
            assert refused(connection, query), column


def test_the_audit_log_is_only_written_through_its_function(site: Site) -> None:
    with acting(site, PEOPLE["oscar"]) as connection:
        for statement in (
            "INSERT INTO export_control.audit_log (id) VALUES (1)",
            "UPDATE export_control.audit_log SET action = 'x'",
            "DELETE FROM export_control.audit_log",
            "TRUNCATE export_control.audit_log",
        ):
            assert refused(connection, statement), statement


ENTRY = (
    "SELECT export_control.audit(%(tenant)s, %(user)s, %(role)s, %(credential)s, %(action)s, 'export', %(target)s, "
    "'ok', NULL, NULL, NULL, '{}')"
)
ANNS = {"tenant": PEOPLE["ann"].tenant, "user": "ann", "role": "member", "credential": "key:1"}


@pytest.mark.parametrize(
    "forged",
    [
        {"role": "operator"},
        {"role": None},
        {"tenant": PEOPLE["rival"].tenant},
        {"tenant": None},
        {"user": "chief"},
        {"user": None},
        {"role": None, "tenant": None, "user": None, "credential": None},
        {"role": "service"},
    ],
)
def test_nobody_writes_the_audit_log_in_anothers_name(site: Site, forged: dict[str, Any]) -> None:
    entry = {**ANNS, "action": "export.delete", "target": None}
    with acting(site, PEOPLE["ann"]) as connection:
        assert refused(connection, ENTRY, entry | forged)
        assert not refused(connection, ENTRY, entry)


def test_without_a_caller_the_audit_log_takes_downloads_of_the_tenant_they_are_of(site: Site, made: Made) -> None:
    entry = {"user": None, "role": None, "credential": None, "tenant": PEOPLE["ann"].tenant, "target": made.id}
    with acting(site, NOBODY) as connection:
        assert not refused(connection, ENTRY, entry | {"action": "export.download"})
        assert refused(connection, ENTRY, entry | {"action": "export.delete"})
        assert refused(connection, ENTRY, entry | {"action": "export.download", "tenant": PEOPLE["rival"].tenant})
        assert refused(connection, ENTRY, entry | {"action": "export.download", "target": made.link_id})
        assert refused(connection, ENTRY, entry | {"action": "export.download", "user": "ann"})


@pytest.mark.parametrize("function", ["take_token", "tokens_left"])
@pytest.mark.parametrize("who", ["ann", "chief", "oscar"])
def test_a_caller_counts_against_no_limit_but_its_own(site: Site, function: str, who: str) -> None:
    person = PEOPLE[who]
    own = json.dumps(["exports", person.tenant, person.name])
    foreign = [
        json.dumps(["exports", PEOPLE["rival"].tenant, "rival"]),
        json.dumps(["exports", person.tenant, "somebody else"]),
        json.dumps(["anonymous failed logins", "10.0.0.1"]),
        json.dumps([*json.loads(own), "more"]),
    ]
    query = f"SELECT * FROM export_control.{function}(%s, 5, interval '1 minute')"
    with acting(site, person) as connection:
        assert not refused(connection, query, (own,))
        for subject in foreign:
            assert refused(connection, query, (subject,)), subject
    with acting(site, NOBODY) as connection:
        assert refused(connection, query, (own,))
        assert not refused(connection, query, (json.dumps(["anonymous failed logins", "10.0.0.1"]),))


@pytest.mark.parametrize("who", ["ann", "chief"])
@pytest.mark.parametrize(
    "change", ["owner_role = NULL", "owner_role = 'admin', owner = 'ann'", "owner = 'rival'", "owner = NULL"]
)
def test_a_schedule_is_given_to_nobody_else(site: Site, who: str, change: str) -> None:
    """One without a role would run as an operator's."""
    schedule = site.save("schedule")
    update = f"UPDATE export_control.export_schedules SET {change} WHERE id = %s"
    with acting(site, PEOPLE[who]) as connection, pytest.raises((InsufficientPrivilege, NotNullViolation)):
        connection.execute(update, (schedule.id,))


def test_a_conversion_is_told_to_whoever_sees_what_it_reads(site: Site) -> None:
    made = site.publish("ann")
    site.publisher.requests.insert(
        tenant_id=str(PEOPLE["ann"].tenant), config={"convert": made.id, "format": "json"}, requested_by="ann"
    )
    for person, answer in ((PEOPLE["ann"], True), (PEOPLE["rival"], False), (NOBODY, False)):
        with acting(site, person) as connection:
            (row,) = connection.execute("SELECT export_control.is_being_read(%s) AS told", (made.id,)).fetchall()
        assert row["told"] is answer, person


@pytest.mark.parametrize("statement", ["RESET ROLE", "SET ROLE NONE"])
def test_the_login_itself_may_nothing(site: Site, made: Made, statement: str) -> None:
    with acting(site, PEOPLE["ann"]) as connection:
        connection.execute(statement)
        for table in all_tables(site):
            assert refused(connection, sql.SQL("SELECT 1 FROM {}").format(named(table))), table
        assert refused(connection, "SELECT export_control.find_link('x')")


@pytest.mark.parametrize("role", ["postgres", "export_reader", "pg_read_all_data", "pg_read_server_files"])
def test_the_login_becomes_nobody_else(site: Site, role: str) -> None:
    with acting(site, PEOPLE["ann"]) as connection:
        assert refused(connection, sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        assert refused(connection, sql.SQL("SET SESSION AUTHORIZATION {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    "statement",
    [
        "SET LOCAL row_security = off",  # then a query that a policy would narrow fails
        "SET LOCAL session_replication_role = replica",  # would switch triggers off
        "ALTER TABLE export_control.export_requests DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE export_control.export_requests DISABLE TRIGGER ALL",
        "CREATE TABLE export_control.mine ()",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "COPY export_control.export_requests (id) TO '/tmp/out'",
        "COPY export_control.export_requests (id) TO PROGRAM 'cat'",
    ],
)
def test_the_rules_cannot_be_switched_off(site: Site, statement: str) -> None:
    with acting(site, PEOPLE["rival"]) as connection:
        if statement.startswith("SET LOCAL row_security"):
            connection.execute(statement)
            statement = "SELECT id FROM export_control.export_requests"
        assert refused(connection, statement)


# Functions with their owner's rights ----------------------------------------------------------------------------------


def test_the_api_pauses_no_schedule_as_the_service_does(site: Site) -> None:
    schedule = site.save("schedule")
    for person in (PEOPLE["ann"], *STRANGERS.values()):
        with acting(site, person) as connection:
            pause = "SELECT export_control.pause_schedule(%s, 'because', '{}')"
            assert refused(connection, pause, (schedule.id,)), person


def test_functions_with_their_owners_rights_are_closed_and_have_a_fixed_path(site: Site) -> None:
    found = site.control.rows(
        """
        SELECT proname, proconfig, has_function_privilege('public', oid, 'EXECUTE') AS by_all FROM pg_proc
        WHERE pronamespace = 'export_control'::regnamespace AND prosecdef
        """
    )
    assert found
    for row in found:
        assert row["proconfig"] == ["search_path=pg_catalog, pg_temp"], row["proname"]
        assert not row["by_all"], row["proname"]


def test_a_table_of_ones_own_does_not_stand_in_for_the_services(site: Site) -> None:
    """A key that is only in a temporary table of the same name opens nothing."""
    with acting(site, NOBODY) as connection:
        connection.execute(
            "CREATE TEMP TABLE api_keys (id uuid, role text, tenant_id text, user_id text, "
            "token_sha256 text, revoked_at timestamptz, expires_at timestamptz, last_used_at timestamptz)"
        )
        connection.execute("INSERT INTO api_keys VALUES (gen_random_uuid(), 'operator', NULL, 'x', 'mine')")
        connection.execute("SET LOCAL search_path = pg_temp, public")
        assert connection.execute("SELECT * FROM export_control.authenticate('mine')").fetchall() == []


def test_the_uses_of_a_foreign_link_are_not_used_up_by_its_id(site: Site) -> None:
    """Ids of links are listed and logged; only its token opens a link, so only the token may use it."""
    made = site.publish("ann", max_uses=1)
    with acting(site, NOBODY) as connection:
        for reported in (made.link_id, made.id):
            with connection.transaction():
                (row,) = connection.execute("SELECT export_control.use_link(%s::text) AS used", (reported,)).fetchall()
            assert row["used"] is False
        connection.commit()
    assert site.ask(None, "GET", f"/d/{made.token}/{made.marks[0]}.csv").status_code == 200


def test_a_use_is_refused_once_the_link_was_revoked(site: Site) -> None:
    made = site.publish("ann")
    site.publisher.links.revoke(made.id, made.link_id)
    assert site.publisher.links.use(made.token) is False


@pytest.mark.parametrize("who", ["outsider", "other admin", "nobody"])
def test_figures_of_a_foreign_tenant_are_not_told_for_the_asking(site: Site, made: Made, who: str) -> None:
    tenant = PEOPLE["ann"].tenant
    with acting(site, STRANGERS[who]) as connection:
        for query in (
            "SELECT * FROM export_control.queue_now(%(t)s)",
            "SELECT * FROM export_control.past_ratios(%(t)s, 'clinic', ARRAY['pets'], ARRAY['all'])",
            "SELECT * FROM export_control.metric_totals() WHERE %(t)s <> ''",
        ):
            assert connection.execute(query, {"t": tenant}).fetchall() == [], query
        measured = "SELECT * FROM export_control.past_measures(%(t)s, 'clinic', ARRAY['pets'], 'csv', 'none', false)"
        assert [row for row in connection.execute(measured, {"t": tenant}) if row["basis"] == "tenant"] == []
