"""Schedules and templates through the API, in the whole application on a real control database."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Caller, Role
from export_pipelines.settings import Settings
from export_pipelines_tests.control_database import emptied
from export_pipelines_tests.workshop import TENANTS, ClinicSource

CALLERS = {
    "ann": Caller(role=Role.MEMBER, tenant_id=TENANTS[0], user_id="ann", credential="key"),
    "bob": Caller(role=Role.MEMBER, tenant_id=TENANTS[0], user_id="bob", credential="key"),
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
    "stranger": Caller(role=Role.ADMIN, tenant_id=TENANTS[1], user_id="eve", credential="key"),
    "operator": Caller(role=Role.OPERATOR, credential="key"),
}
SCHEDULES, TEMPLATES, JOBS = (f"/api/v1/exports/{what}" for what in ("schedules", "templates", "jobs"))
PETS: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
DAILY: dict[str, Any] = {"name": "Pets", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "config": PETS}
PASSWORD = "correct horse battery"
BACKUP = {"export_type": "full_backup", "format": "parquet"}
SEALED = {"method": "AES256", "password": {"sealed": True}}
Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def app(
    clinic: ClinicSource, migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    url = migrated_database("api_schedules")
    home: Path = tmp_path_factory.mktemp("home")
    settings = Settings(EXPORT_SOURCE_URL=clinic.url, EXPORT_CONTROL_URL=url, EXPORT_HOME=home, EXPORT_RATE_LIMIT="off")
    made = create_app(settings)
    services = made.state.services.having(authenticate=lambda name, _ip: CALLERS[str(name)])
    made.state.services = services
    services.pool.open()
    yield made
    services.close()


@pytest.fixture
def control(app: FastAPI) -> str:
    return emptied(app.state.services.settings.require_control_url())


@pytest.fixture
def ask(app: FastAPI, control: str) -> Ask:
    """``ask(who, method, path, status, body)``: the answer's JSON."""

    def send(who: str, method: str, path: str, status: int = 200, body: Any = None, **headers: str) -> Any:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, json=body, headers={"Authorization": who, **headers})

        answer = asyncio.run(sent())
        assert answer.status_code == status, answer.text
        return answer.json()

    return send


def query(url: str, statement: str, **values: Any) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else None


def test_a_schedule_tells_its_next_five_fires(ask: Ask) -> None:
    made = ask("admin", "POST", SCHEDULES, 201, {**DAILY, "window": "previous_day", "keep_days": 30})
    fires = [dt.datetime.fromisoformat(fire) for fire in made["next_runs"]]
    assert len(fires) == 5
    assert made["next_run"] == made["next_runs"][0]
    assert dt.datetime.now(dt.UTC) < fires[0]
    assert all(fire.minute == 30 for fire in fires)
    assert (made["owner"], made["owner_role"], made["state"]) == ("admin", "admin", "active")
    assert (made["window"], made["last_run"], made["late"]) == ({"type": "previous_day"}, None, False)
    assert ask("admin", "GET", f"{SCHEDULES}/{made['id']}") == made
    assert ask("admin", "GET", SCHEDULES)["schedules"] == [made]


def test_words_of_people_are_kept_as_cron(ask: Ask) -> None:
    order = {"name": "Weekly", "frequency": "weekly", "day": "friday", "time": "18:05", "config": PETS}
    made = ask("admin", "POST", SCHEDULES, 201, order)
    assert (made["cron"], made["timezone"]) == ("5 18 * * 5", "UTC")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "0 0 0 * * *"}, "cron"),
        ({"cron": "@reboot"}, "cron"),
        ({"cron": "*/10 * * * *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"config": {"tables": ["unicorns"], "format": "csv"}}, "tables"),
        ({"config": {"tables": ["pets"], "format": "doc"}}, "format"),
        ({"window": {"type": "fixed", "start": "2026-02-01", "end": "2026-01-01"}}, "window.end"),
        ({"window": {"type": "fixed", "start": "2026-01-01", "end": ""}}, "window.end"),
        ({"window": {"type": "fixed", "start": "", "end": ""}}, "window.start"),
        ({"window": {"type": "since_last_success", "start": "2999-01-01"}}, "window.start"),
        ({"window": "previous_fortnight"}, "window.type"),
        (
            {
                "window": {"type": "previous_day", "whole_tables": "refuse"},
                "config": {"tables": ["pets", "products"], "format": "csv"},
            },
            "window",
        ),
        ({"window": "previous_day", "config": {"data_sources": [{"type": "products"}], "format": "csv"}}, "window"),
        ({"window": {"type": "none", "whole_tables": ["invoices"]}}, "window.whole_tables"),
        (
            {"window": "previous_day", "config": {**PETS, "filters": {"date_range": {"start": "2026-01-01"}}}},
            "config.filters.date_range",
        ),
        ({"window": "previous_day", "config": {"export_type": "audit", "format": "csv"}}, "window"),
        ({"window": "previous_day", "config": {"export_type": "migration", "format": "csv"}}, "window"),
        ({"config": {**BACKUP, "point_in_time": "2026-01-01T00:00:00Z"}}, "point_in_time"),
        ({"config": {**PETS, "encryption": SEALED}}, "encryption.password"),
        ({"config": None}, "body"),
        ({"jitter_seconds": 100_000}, "jitter_seconds"),
        ({"name": ""}, "name"),
        ({"name": " "}, "name"),
        ({"name": "a\0"}, "name"),
        ({"every": "day"}, "every"),
    ],
)
def test_what_could_not_run_is_refused_when_it_is_saved(ask: Ask, change: dict[str, Any], field: str) -> None:
    refused = ask("admin", "POST", SCHEDULES, 422, {**DAILY, **change})
    assert refused["field"] == field, refused
    assert ask("admin", "GET", SCHEDULES)["schedules"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 7}, "window: must be a word such as previous_day or last_7_days, or an object with a type"),
        ({"window": {"type": "previous_day", "whole_tables": "pets"}}, "window.whole_tables: must be include, "),
        ({"config": "pets"}, "config: must be an object with named fields"),
        ({"config": {**BACKUP, "point_in_time": "2026-01-01"}}, "config.point_in_time: is not an instant with"),
        ({"config": None, "template_id": "pets"}, "template_id: is not an id such as"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_words_of_the_api(ask: Ask, change: dict[str, Any], said: str) -> None:
    assert ask("admin", "POST", SCHEDULES, 422, {**DAILY, **change})["detail"].startswith(said)


def test_tables_without_a_time_go_whole_when_the_schedule_says_so(ask: Ask) -> None:
    window = {"type": "previous_day", "whole_tables": ["products"]}
    order = {**DAILY, "window": window, "config": {"tables": ["pets", "products"], "format": "csv"}}
    made = ask("admin", "POST", SCHEDULES, 201, order)
    run = ask("admin", "POST", f"{SCHEDULES}/{made['id']}/run", 202)
    windows = {selection["table"]: selection["end"] for selection in run["resolved"]["tables"]}
    assert run["resolved"]["whole_tables"] == ["products"]
    assert windows["pets"] is not None
    assert windows["products"] is None


def test_members_have_their_own_schedules_of_their_tables_and_admins_take_over(ask: Ask) -> None:
    mine = ask("ann", "POST", SCHEDULES, 201, DAILY)
    path = f"{SCHEDULES}/{mine['id']}"
    for who in ("bob", "stranger"):
        assert ask(who, "GET", SCHEDULES)["schedules"] == []
        for method, end, body in [
            ("GET", "", None),
            ("PUT", "", DAILY),
            ("DELETE", "", None),
            ("POST", "/run", None),
            ("POST", "/pause", None),
            ("POST", "/resume", None),
        ]:
            ask(who, method, path + end, 404, body)
    ask("operator", "GET", SCHEDULES, 403)
    taken = ask("admin", "PUT", path, 200, {**DAILY, "name": "Ours"})
    assert (taken["owner"], taken["owner_role"], taken["version"]) == ("admin", "admin", 2)
    ask("ann", "GET", path, 404)


def test_a_member_schedules_no_table_of_admins(app: FastAPI, ask: Ask) -> None:
    catalog = app.state.services.catalog
    closed = next((name for name, table in catalog.tables.items() if "member" not in table.roles), None)
    if closed is None:
        pytest.skip("the sample has no such table")
    order = {**DAILY, "config": {"tables": [closed], "format": "csv"}}
    ask("ann", "POST", SCHEDULES, 403, order)
    ask("admin", "POST", SCHEDULES, 201, order)


def test_a_change_of_an_old_version_is_refused(ask: Ask) -> None:
    made = ask("admin", "POST", SCHEDULES, 201, DAILY)
    path = f"{SCHEDULES}/{made['id']}"
    changed = ask("admin", "PUT", path, 200, {**DAILY, "cron": "0 4 * * *", "version": 1})
    assert changed["next_run"] != made["next_run"]
    assert "version 2" in ask("admin", "PUT", path, 409, {**DAILY, "version": 1})["detail"]


def test_a_schedule_whose_timezone_is_gone_is_listed_and_mended(ask: Ask, control: str) -> None:
    path = f"{SCHEDULES}/{ask('admin', 'POST', SCHEDULES, 201, DAILY)['id']}"
    query(
        control,
        "UPDATE export_control.export_schedules SET timezone = 'Mars/Olympus', data_window = %(window)s::jsonb",
        window='{"type": "previous_decade"}',
    )
    (listed,) = ask("admin", "GET", SCHEDULES)["schedules"]
    assert (listed["timezone"], listed["next_runs"]) == ("Mars/Olympus", [])
    assert ask("admin", "POST", f"{path}/run", 422)["field"] == "window.type"
    assert len(ask("admin", "PUT", path, 200, DAILY)["next_runs"]) == 5


def test_pause_and_resume(ask: Ask, control: str) -> None:
    made = ask("admin", "POST", SCHEDULES, 201, DAILY)
    path = f"{SCHEDULES}/{made['id']}"
    paused = ask("admin", "POST", f"{path}/pause")
    assert (paused["state"], paused["paused_reason"]) == ("paused", "paused by admin")
    assert (paused["next_run"], paused["next_runs"]) == (None, [])
    ask("admin", "POST", f"{path}/pause", 409)
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    query(control, "UPDATE export_control.export_schedules SET next_fire_at = %(at)s", at=long_ago)
    caught_up = ask("admin", "POST", f"{path}/resume", 200, {"catch_up": True})
    assert dt.datetime.fromisoformat(caught_up["next_run"]) < dt.datetime.now(dt.UTC)
    assert caught_up["late"]
    ask("admin", "POST", f"{path}/resume", 409)
    ask("admin", "POST", f"{path}/pause")
    resumed = ask("admin", "POST", f"{path}/resume")
    assert resumed["next_run"] == made["next_run"]
    assert not resumed["late"]


def test_run_now_makes_one_export_and_uses_up_no_fire(ask: Ask, control: str) -> None:
    made = ask("ann", "POST", SCHEDULES, 201, {**DAILY, "window": "last_7_days"})
    path = f"{SCHEDULES}/{made['id']}"
    first, again = (ask("ann", "POST", f"{path}/run", 202, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first["job_id"] == again["job_id"]
    job = ask("ann", "GET", f"{JOBS}/{first['job_id']}")
    assert (job["schedule_id"], job["scheduled_for"], job["requested_by"]) == (made["id"], None, "ann")
    after = ask("ann", "GET", path)
    assert (after["last_run"]["job_id"], after["last_status"]) == (first["job_id"], "queued")
    assert after["next_runs"] == made["next_runs"]
    listed = ask("ann", "GET", f"{JOBS}?schedule={made['id']}")["jobs"]
    assert [job["job_id"] for job in listed] == [first["job_id"]]
    assert ask("ann", "GET", f"{JOBS}?schedule={first['job_id']}")["jobs"] == []


def test_a_password_is_kept_sealed_and_goes_with_the_schedule(ask: Ask, control: str) -> None:
    config = {**PETS, "encryption": {"method": "AES256", "password": PASSWORD}}
    made = ask("admin", "POST", SCHEDULES, 201, {**DAILY, "config": config})
    path = f"{SCHEDULES}/{made['id']}"
    assert made["config"]["encryption"]["password"] == {"sealed": True}
    kept = ask("admin", "PUT", path, 200, {**DAILY, "config": {**PETS, "encryption": SEALED}})
    assert kept["config"]["encryption"] == SEALED
    ask("admin", "POST", f"{path}/run", 202)
    everything = query(
        control, "SELECT s::text, r::text FROM export_control.export_schedules s, export_control.export_requests r"
    )
    assert PASSWORD not in str(everything)
    ask("admin", "DELETE", path)
    ask("admin", "GET", path, 404)
    assert query(control, "SELECT sealed_password FROM export_control.export_schedules") == [(None,)]


def test_the_preset_is_an_encrypted_export_of_every_table_each_day(app: FastAPI, ask: Ask) -> None:
    order = {"name": "Backup", "preset": "private_backup", "encryption": {"method": "AES256", "password": PASSWORD}}
    made = ask("admin", "POST", SCHEDULES, 201, order)
    assert made["cron"] == "0 0 * * *"
    assert made["config"]["encryption"]["password"] == {"sealed": True}
    assert set(made["config"]["tables"]) == set(app.state.services.catalog.tables)
    assert ask("admin", "POST", SCHEDULES, 422, {"name": "B", "preset": "private_backup"})["field"] == "encryption"


def test_the_audit_log_names_the_schedule(ask: Ask, control: str) -> None:
    made = ask("admin", "POST", SCHEDULES, 201, DAILY)
    ask("admin", "POST", f"{SCHEDULES}/{made['id']}/pause")
    ask("stranger", "DELETE", f"{SCHEDULES}/{made['id']}", 404)
    entries = query(
        control, "SELECT action, user_id, target_type, target_id, outcome FROM export_control.audit_log ORDER BY id"
    )
    assert entries == [
        ("schedule.create", "admin", "schedule", made["id"], "ok"),
        ("schedule.pause", "admin", "schedule", made["id"], "ok"),
        ("schedule.delete", "eve", "schedule", made["id"], "refused"),
    ]


def test_lists_come_in_pages(ask: Ask) -> None:
    made = [ask("admin", "POST", SCHEDULES, 201, {**DAILY, "name": f"{n}"})["id"] for n in range(3)]
    first = ask("admin", "GET", f"{SCHEDULES}?limit=2")
    rest = ask("admin", "GET", f"{SCHEDULES}?limit=2&cursor={first['next_cursor']}")
    assert [one["id"] for one in first["schedules"] + rest["schedules"]] == made[::-1]
    assert rest["next_cursor"] is None


# Templates --------------------------------------------------------------------------------------------------------


def test_a_template_is_saved_with_its_estimate_listed_and_run(ask: Ask) -> None:
    made = ask("ann", "POST", TEMPLATES, 201, {"name": "All pets", "config": PETS})
    path = f"{TEMPLATES}/{made['id']}"
    assert made["estimated_rows"] > 0
    assert made["estimated_size_mb"] > 0
    assert (made["times_used"], made["last_used"], made["problem"]) == (0, None, None)
    job = ask("ann", "POST", f"{path}/run", 202)
    used = ask("ann", "GET", path)
    assert used["times_used"] == 1
    assert used["last_used"] is not None
    assert ask("ann", "GET", f"{JOBS}/{job['job_id']}")["name"] == "All pets"
    changed = ask("ann", "PUT", path, 200, {"name": "Pets", "config": {**PETS, "format": "json"}, "version": 1})
    assert (changed["version"], changed["config"]["format"]) == (2, "json")
    ask("ann", "PUT", path, 409, {"name": "Pets", "config": PETS, "version": 1})
    ask("ann", "DELETE", path)
    assert ask("ann", "GET", TEMPLATES)["templates"] == []


def test_a_private_template_is_its_owners_and_a_shared_one_everybodys_of_the_tenant(ask: Ask) -> None:
    private = ask("ann", "POST", TEMPLATES, 201, {"name": "Mine", "config": PETS})
    ask("ann", "POST", TEMPLATES, 403, {"name": "Ours", "config": PETS, "shared": True})
    shared = ask("admin", "POST", TEMPLATES, 201, {"name": "Ours", "config": PETS, "shared": True})

    def names(who: str) -> set[str]:
        return {template["name"] for template in ask(who, "GET", TEMPLATES)["templates"]}

    assert {who: names(who) for who in ("ann", "bob", "admin", "stranger")} == {
        "ann": {"Mine", "Ours"},
        "bob": {"Ours"},
        "admin": {"Mine", "Ours"},
        "stranger": set(),
    }
    ask("bob", "POST", f"{TEMPLATES}/{shared['id']}/run", 202)
    assert ask("bob", "GET", f"{TEMPLATES}/{shared['id']}")["times_used"] == 1
    ask("bob", "DELETE", f"{TEMPLATES}/{shared['id']}", 409)
    ask("bob", "PUT", f"{TEMPLATES}/{shared['id']}", 409, {"name": "Taken", "config": PETS})
    for method, end, body in [("GET", "", None), ("DELETE", "", None), ("POST", "/run", None)]:
        ask("bob", method, f"{TEMPLATES}/{private['id']}{end}", 404, body)
        ask("stranger", method, f"{TEMPLATES}/{shared['id']}{end}", 404, body)
    ask("stranger", "PUT", f"{TEMPLATES}/{shared['id']}", 404, {"name": "x", "config": PETS})


def test_a_template_whose_table_left_the_catalog_is_listed_with_the_problem_and_not_run(ask: Ask, control: str) -> None:
    made = ask("ann", "POST", TEMPLATES, 201, {"name": "Old", "config": PETS})
    query(control, """UPDATE export_control.export_templates SET config = '{"tables": ["gone"], "format": "csv"}'""")
    (listed,) = ask("ann", "GET", TEMPLATES)["templates"]
    assert "gone" in listed["problem"]
    ask("ann", "POST", f"{TEMPLATES}/{made['id']}/run", 422)
    assert ask("ann", "GET", f"{TEMPLATES}/{made['id']}")["times_used"] == 0
    assert ask("ann", "GET", JOBS)["jobs"] == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\0"}, "name"),
        ({"description": "a\0"}, "description"),
        ({"shared": "perhaps"}, "shared"),
        ({"config": {"tables": ["unicorns"], "format": "csv"}}, "tables"),
    ],
)
def test_a_template_that_cannot_be_kept_or_run_is_refused_by_field(
    ask: Ask, change: dict[str, Any], field: str
) -> None:
    assert ask("ann", "POST", TEMPLATES, 422, {"name": "Pets", "config": PETS, **change})["field"] == field
    assert ask("ann", "GET", TEMPLATES)["templates"] == []


def test_a_template_keeps_no_password(ask: Ask, control: str) -> None:
    encryption = {"method": "AES256", "password": PASSWORD}
    refused = ask("ann", "POST", TEMPLATES, 422, {"name": "T", "config": {**PETS, "encryption": encryption}})
    assert refused["field"] == "password"
    config = {**PETS, "encryption": {"method": "AES256"}}
    made = ask("ann", "POST", TEMPLATES, 201, {"name": "T", "config": config})
    path = f"{TEMPLATES}/{made['id']}/run"
    assert ask("ann", "POST", path, 422)["field"] == "password"
    job = ask("ann", "POST", path, 202, {"password": PASSWORD})
    assert ask("ann", "GET", f"{JOBS}/{job['job_id']}")["config"]["encryption"] == SEALED
    assert PASSWORD not in str(query(control, "SELECT t::text FROM export_control.export_templates t"))


def test_a_schedule_is_made_from_a_template(ask: Ask) -> None:
    config = {**PETS, "encryption": {"method": "AES256"}}
    made = ask("ann", "POST", TEMPLATES, 201, {"name": "T", "config": config})
    order = {"name": "Daily T", "frequency": "daily", "template_id": made["id"]}
    assert ask("ann", "POST", SCHEDULES, 422, order)["field"] == "encryption.password"
    scheduled = ask("ann", "POST", SCHEDULES, 201, {**order, "encryption": {"method": "AES256", "password": PASSWORD}})
    assert (scheduled["config"]["tables"], scheduled["config"]["encryption"]) == (["pets"], SEALED)
    ask("bob", "POST", SCHEDULES, 404, order)


# How many a tenant may have ---------------------------------------------------------------------------------------

MOST = {SCHEDULES: 500, TEMPLATES: 1000}
MOST_OF_A_USER = {SCHEDULES: 200, TEMPLATES: 400}
INSERTS = {
    SCHEDULES: """
        INSERT INTO export_control.export_schedules
            (tenant_id, owner, owner_role, name, config, cron, timezone, next_fire_at)
        SELECT %(tenant)s, %(owner)s || repeat('+', (n - 1) / 199), 'member', 'S', '{}', '0 3 * * *', 'UTC',
               '2999-01-01'
        FROM generate_series(1, %(count)s) AS n
    """,
    TEMPLATES: """
        INSERT INTO export_control.export_templates (tenant_id, owner, name, config)
        SELECT %(tenant)s, %(owner)s || repeat('+', (n - 1) / 399), 'T', '{}' FROM generate_series(1, %(count)s) AS n
    """,
}
ORDERS = {SCHEDULES: DAILY, TEMPLATES: {"name": "T", "config": PETS}}


@contextmanager
def acting(control: str, who: str) -> Iterator[psycopg.Connection[Any]]:
    """The role of the API in somebody's name, for a transaction that the caller ends."""
    caller = CALLERS[who]
    with psycopg.connect(control) as connection:
        connection.execute("SET LOCAL ROLE export_api")
        connection.execute("SET LOCAL lock_timeout = '2s'")
        for name, value in (("tenant", caller.tenant_id), ("user", caller.user_id), ("role", caller.role)):
            connection.execute("SELECT set_config(%s, %s, true)", (f"export_control.{name}", value))
        yield connection


@pytest.mark.parametrize("what", MOST)
def test_the_limit_is_of_the_tenant_and_not_of_each_member(ask: Ask, control: str, what: str) -> None:
    kind = what.rpartition("/")[2]
    query(control, INSERTS[what], tenant=TENANTS[0], owner="bob", count=MOST[what] - 1)
    mine = ask("ann", "POST", what, 201, ORDERS[what])
    for who in ("ann", "admin"):
        refused = ask(who, "POST", what, 409, ORDERS[what])
        most = f"the tenant has {MOST[what]} already, the most there may be; delete one first"
        assert refused["detail"] == f"{kind}: {most}"
        assert refused["field"] == kind
    ask("ann", "PUT", f"{what}/{mine['id']}", 200, ORDERS[what])
    ask("stranger", "POST", what, 201, ORDERS[what])
    ask("ann", "DELETE", f"{what}/{mine['id']}")
    ask("admin", "POST", what, 201, ORDERS[what])


@pytest.mark.parametrize("what", MOST)
def test_no_member_takes_all_that_the_tenant_may_have(ask: Ask, control: str, what: str) -> None:
    kind = what.rpartition("/")[2]
    query(control, INSERTS[what], tenant=TENANTS[0], owner="ann", count=MOST_OF_A_USER[what] - 1)
    mine = ask("ann", "POST", what, 201, ORDERS[what])
    refused = ask("ann", "POST", what, 409, ORDERS[what])
    most = f"the user has {MOST_OF_A_USER[what]} already, the most one may have; delete one first"
    assert (refused["field"], refused["detail"]) == (kind, f"{kind}: {most}")
    ask("ann", "PUT", f"{what}/{mine['id']}", 200, ORDERS[what])
    ask("bob", "POST", what, 201, ORDERS[what])
    ask("ann", "DELETE", f"{what}/{mine['id']}")
    ask("ann", "POST", what, 201, ORDERS[what])


def test_who_takes_over_a_schedule_has_one_more(ask: Ask, control: str) -> None:
    query(control, INSERTS[SCHEDULES], tenant=TENANTS[0], owner="admin", count=MOST_OF_A_USER[SCHEDULES] - 1)
    first, second = (ask("ann", "POST", SCHEDULES, 201, DAILY)["id"] for _ in range(2))
    ask("admin", "PUT", f"{SCHEDULES}/{first}", 200, DAILY)
    assert ask("admin", "PUT", f"{SCHEDULES}/{second}", 409, DAILY)["field"] == "schedules"


@pytest.mark.parametrize("what", MOST)
def test_of_two_who_save_the_last_one_at_once_one_is_refused(ask: Ask, control: str, what: str) -> None:
    query(control, INSERTS[what], tenant=TENANTS[0], owner="admin", count=MOST[what] - 1)
    answers: list[Any] = []
    with acting(control, "bob") as connection:
        connection.execute(INSERTS[what], {"tenant": TENANTS[0], "owner": "bob", "count": 1})
        other = threading.Thread(target=lambda: answers.append(ask("ann", "POST", what, 409, ORDERS[what])))
        other.start()
        while other.is_alive() and not query(control, "SELECT pid FROM pg_locks WHERE NOT granted"):
            other.join(0.05)
        connection.commit()
        other.join()
    assert [answer["field"] for answer in answers] == [what.rpartition("/")[2]]


@pytest.mark.parametrize("what", MOST)
@pytest.mark.parametrize("who", ["stranger", "operator"])
def test_whether_another_tenant_is_full_is_neither_told_nor_waited_for(
    ask: Ask, control: str, what: str, who: str
) -> None:
    query(control, INSERTS[what], tenant=TENANTS[0], owner="bob", count=MOST[what] - 1)
    one = {"tenant": TENANTS[0], "owner": "bob", "count": 1}
    with acting(control, "bob") as saving:
        saving.execute(INSERTS[what], one)
        for end in (lambda: None, saving.commit):  # while it is full for its own transaction alone, and for all
            end()
            with acting(control, who) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(INSERTS[what], one)


# What the database itself refuses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE export_control.export_schedules SET owner_role = 'admin'",
        "UPDATE export_control.export_schedules SET owner = 'bob'",
        "UPDATE export_control.export_schedules SET tenant_id = 'other'",
        "UPDATE export_control.export_schedules SET last_fire_at = now()",
        "DELETE FROM export_control.export_schedules",
        "UPDATE export_control.export_templates SET shared = true",
        "UPDATE export_control.export_templates SET times_used = 100",
        """UPDATE export_control.export_schedules SET config = '{"encryption": {"password": "in clear"}}'""",
        """UPDATE export_control.export_templates SET config = '{"encryption": {"password": "in clear"}}'""",
    ],
)
def test_the_role_of_the_api_cannot_go_beyond_its_caller(ask: Ask, control: str, statement: str) -> None:
    ask("ann", "POST", SCHEDULES, 201, DAILY)
    ask("ann", "POST", TEMPLATES, 201, {"name": "T", "config": PETS})
    with psycopg.connect(control) as connection:
        connection.execute("SET LOCAL ROLE export_api")
        connection.execute(
            """
            SELECT set_config('export_control.tenant', %s, true), set_config('export_control.user', 'ann', true),
                   set_config('export_control.role', 'member', true)
            """,
            (TENANTS[0],),
        )
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation)):
            connection.execute(statement)
