"""From schedules that are due to rows in the request table, and what becomes of a schedule by what becomes of those."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import Package
from export_pipelines.core.ports import Message
from export_pipelines.core.recurrence import CatchUp
from export_pipelines.core.scheduling import ScheduleDraft
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.publish.deliver import _message
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.dispatch import Dispatched, Dispatcher
from export_pipelines.stores.metrics import FigureStore
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines.stores.schedules import Schedule, ScheduleStore
from export_pipelines.stores.secrets import SecretBox
from export_pipelines_tests.control_database import emptied

BOX = SecretBox(lambda: bytes(32))
MIDNIGHT = dt.datetime(2026, 5, 4, tzinfo=dt.UTC)  # a Monday
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
PASSWORD = "correct horse battery"
PACKAGE = Package(prefix="exports/t/x", files=(), rows=1, size_bytes=1, manifest_sha256="0" * 64)


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("dispatch")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as opened:
        yield opened


@pytest.fixture
def store(control: ControlDatabase) -> ScheduleStore:
    return ScheduleStore(control, BOX)


@pytest.fixture
def requests(control: ControlDatabase) -> RequestStore:
    return RequestStore(control, BOX)


@pytest.fixture
def dispatcher(control: ControlDatabase) -> Dispatcher:
    return Dispatcher(control, BOX)


def draft(window: Any = "none", **changes: Any) -> ScheduleDraft:
    reported = {
        "name": "Pets",
        "config": {"tables": ["pets"], "format": "csv"},
        "cron": Cron(expression="0 0 * * *", timezone="UTC"),
        "window": DataWindow.model_validate(window),
        "catch_up": CatchUp.ALL,
        "jitter_seconds": 0,
        "keep_days": None,
        "pause_after": 3,
        "next_fire_at": MIDNIGHT,
    }
    return ScheduleDraft(**{**reported, **changes})


def save(store: ScheduleStore, window: Any = "none", owner: str = "ann@example.com", **changes: Any) -> Schedule:
    return store.create(draft(window, **changes), tenant_id="t", owner=owner, owner_role=None)


def made(control: ControlDatabase) -> list[ExportRequest]:
    rows = control.rows("SELECT * FROM export_control.export_requests ORDER BY scheduled_for, created_at, id")
    return [ExportRequest.of(row) for row in rows]


def complete(requests: RequestStore, request: ExportRequest) -> None:
    requests.claim(request.id, attempt=1, run_id=request.id)
    assert requests.complete(request.id, run_id=request.id, package=PACKAGE, deliveries=(), keep=HOUR)


def fail(requests: RequestStore, request: ExportRequest, message: str = "the source is gone") -> None:
    assert requests.fail(request.id, attempt=1, run_id=None, error_type="unavailable", message=message)


def notice_of(control: ControlDatabase, recipient: str) -> Message:
    """The mail that is due next, which is about a schedule."""
    due = DeliveryStore(control).take_due()
    assert due is not None
    assert (due.kind, due.method, due.recipient, due.request_id, due.tenant_id) == (
        "schedule_paused", "email", recipient, None, "t",
    )  # fmt: skip
    return _message(due, None)  # type: ignore[arg-type] - a notice needs no services


def range_of(request: ExportRequest) -> tuple[dt.datetime, dt.datetime]:
    limits = request.config["filters"]["date_range"]
    return dt.datetime.fromisoformat(limits["start"]), dt.datetime.fromisoformat(limits["end"])


def test_a_fire_becomes_a_request_with_its_owner_window_and_pause(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher
) -> None:
    schedule = save(store, "previous_day", jitter_seconds=600)
    assert dispatcher.dispatch(MIDNIGHT - dt.timedelta(seconds=1)) == Dispatched()
    assert dispatcher.dispatch(MIDNIGHT + dt.timedelta(seconds=2)) == Dispatched(requests=1)
    assert dispatcher.dispatch(MIDNIGHT + dt.timedelta(seconds=2)) == Dispatched()
    (request,) = made(control)
    assert (request.schedule_id, request.scheduled_for) == (schedule.id, MIDNIGHT)
    assert (request.tenant_id, request.requested_by, request.status) == ("t", "ann@example.com", RequestStatus.QUEUED)
    assert range_of(request) == (MIDNIGHT - DAY, MIDNIGHT)
    assert MIDNIGHT <= request.not_before <= MIDNIGHT + dt.timedelta(seconds=600)
    after = store.get(schedule.id)
    assert (after.next_fire_at, after.last_fire_at) == (MIDNIGHT + DAY, MIDNIGHT)
    assert (after.last_request_id, after.last_status) == (request.id, RequestStatus.QUEUED)


def test_the_window_is_that_of_the_scheduled_time_however_late_it_is_dispatched(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher
) -> None:
    save(store, "previous_day")
    dispatcher.dispatch(MIDNIGHT + 2 * DAY + HOUR)
    assert [range_of(request) for request in made(control)] == [
        (MIDNIGHT + (number - 1) * DAY, MIDNIGHT + number * DAY) for number in range(3)
    ]


def test_exports_are_called_after_their_schedule_unless_they_have_a_name(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher
) -> None:
    schedule = save(store, "previous_day")
    save(store, config={"name": "Mine", "tables": ["pets"], "format": "csv"})
    dispatcher.dispatch(MIDNIGHT)
    store.run_now(schedule.id, now=MIDNIGHT, requested_by="ann", requested_role=None)
    assert sorted(request.config["name"] for request in made(control)) == ["Mine", "Pets", "Pets"]


def test_paused_and_deleted_schedules_do_not_fire(store: ScheduleStore, dispatcher: Dispatcher) -> None:
    store.pause(save(store).id, reason="holidays")
    store.delete(save(store).id)
    assert dispatcher.dispatch(MIDNIGHT + HOUR) == Dispatched()


def test_several_dispatchers_at_once_make_each_request_once(
    control: ControlDatabase, migrated: str, store: ScheduleStore
) -> None:
    with control.transaction():
        for number in range(300):
            save(store, owner=f"user {number % 3}")
    done: list[Dispatched] = []

    def work() -> None:
        with closing(ControlDatabase(migrated)) as own:
            done.append(Dispatcher(own, BOX).dispatch(MIDNIGHT + DAY + HOUR))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.requests for one in done) == 600
    assert len(made(control)) == 600


def test_since_last_success_reads_on_from_the_last_completed_export(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    start = MIDNIGHT - 10 * DAY
    schedule = save(store, {"type": "since_last_success", "start": start.isoformat()})
    dispatcher.dispatch(MIDNIGHT)
    complete(requests, made(control)[-1])
    dispatcher.dispatch(MIDNIGHT + DAY)
    fail(requests, made(control)[-1])
    dispatcher.dispatch(MIDNIGHT + 2 * DAY)
    assert [range_of(request) for request in made(control)] == [
        (start, MIDNIGHT),
        (MIDNIGHT, MIDNIGHT + DAY),
        (MIDNIGHT, MIDNIGHT + 2 * DAY),  # what failed is read by the next
    ]
    assert store.get(schedule.id).covered_until == MIDNIGHT


def test_a_missed_fire_whose_rows_an_export_by_hand_has_read_is_skipped(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    schedule = save(store, {"type": "since_last_success", "start": (MIDNIGHT - DAY).isoformat()})
    store.pause(schedule.id, reason="holidays")
    by_hand = store.run_now(schedule.id, now=MIDNIGHT + DAY + HOUR, requested_by="ann", requested_role=None)
    complete(requests, requests.get(by_hand))
    store.resume(schedule.id, now=MIDNIGHT + 2 * DAY, catch_up=True)
    assert dispatcher.dispatch(MIDNIGHT + 2 * DAY) == Dispatched(requests=1, skipped=2)
    last = next(request for request in made(control) if request.scheduled_for == MIDNIGHT + 2 * DAY)
    assert range_of(last) == (MIDNIGHT + DAY + HOUR, MIDNIGHT + 2 * DAY)
    assert store.get(schedule.id).failures == 0


def test_an_empty_window_is_a_failed_request_that_says_so(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher
) -> None:
    save(store, {"type": "since_last_success", "start": (MIDNIGHT + HOUR).isoformat()})
    assert dispatcher.dispatch(MIDNIGHT) == Dispatched(requests=1)
    (request,) = made(control)
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert "there is nothing between them" in str(request.error_message)


def test_a_password_is_sealed_anew_for_each_request(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    config = {"tables": ["pets"], "format": "csv", "encryption": {"method": "AES256", "password": PASSWORD}}
    schedule = save(store, config=config)
    dispatcher.dispatch(MIDNIGHT + DAY)
    by_hand = store.run_now(schedule.id, now=MIDNIGHT, requested_by="ann", requested_role=None)
    ids = [request.id for request in made(control)]
    assert by_hand in ids
    assert [requests.password_of(request_id).get_secret_value() for request_id in ids] == [PASSWORD] * 3
    sealed = control.rows("SELECT sealed_secrets FROM export_control.export_requests")
    assert len({bytes(row["sealed_secrets"]) for row in sealed}) == 3


def test_a_password_of_another_key_fails_the_request_and_no_other(
    control: ControlDatabase, store: ScheduleStore
) -> None:
    config = {"tables": ["pets"], "format": "csv", "encryption": {"method": "AES256", "password": PASSWORD}}
    save(store, config=config)
    save(store)
    Dispatcher(control, SecretBox(lambda: bytes([1]) * 32)).dispatch(MIDNIGHT)
    assert sorted((request.status, "EXPORT_SECRET_KEY" in str(request.error_message)) for request in made(control)) == [
        (RequestStatus.FAILED, True),
        (RequestStatus.QUEUED, False),
    ]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("timezone = 'Mars/Olympus'", "not an IANA timezone"),
        ("cron = '0 0 30 2 *'", "none of these months"),
        ('config = \'{"tables": ["pets"]}\'', "name a format"),
        ('data_window = \'{"type": "previous_decade"}\'', "window.type: must be"),
    ],
)
def test_a_schedule_that_cannot_fire_is_paused_and_holds_up_nobody(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher, damage: str, reason: str
) -> None:
    broken, sound = save(store, next_fire_at=MIDNIGHT - HOUR), save(store)
    control.rows(f"UPDATE export_control.export_schedules SET {damage} WHERE id = %(id)s", {"id": broken.id})
    done = dispatcher.dispatch(MIDNIGHT)
    assert (done.requests, done.paused) == (1, 1)
    rows = control.rows(
        "SELECT state, paused_reason FROM export_control.export_schedules WHERE id = %(id)s", {"id": broken.id}
    )
    assert rows[0]["state"] == "paused"
    assert reason in rows[0]["paused_reason"]
    assert [request.schedule_id for request in made(control)] == [sound.id]
    (entry,) = control.rows("SELECT action, target_id, tenant_id, role, detail FROM export_control.audit_log")
    assert reason in entry.pop("detail")["reason"]
    assert tuple(entry.values()) == ("schedule.auto_pause", broken.id, "t", "service")
    mail = notice_of(control, "ann@example.com")
    assert mail.subject == "Your scheduled export is paused: Pets"
    assert reason in mail.body
    assert DeliveryStore(control).take_due() is None


# What becomes of the schedule -------------------------------------------------------------------------------------


def test_failures_in_a_row_pause_it_and_its_owner_is_told(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    schedule = save(store, pause_after=2)
    for number in range(4):
        dispatcher.dispatch(MIDNIGHT + number * DAY)
        request = made(control)[-1]
        complete(requests, request) if number == 1 else fail(requests, request)
    paused = store.get(schedule.id)
    assert (paused.state, paused.failures, paused.last_status) == ("paused", 2, RequestStatus.FAILED)
    assert paused.paused_reason == "2 exports in a row failed; the last one: the source is gone"
    mail = notice_of(control, "ann@example.com")
    assert mail.subject == "Your scheduled export is paused: Pets"
    assert "2 exports in a row failed; the last one: the source is gone" in mail.body
    (entry,) = control.rows("SELECT action, target_id, tenant_id, role, detail FROM export_control.audit_log")
    assert entry.pop("detail") == {"failures": 2, "request": request.id}
    assert tuple(entry.values()) == ("schedule.auto_pause", schedule.id, "t", "service")
    resumed = store.resume(schedule.id, now=MIDNIGHT + 9 * DAY)
    assert (resumed.state, resumed.failures, resumed.next_fire_at) == ("active", 0, MIDNIGHT + 10 * DAY)


def test_an_export_that_fails_again_after_its_schedule_was_resumed_is_told_again(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    schedule = save(store, pause_after=1)
    dispatcher.dispatch(MIDNIGHT)
    (request,) = made(control)
    fail(requests, request)
    store.resume(schedule.id, now=MIDNIGHT)
    requests.retry(request.id)
    assert requests.fail(request.id, attempt=2, run_id=None, error_type="unavailable", message="still gone")
    assert "the source is gone" in notice_of(control, "ann@example.com").body
    assert "still gone" in notice_of(control, "ann@example.com").body


def test_an_open_notice_is_counted_for_its_tenant(
    control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher
) -> None:
    save(store)
    control.rows("UPDATE export_control.export_schedules SET timezone = 'Mars/Olympus'")
    dispatcher.dispatch(MIDNIGHT)
    found = [FigureStore(control).queue_now(tenant) for tenant in ("t", "other", None)]
    assert [now and now.deliveries for now in found] == [{"pending": 1}, {}, {"pending": 1}]


def test_an_owner_without_an_address_gets_no_mail_and_none_is_ever_paused_that_says_so(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    quiet, stubborn = save(store, owner="cli:root", pause_after=1), save(store, pause_after=None)
    dispatcher.dispatch(MIDNIGHT)
    for request in made(control):
        fail(requests, request)
    assert [store.get(one.id).state for one in (quiet, stubborn)] == ["paused", "active"]
    assert control.rows("SELECT * FROM export_control.export_deliveries") == []


def test_its_exports_are_kept_as_long_as_it_says(
    control: ControlDatabase, store: ScheduleStore, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    save(store, keep_days=90)
    save(store)
    dispatcher.dispatch(MIDNIGHT)
    for request in made(control):
        complete(requests, request)
    kept = {done.expires_at - done.completed_at for done in made(control) if done.expires_at and done.completed_at}
    assert kept == {90 * DAY, HOUR}


def test_a_fire_that_is_no_completed_export_in_time_is_late(
    control: ControlDatabase, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
    store = ScheduleStore(control, late_after=dt.timedelta(minutes=1))
    daily = Cron(expression=f"0 {(now - HOUR).hour} * * *", timezone="UTC")
    schedule = save(store, cron=daily, next_fire_at=now - HOUR)

    def late() -> tuple[bool, int]:
        figures = FigureStore(control).schedules(dt.timedelta(minutes=1))
        return store.get(schedule.id).late, figures.late_ones

    def fired(seconds_ago: int) -> None:
        at = {"at": dt.datetime.now(dt.UTC) - dt.timedelta(seconds=seconds_ago)}
        control.rows("UPDATE export_control.export_requests SET scheduled_for = %(at)s", at)
        control.rows("UPDATE export_control.export_schedules SET last_fire_at = %(at)s", at)

    assert late() == (True, 1)  # nobody dispatched it
    dispatcher.dispatch(now)
    fired(30)
    assert late() == (False, 0)
    fired(61)
    assert late() == (True, 1)
    by_hand = store.run_now(schedule.id, now=now, requested_by="ann", requested_role=None)
    complete(requests, requests.get(by_hand))
    assert late() == (False, 0)


def test_a_schedule_that_fires_again_before_it_could_be_late_is_late_all_the_same(
    control: ControlDatabase, requests: RequestStore, dispatcher: Dispatcher
) -> None:
    store = ScheduleStore(control, late_after=HOUR)
    now = dt.datetime.now(dt.UTC)
    often = Cron(expression="*/30 * * * *", timezone="UTC")
    schedule = save(store, cron=often, next_fire_at=often.upcoming(now - 3 * HOUR, 1)[0], pause_after=None)
    dispatcher.dispatch(now)
    oldest, *others = made(control)
    assert store.get(schedule.id).late
    fail(requests, oldest)
    assert store.get(schedule.id).late
    complete(requests, others[-1])
    assert not store.get(schedule.id).late


def test_fires_are_counted(control: ControlDatabase, store: ScheduleStore, dispatcher: Dispatcher) -> None:
    def counted() -> dict[str, float]:
        totals = FigureStore(control).totals()
        return {row["status"]: row["value"] for row in totals if row["name"] == "schedule_fires"}

    before = counted()
    save(store, catch_up=CatchUp.SKIP)
    save(store)
    dispatcher.dispatch(MIDNIGHT + 2 * DAY + HOUR)
    after = counted()
    assert {name: after[name] - before.get(name, 0) for name in after} == {"dispatched": 3, "skipped": 3}


# Guards -----------------------------------------------------------------------------------------------------------


def test_a_request_of_a_schedule_of_another_tenant_is_refused(control: ControlDatabase, store: ScheduleStore) -> None:
    schedule = save(store)
    with pytest.raises(RequestRejected, match="of_a_schedule_of_the_tenant"):
        RequestStore(control).insert(
            tenant_id="other", config={"tables": ["pets"], "format": "csv"}, schedule_id=schedule.id
        )


def test_the_host_application_cannot_pose_as_a_schedule(migrated: str, store: ScheduleStore) -> None:
    schedule = save(store)
    with psycopg.connect(migrated) as connection:
        connection.execute("CREATE ROLE host_of_schedules")
        connection.execute("GRANT USAGE ON SCHEMA export_control TO host_of_schedules")
        connection.execute(
            "GRANT INSERT (tenant_id, config) ON export_control.export_requests TO host_of_schedules"
        )  # as docs/request-table.md has it
        connection.execute("SET LOCAL ROLE host_of_schedules")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                """
                INSERT INTO export_control.export_requests (tenant_id, config, schedule_id, scheduled_for)
                VALUES ('t', '{"tables": ["pets"], "format": "csv"}', %s, now())
                """,
                (schedule.id,),
            )
        connection.rollback()
