"""The request table on a real server: what may happen to a request, and what never does."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportFile, Package
from export_pipelines.core.status import REQUEST_TRANSITIONS, RequestStatus
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.stores.attempts import BACKOFF_SECONDS
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import WAITING_RUNS_PER_TENANT, ExportRequest, RequestStore
from export_pipelines.stores.secrets import SecretBox
from export_pipelines_tests.control_database import emptied
from export_pipelines_tests.published import mails

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
KEEP = dt.timedelta(days=30)
INSERT = "INSERT INTO export_control.export_requests"
PACKAGE = Package(
    prefix="exports/t/selective/2026/01/02/r",
    files=(
        ExportFile(
            key="exports/t/selective/2026/01/02/r/manifest.json", path="manifest.json", format="document",
            media_type="application/json", rows=0, size_bytes=10, sha256="0" * 64, crc32=0,
        ),
    ),
    manifest_sha256="0" * 64,
    rows=7,
    size_bytes=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("requests")


@pytest.fixture
def control_url(migrated: str) -> str:
    """The one database of this module, emptied."""
    return emptied(migrated)


@pytest.fixture
def control(control_url: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(control_url)) as made:
        yield made


@pytest.fixture
def requests(control: ControlDatabase) -> RequestStore:
    return RequestStore(control)


@pytest.fixture
def ordered(requests: RequestStore) -> str:
    """A queued request."""
    return requests.insert(tenant_id="t", config=CONFIG)


@pytest.fixture
def held(requests: RequestStore, ordered: str) -> str:
    """A request that run ``r1`` works on."""
    assert requests.claim(ordered, attempt=1, run_id="r1")
    return ordered


def complete(requests: RequestStore, request_id: str, run_id: str = "r1") -> bool:
    return requests.complete(request_id, run_id=run_id, package=PACKAGE, deliveries=(), keep=KEEP)


def path_of(requests: RequestStore, request_id: str) -> list[str]:
    return [event["new_status"] for event in requests.events(request_id)]


# Transitions ------------------------------------------------------------------------------------------------------

WAY_TO = {
    RequestStatus.QUEUED: [],
    RequestStatus.PROCESSING: ["processing"],
    RequestStatus.COMPLETED: ["processing", "completed"],
    RequestStatus.FAILED: ["failed"],
    RequestStatus.CANCELLED: ["cancelled"],
    RequestStatus.EXPIRED: ["processing", "completed", "expired"],
}


def set_status(control: ControlDatabase, request_id: str, status: str) -> None:
    """By plain SQL, with everything the constraints want of that status."""
    control.rows(
        """
        UPDATE export_control.export_requests
        SET status = %(status)s::export_control.request_status, package_prefix = 'p', error_message = 'm',
            run_id = CASE WHEN %(status)s = 'queued' THEN NULL ELSE 'r' END
        WHERE id = %(id)s
        """,
        {"status": status, "id": request_id},
    )


@pytest.mark.parametrize("new", RequestStatus)
@pytest.mark.parametrize("old", RequestStatus)
def test_the_database_allows_exactly_the_transitions_of_the_core(
    old: RequestStatus, new: RequestStatus, control: ControlDatabase, requests: RequestStore, ordered: str
) -> None:
    for status in WAY_TO[old]:
        set_status(control, ordered, status)
    if new in REQUEST_TRANSITIONS[old]:
        set_status(control, ordered, new)
        assert requests.get(ordered).status is new
        assert requests.events(ordered)[-1]["old_status"] == old
    elif new is not old:
        with pytest.raises(RequestRejected, match=f"cannot go from {old} to {new}"):
            set_status(control, ordered, new)
        assert requests.get(ordered).status is old


@pytest.mark.parametrize(
    "change",
    ["tenant_id = 'other'", "config = '{}'", "id = gen_random_uuid()", "attempt = 0"],
    ids=lambda c: c.split()[0],
)
def test_what_was_ordered_never_changes(change: str, control: ControlDatabase, ordered: str) -> None:
    with pytest.raises(RequestRejected):
        control.rows(f"UPDATE export_control.export_requests SET {change} WHERE id = '{ordered}'")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE export_control.export_request_events SET detail = 'x'",
        "DELETE FROM export_control.export_request_events",
        "TRUNCATE export_control.export_request_events",
    ],
)
def test_events_are_append_only_even_for_a_superuser(
    statement: str, control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    with pytest.raises(RequestRejected, match="append-only"):
        control.rows(statement)
    assert path_of(requests, held) == ["queued", "processing"]


def test_a_request_with_a_history_cannot_be_deleted(
    control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    with pytest.raises(RequestRejected):
        control.rows("DELETE FROM export_control.export_requests")
    assert requests.get(held).status is RequestStatus.PROCESSING


def test_events_tell_the_whole_story_of_a_request(requests: RequestStore, held: str) -> None:
    assert requests.requeue(held, attempt=1, run_id="r1", error_type="unavailable", message="source is down")
    assert requests.claim(held, attempt=2, run_id="r2")
    assert complete(requests, held, "r2")
    reported = [
        (e["old_status"], e["new_status"], e["attempt"], e["run_id"], e["detail"]) for e in requests.events(held)
    ]
    assert reported == [
        (None, "queued", 1, None, None),
        ("queued", "processing", 1, "r1", None),
        ("processing", "queued", 2, "r1", "source is down"),
        ("queued", "processing", 2, "r2", None),
        ("processing", "completed", 2, "r2", None),
    ]


def nested(depth: int) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


# Orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "values", "named"),
    [
        ("tenant_id, config", ("t", Jsonb([])), "config: must be a JSON object"),
        (
            "tenant_id, config",
            ("t" * 201, Jsonb(CONFIG)),
            "tenant_id: has 201 characters",
        ),
        ("tenant_id, config", ("t", Jsonb({"tables": ["pets"]})), r"config\.format"),
        ("tenant_id, config", ("t", Jsonb({"tables": ["pets"], "format": 7})), r"config\.format"),
        ("tenant_id, config", ("t", Jsonb({"format": "csv"})), r"config\.tables"),
        ("tenant_id, config", ("t", Jsonb({"format": "csv", "tables": "pets"})), r"config\.tables"),
        ("tenant_id, config", ("t", Jsonb({**CONFIG, "name": "x" * 70_000})), "larger than 65536 bytes"),
        ("tenant_id, config", ("t", Jsonb({**CONFIG, "options": nested(40)})), "nested deeper than 32"),
        ("tenant_id, config", ("t", Jsonb({**CONFIG, "options": nested(900)})), "nested deeper than 32"),
        ("tenant_id, config", ("", Jsonb(CONFIG)), "tenant_id"),
        ("config", (Jsonb(CONFIG),), "tenant_id"),
        ("tenant_id", ("t",), "config"),
        ("tenant_id, config, status", ("t", Jsonb(CONFIG), "completed"), "starts as queued"),
        ("tenant_id, config, run_id", ("t", Jsonb(CONFIG), "mine"), "starts as queued"),
        ("tenant_id, config, attempt", ("t", Jsonb(CONFIG), 2), "starts as queued"),
        ("tenant_id, config, cancel_requested", ("t", Jsonb(CONFIG), True), "starts as queued"),
        ("tenant_id, config, package_prefix", ("t", Jsonb(CONFIG), "exports/other"), "starts as queued"),
        ("tenant_id, config, percentage", ("t", Jsonb(CONFIG), 100), "starts as queued"),
        ("tenant_id, config, launched_by", ("t", Jsonb(CONFIG), "me"), "launched_by"),
    ],
)
def test_a_row_of_the_wrong_shape_is_refused_by_name(
    columns: str, values: tuple[object, ...], named: str, control_url: str
) -> None:
    marks = ", ".join(["%s"] * len(values))
    with psycopg.connect(control_url) as host, pytest.raises(psycopg.IntegrityError, match=named):
        host.execute(f"{INSERT} ({columns}) VALUES ({marks})", values)


def test_the_same_idempotency_key_answers_the_first_request(requests: RequestStore) -> None:
    first = requests.insert(tenant_id="t", config=CONFIG, idempotency_key="k")
    assert requests.insert(tenant_id="t", config=dict(reversed(CONFIG.items())), idempotency_key="k") == first
    assert requests.insert(tenant_id="other", config=CONFIG, idempotency_key="k") != first
    assert len(requests.list()) == 2


def test_an_idempotency_key_is_not_reused_for_another_order(requests: RequestStore) -> None:
    requests.insert(tenant_id="t", config=CONFIG, idempotency_key="k")
    with pytest.raises(RequestRejected, match="idempotency_key"):
        requests.insert(tenant_id="t", config={**CONFIG, "format": "json"}, idempotency_key="k")


def test_an_idempotency_key_makes_one_request_of_many_at_once(control_url: str) -> None:
    def insert(_number: int) -> str:
        with closing(ControlDatabase(control_url)) as control:
            return RequestStore(control).insert(tenant_id="t", config=CONFIG, idempotency_key="k")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(insert, range(24)))) == 1


@pytest.mark.parametrize("tenant_id", ["a\x00b", "a\ud800b", "x" * 201])
def test_a_tenant_id_that_is_no_text_is_rejected(tenant_id: str, requests: RequestStore) -> None:
    with pytest.raises(RequestRejected):
        requests.insert(tenant_id=tenant_id, config=CONFIG)


@pytest.mark.parametrize("unknown", ["nonsense", "", "00000000-0000-4000-8000-000000000000"])
def test_an_unknown_request_is_rejected(unknown: str, requests: RequestStore) -> None:
    with pytest.raises(RequestRejected, match="request_id"):
        requests.get(unknown)


# The host application's role --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host_url(postgres: EmbeddedPostgres, migrated: str) -> str:
    """The host application's login, with the rights of docs/request-table.md and no others."""
    name = migrated.rsplit("/", 1)[1]
    role = f"host_{name}"
    with psycopg.connect(migrated, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'host'").format(sql.Identifier(role)))
        admin.execute(sql.SQL(documented_grants()).format(host_app=sql.Identifier(role)))
    return postgres.url(name, user=role, password="host")


def documented_grants() -> str:
    """The very statements of the document, with a place for the role."""
    text = (Path(__file__).parents[2] / "docs" / "request-table.md").read_text(encoding="utf-8")
    block = next(part for part in text.split("```sql\n")[1:] if part.startswith("GRANT"))
    return block.split("```")[0].replace("host_app", "{host_app}")


@pytest.fixture
def host(host_url: str, control_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(host_url, autocommit=True) as connection:
        yield connection


def test_a_host_role_orders_and_follows_exports(host: psycopg.Connection[Any], requests: RequestStore) -> None:
    ordered = host.execute(
        f"{INSERT} (tenant_id, config, requested_by, idempotency_key, priority) VALUES ('t', %s, 'ann', 'k', 5) "
        "ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING RETURNING id::text",
        [Jsonb(CONFIG)],
    ).fetchone()
    assert path_of(requests, ordered[0]) == ["queued"]
    requests.claim(ordered[0], attempt=1, run_id="r1")
    seen = host.execute("SELECT status::text, priority FROM export_control.export_requests").fetchall()
    assert seen == [("processing", 5)]


@pytest.mark.parametrize(
    "statement",
    [
        f"{INSERT} (tenant_id, config, launched_by) VALUES ('t', '{{}}', 'cli')",
        f"{INSERT} (tenant_id, config, max_attempts) VALUES ('t', '{{}}', 99)",
        "UPDATE export_control.export_requests SET cancel_requested = true",
        "DELETE FROM export_control.export_requests",
        "SELECT * FROM export_control.export_links",
        "SELECT * FROM export_control.export_request_events",
        "INSERT INTO export_control.export_request_events (new_status, attempt) VALUES ('completed', 1)",
        "CREATE TABLE export_control.mine ()",
        "CREATE FUNCTION export_control.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_host_role_may_do_nothing_else(statement: str, host: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        host.execute(statement)


def test_a_host_role_cannot_slip_its_own_objects_under_the_trigger(
    host: psycopg.Connection[Any], requests: RequestStore
) -> None:
    """The trigger runs with its owner's rights, so it must not look up names where the caller says."""
    host.execute("CREATE TEMPORARY TABLE export_request_events (LIKE export_control.export_requests)")
    host.execute("SET search_path = pg_temp, export_control")
    host.execute(f"{INSERT} (tenant_id, config) VALUES ('t', %s)", [Jsonb(CONFIG)])
    assert [path_of(requests, request.id) for request in requests.list()] == [["queued"]]


# Runs -------------------------------------------------------------------------------------------------------------


def test_of_two_runs_one_gets_the_request(requests: RequestStore, ordered: str) -> None:
    assert requests.claim(ordered, attempt=1, run_id="r1")
    assert not requests.claim(ordered, attempt=1, run_id="r2")
    assert requests.get(ordered).run_id == "r1"


def test_of_many_runs_at_once_exactly_one_gets_the_request(control_url: str, ordered: str) -> None:
    together = threading.Barrier(12)

    def claim(number: int) -> bool:
        with closing(ControlDatabase(control_url)) as control:
            store = RequestStore(control)
            store.list(limit=1)  # connected before the start
            together.wait()
            return store.claim(ordered, attempt=1, run_id=f"r{number}")

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(claim, range(12))) == 1


def test_a_run_may_claim_again_and_so_may_its_re_execution(requests: RequestStore, held: str) -> None:
    assert requests.claim(held, attempt=1, run_id="r1")
    assert not requests.claim(held, attempt=1, run_id="r2", parent_run_id="r0")
    assert requests.claim(held, attempt=1, run_id="r2", parent_run_id="r1")
    assert not requests.claim(held, attempt=1, run_id="r1")
    assert [event["run_id"] for event in requests.events(held)] == [None, "r1", "r2"]


def test_a_run_of_an_earlier_attempt_does_not_get_the_next(requests: RequestStore, held: str) -> None:
    requests.requeue(held, attempt=1, run_id="r1", error_type="lost", message="lost")
    assert not requests.claim(held, attempt=1, run_id="r1")
    assert requests.get(held).status is RequestStatus.QUEUED


LATE_MESSAGES: dict[str, Callable[[RequestStore, str], object]] = {
    "claim": lambda store, id_: store.claim(id_, attempt=1, run_id="r1"),
    "progress": lambda store, id_: store.record_progress(id_, run_id="r1", percentage=99, rows_processed=5),
    "complete": complete,
    "fail": lambda store, id_: store.fail(id_, attempt=1, run_id="r1", error_type="lost", message="late"),
    "cancel": lambda store, id_: store.end_cancelled(id_, attempt=1, run_id="r1", message="late"),
    "requeue": lambda store, id_: store.requeue(id_, attempt=1, run_id="r1", error_type="lost", message="late"),
    "give back": lambda store, id_: store.give_back(id_, run_id="r1", message="late"),
    "reopen": lambda store, id_: store.reopen(id_, parent_run_id="r1"),
}
AFTERWARDS: dict[str, Callable[[RequestStore, str], object]] = {
    "completed": complete,
    "queued again": lambda store, id_: store.requeue(id_, attempt=1, run_id="r1", error_type="lost", message="m"),
    "held by the next run": lambda store, id_: (
        store.requeue(id_, attempt=1, run_id="r1", error_type="lost", message="m")
        and store.claim(id_, attempt=2, run_id="r2")
    ),
}


@pytest.mark.parametrize("afterwards", AFTERWARDS)
@pytest.mark.parametrize("message", LATE_MESSAGES)
def test_a_late_message_of_an_earlier_run_changes_nothing(
    message: str, afterwards: str, requests: RequestStore, held: str
) -> None:
    assert AFTERWARDS[afterwards](requests, held)
    before, events = requests.get(held), requests.events(held)
    assert not LATE_MESSAGES[message](requests, held)
    assert requests.get(held) == before
    assert requests.events(held) == events


@pytest.mark.parametrize("ending", ["fail", "cancel", "requeue"])
def test_an_ending_that_is_told_twice_happens_once(ending: str, requests: RequestStore, held: str) -> None:
    assert LATE_MESSAGES[ending](requests, held)
    once = requests.get(held)
    assert not LATE_MESSAGES[ending](requests, held)
    assert requests.get(held) == once


def test_a_queued_request_is_only_failed_for_the_attempt_that_is_meant(requests: RequestStore, held: str) -> None:
    requests.requeue(held, attempt=1, run_id="r1", error_type="lost", message="m")
    assert not requests.fail(held, attempt=1, run_id="r1", error_type="lost", message="late")
    assert requests.fail(held, attempt=2, run_id=None, error_type="lost", message="now")


def test_a_second_completion_adds_no_files_and_no_deliveries(
    control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    deliveries = mails("a@example.com", "b@example.com")
    assert requests.complete(held, run_id="r1", package=PACKAGE, deliveries=deliveries, keep=KEEP)
    assert not requests.complete(held, run_id="r1", package=PACKAGE, deliveries=deliveries, keep=KEEP)
    assert len(control.rows("SELECT * FROM export_control.export_files")) == 1
    assert len(control.rows("SELECT * FROM export_control.export_deliveries")) == 2
    request = requests.get(held)
    assert (request.percentage, request.package_rows, request.package_prefix) == (100, 7, PACKAGE.prefix)
    assert request.expires_at is not None
    assert request.completed_at is not None
    assert request.expires_at - request.completed_at == KEEP


def test_cancelling_and_completing_at_once_ends_in_one_of_the_two(control_url: str, requests: RequestStore) -> None:
    """Either the package is public and there was nothing to cancel, or the run saw the wish; never both, never none."""
    for _ in range(15):
        request_id = requests.insert(tenant_id="t", config=CONFIG)
        requests.claim(request_id, attempt=1, run_id="r1")
        together = threading.Barrier(2)

        def cancel(request_id: str = request_id, together: threading.Barrier = together) -> bool:
            with closing(ControlDatabase(control_url)) as control:
                store = RequestStore(control)
                store.list(limit=1)
                together.wait()
                try:
                    return store.request_cancel(request_id) is RequestStatus.PROCESSING
                except RequestRejected:
                    return False

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(cancel)
            together.wait()
            completed = complete(requests, request_id)
            request = requests.get(request_id)
            assert completed == (request.status is RequestStatus.COMPLETED)
            assert completed or asked.result()
            assert request.cancel_requested == asked.result()


def test_a_cancelled_request_in_the_queue_ends_at_once(requests: RequestStore, ordered: str) -> None:
    assert requests.request_cancel(ordered) is RequestStatus.CANCELLED
    assert not requests.claim(ordered, attempt=1, run_id="r1")
    with pytest.raises(RequestRejected, match="already cancelled"):
        requests.request_cancel(ordered)


def test_a_cancelled_request_at_work_is_told_at_the_next_heartbeat(requests: RequestStore, held: str) -> None:
    assert requests.record_progress(held, run_id="r1", rows_processed=1) is False
    assert requests.request_cancel(held) is RequestStatus.PROCESSING
    assert requests.record_progress(held, run_id="r1", rows_processed=2) is True


@pytest.mark.parametrize("way", ["requeue", "give back"])
def test_a_request_that_is_to_be_cancelled_is_not_queued_again(way: str, requests: RequestStore, held: str) -> None:
    requests.request_cancel(held)
    assert not LATE_MESSAGES[way](requests, held)


# Attempts ---------------------------------------------------------------------------------------------------------


def test_attempts_are_used_up_with_a_pause_that_doubles(
    control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    pauses = []
    for attempt in (1, 2, 3):
        run_id = f"r{attempt}"
        assert requests.claim(held, attempt=attempt, run_id=run_id)
        if requests.requeue(held, attempt=attempt, run_id=run_id, error_type="unavailable", message="down"):
            now = control.rows("SELECT now()")[0]["now"]
            pauses.append(round((requests.get(held).not_before - now).total_seconds()))
    assert pauses == [BACKOFF_SECONDS, 2 * BACKOFF_SECONDS]
    assert requests.get(held).attempt == 3
    assert requests.fail(held, attempt=3, run_id="r3", error_type="unavailable", message="down")


def test_a_request_that_must_wait_is_not_launched_before_its_time(
    control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    requests.requeue(held, attempt=1, run_id="r1", error_type="unavailable", message="down")
    assert requests.launchable() == []
    control.rows("UPDATE export_control.export_requests SET not_before = now()")
    assert [request.id for request in requests.launchable()] == [held]


def test_a_service_that_stops_gives_back_without_using_an_attempt(requests: RequestStore, held: str) -> None:
    for number in range(1, 6):
        assert requests.give_back(held, run_id=f"r{number}", message="stopped")
        request = requests.launchable()[0]
        assert (request.attempt, request.max_attempts) == (number + 1, number + 3)
        assert requests.claim(held, attempt=number + 1, run_id=f"r{number + 1}")


def test_a_command_lines_request_is_never_handed_to_the_daemon(requests: RequestStore) -> None:
    request_id = requests.insert(tenant_id="t", config=CONFIG, launched_by="cli")
    requests.claim(request_id, attempt=1, run_id="r1")
    assert not requests.give_back(request_id, run_id="r1", message="stopped")
    assert not requests.requeue(request_id, attempt=1, run_id="r1", error_type="lost", message="lost")
    assert requests.launchable() == []


@pytest.mark.parametrize("ending", ["fail", "cancel"])
def test_what_ended_can_be_retried_by_hand_even_beyond_its_attempts(
    ending: str, control: ControlDatabase, requests: RequestStore, held: str
) -> None:
    control.rows("UPDATE export_control.export_requests SET max_attempts = 1")
    assert LATE_MESSAGES[ending](requests, held)
    assert requests.retry(held) == 2
    request = requests.get(held)
    assert (request.status, request.run_id, request.error_message, request.max_attempts) == ("queued", None, None, 2)
    assert requests.claim(held, attempt=2, run_id="r2")


@pytest.mark.parametrize("status", ["queued", "processing", "completed"])
def test_what_has_not_failed_cannot_be_retried(status: str, requests: RequestStore, ordered: str) -> None:
    if status != "queued":
        requests.claim(ordered, attempt=1, run_id="r1")
    if status == "completed":
        complete(requests, ordered)
    with pytest.raises(RequestRejected, match=f"is {status}"):
        requests.retry(ordered)


def test_a_re_execution_reopens_what_its_parent_failed_and_nothing_else(requests: RequestStore, held: str) -> None:
    requests.fail(held, attempt=1, run_id="r1", error_type="internal", message="m")
    assert not requests.reopen(held, parent_run_id=None)
    assert not requests.reopen(held, parent_run_id="r0")
    assert requests.reopen(held, parent_run_id="r1")
    request = requests.get(held)
    assert (request.status, request.attempt, request.run_id) == ("queued", 2, None)


# Progress ---------------------------------------------------------------------------------------------------------


def test_only_the_holder_reports_progress(requests: RequestStore, held: str) -> None:
    assert requests.record_progress(held, run_id="r2", rows_processed=9) is None
    assert requests.record_progress(held, run_id="r1", rows_processed=3, current_table="pets") is False
    request = requests.get(held)
    assert (request.rows_processed, request.current_table) == (3, "pets")


def test_the_percentage_of_an_attempt_never_goes_back(requests: RequestStore, held: str) -> None:
    seen = []
    for percentage in (10, 5, None, 42.5, 41, 42.5):
        requests.record_progress(held, run_id="r1", percentage=percentage)
        seen.append(requests.get(held).percentage)
    assert seen == [10, 10, 10, 42.5, 42.5, 42.5]


def test_a_new_attempt_begins_at_nothing(requests: RequestStore, held: str) -> None:
    requests.record_progress(held, run_id="r1", percentage=80, rows_processed=5, files_created=2)
    requests.requeue(held, attempt=1, run_id="r1", error_type="lost", message="m")
    requests.claim(held, attempt=2, run_id="r2")
    request = requests.get(held)
    assert (request.percentage, request.rows_processed, request.files_created, request.error_message) == (0, 0, 0, None)


# Whose turn it is -------------------------------------------------------------------------------------------------


def tenants_of(found: list[ExportRequest]) -> list[str]:
    return [request.tenant_id for request in found]


def test_one_tenants_backlog_does_not_delay_anothers_first_request(requests: RequestStore) -> None:
    for _ in range(30):
        requests.insert(tenant_id="big", config=CONFIG)
    requests.insert(tenant_id="small", config=CONFIG)
    assert tenants_of(requests.launchable(limit=3)) == ["big", "small", "big"]


def test_requests_that_wait_for_their_run_do_not_hide_the_ones_behind(requests: RequestStore) -> None:
    """All of them stay queued, as when their runs wait in Dagster: every one is asked for, none twice in a row."""
    ordered = {requests.insert(tenant_id=f"t{number % 4}", config=CONFIG) for number in range(40)}
    turns = []
    for _ in range(4):
        turn = requests.launchable(limit=10)
        requests.asked(turn)
        turns.append({request.id for request in turn})
    assert [len(turn) for turn in turns] == [10] * 4
    assert set.union(*turns) == ordered
    assert requests.launchable(limit=10) == []


def test_a_request_whose_run_never_came_is_asked_for_again_oldest_first(
    control: ControlDatabase, requests: RequestStore
) -> None:
    first, second = (requests.insert(tenant_id="t", config=CONFIG) for _ in range(2))
    requests.asked(requests.launchable())
    control.rows(
        "UPDATE export_control.export_requests SET asked_at = now() - interval '31 s' WHERE id = %(id)s", {"id": second}
    )
    assert [request.id for request in requests.launchable()] == [second]
    control.rows(
        "UPDATE export_control.export_requests SET asked_at = now() - interval '32 s' WHERE id = %(id)s", {"id": first}
    )
    new = requests.insert(tenant_id="t", config=CONFIG)
    assert [request.id for request in requests.launchable()] == [new, first, second]


def test_a_tenants_window_moves_on_when_a_request_begins(requests: RequestStore) -> None:
    ordered = [requests.insert(tenant_id="t", config=CONFIG) for _ in range(WAITING_RUNS_PER_TENANT + 2)]
    turn = requests.launchable()
    assert [request.id for request in turn] == ordered[:WAITING_RUNS_PER_TENANT]
    requests.asked(turn)
    assert requests.launchable() == []
    requests.claim(ordered[0], attempt=1, run_id="r1")
    assert [request.id for request in requests.launchable()] == [ordered[WAITING_RUNS_PER_TENANT]]


def test_priority_goes_before_turns(requests: RequestStore) -> None:
    requests.insert(tenant_id="a", config=CONFIG)
    urgent = [requests.insert(tenant_id="b", config=CONFIG, priority=9) for _ in range(2)]
    assert [request.id for request in requests.launchable(limit=2)] == urgent


def test_a_new_attempt_is_asked_for_at_once(control: ControlDatabase, requests: RequestStore, ordered: str) -> None:
    requests.asked(requests.launchable())
    requests.requeue(ordered, attempt=1, run_id=None, error_type="lost", message="run failed before its plan")
    control.rows("UPDATE export_control.export_requests SET not_before = now()")
    assert [request.attempt for request in requests.launchable()] == [2]


# Silence ----------------------------------------------------------------------------------------------------------


def test_silent_are_those_at_work_without_a_heartbeat_and_commands_that_never_began(
    control: ControlDatabase, requests: RequestStore
) -> None:
    waiting = requests.insert(tenant_id="t", config=CONFIG)
    command = requests.insert(tenant_id="t", config=CONFIG, launched_by="cli")
    dead, alive = (requests.insert(tenant_id="t", config=CONFIG) for _ in range(2))
    for request_id in (dead, alive):
        requests.claim(request_id, attempt=1, run_id=request_id)
    control.rows(
        "UPDATE export_control.export_requests SET created_at = now() - interval '1 h' WHERE id = ANY(%(ids)s)",
        {"ids": [waiting, command, dead, alive]},
    )
    control.rows(
        "UPDATE export_control.export_requests SET heartbeat_at = now() - interval '2 min' WHERE id = %(id)s",
        {"id": dead},
    )
    found = {request.id for request in requests.silent(older_than=dt.timedelta(minutes=1))}
    assert found == {dead, command}


def test_a_long_queue_does_not_hide_a_run_that_died(control: ControlDatabase, requests: RequestStore) -> None:
    control.rows(
        f"""
        {INSERT} (tenant_id, config, created_at)
        SELECT 't', %(config)s, now() - interval '1 day' FROM generate_series(1, 500)
        """,
        {"config": Jsonb(CONFIG)},
    )
    dead = requests.insert(tenant_id="t", config=CONFIG)
    requests.claim(dead, attempt=1, run_id="r1")
    control.rows(
        "UPDATE export_control.export_requests SET heartbeat_at = now() - interval '1 h' WHERE id = %(id)s",
        {"id": dead},
    )
    assert [request.id for request in requests.silent(older_than=dt.timedelta(minutes=1))] == [dead]


# Connections ------------------------------------------------------------------------------------------------------


def test_a_connection_that_broke_while_idle_is_renewed_without_an_error(
    control: ControlDatabase, requests: RequestStore, control_url: str, ordered: str
) -> None:
    backend = control.rows("SELECT pg_backend_pid() AS pid")[0]["pid"]
    with psycopg.connect(control_url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [backend])
    assert requests.get(ordered).id == ordered
    assert control.rows("SELECT pg_backend_pid() AS pid")[0]["pid"] != backend


# Passwords --------------------------------------------------------------------------------------------------------

AES: dict[str, Any] = {"method": "AES256", "password": "correct horse battery"}


@pytest.mark.parametrize(
    "encryption",
    [AES, {"password": {"sealed": True}}, {"password": {"sealed": True, "x": "clear"}}, {"inner": [{"password": "x"}]}],
)
def test_a_password_in_clear_is_refused_by_the_table_with_what_to_do_instead(
    control: ControlDatabase, encryption: dict[str, Any]
) -> None:
    config = {**CONFIG, "encryption": encryption}
    with pytest.raises(RequestRejected, match="age recipients") as refused:
        control.rows(f"{INSERT} (tenant_id, config) VALUES ('t', %(config)s)", {"config": Jsonb(config)})
    assert "correct horse" not in str(refused.value)


def test_age_recipients_can_be_ordered_by_plain_sql(control: ControlDatabase) -> None:
    config = {**CONFIG, "encryption": {"method": "age", "recipients": ["age1x"], "password": None}}
    control.rows(f"{INSERT} (tenant_id, config) VALUES ('t', %(config)s)", {"config": Jsonb(config)})


def test_a_password_without_a_key_to_seal_it_is_refused(requests: RequestStore) -> None:
    with pytest.raises(RequestRejected, match="EXPORT_SECRET_KEY"):
        requests.insert(tenant_id="t", config={**CONFIG, "encryption": AES})


def test_a_password_comes_back_for_its_request_only(control: ControlDatabase) -> None:
    requests = RequestStore(control, SecretBox(lambda: bytes(32)))
    first, second = (requests.insert(tenant_id="t", config={**CONFIG, "encryption": AES}) for _ in range(2))
    assert requests.password_of(first).get_secret_value() == AES["password"]
    control.rows(
        """
        UPDATE export_control.export_requests SET sealed_secrets =
            (SELECT sealed_secrets FROM export_control.export_requests WHERE id = %(first)s)
        WHERE id = %(second)s
        """,
        {"first": first, "second": second},
    )
    with pytest.raises(RequestRejected, match="sealed with"):
        requests.password_of(second)


def test_a_password_stays_while_the_request_is_tried_again(control: ControlDatabase) -> None:
    requests = RequestStore(control, SecretBox(lambda: bytes(32)))
    request_id = requests.insert(tenant_id="t", config={**CONFIG, "encryption": AES})
    assert requests.claim(request_id, attempt=1, run_id="r")
    assert requests.requeue(request_id, attempt=1, run_id="r", error_type="unavailable", message="m")
    assert requests.password_of(request_id).get_secret_value() == AES["password"]
    assert requests.fail(request_id, attempt=2, run_id=None, error_type="unavailable", message="m")
    with pytest.raises(RequestRejected, match="was wiped"):
        requests.password_of(request_id)
    with pytest.raises(RequestRejected, match="give it again"):
        requests.retry(request_id)
    with pytest.raises(RequestRejected, match="has 5 characters"):
        requests.retry(request_id, password=SecretStr("short"))
    assert requests.retry(request_id, password=SecretStr("another password")) == 3
    assert requests.password_of(request_id).get_secret_value() == "another password"
