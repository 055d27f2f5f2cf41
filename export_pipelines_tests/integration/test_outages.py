"""What an export needs does not answer: its request waits, and its attempts are for faults of its own."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from export_pipelines.stores.attempts import BACKOFF_SECONDS, LONGEST_PAUSE_SECONDS
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.service_state import ServiceStateStore
from export_pipelines_tests.control_database import emptied

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
DEADLINE = dt.timedelta(hours=1)
DOWN: dict[str, Any] = {"error_type": "unavailable", "message": "the source does not answer"}


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("outages")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as opened:
        yield opened


@pytest.fixture
def requests(control: ControlDatabase) -> RequestStore:
    return RequestStore(control, outage_deadline=DEADLINE)


def held(requests: RequestStore, tenant_id: str = "t") -> str:
    request_id = requests.insert(tenant_id=tenant_id, config=CONFIG)
    assert requests.claim(request_id, attempt=1, run_id="r1")
    return request_id


def meet_outage(requests: RequestStore, request_id: str, **changes: Any) -> bool:
    """The attempt at work, or the next one, meets an outage."""
    request = requests.get(request_id)
    if request.run_id is None:
        assert requests.claim(request_id, attempt=request.attempt, run_id=f"r{request.attempt}")
    run_id = f"r{request.attempt}"
    return requests.postpone(request_id, attempt=request.attempt, run_id=run_id, **{**DOWN, **changes})


def left(requests: RequestStore, request_id: str) -> int:
    request = requests.get(request_id)
    return request.max_attempts - request.attempt


def test_outages_use_up_no_attempt_and_pauses_grow_to_a_limit(control: ControlDatabase, requests: RequestStore) -> None:
    request_id, pauses = held(requests), []
    for _ in range(7):
        assert meet_outage(requests, request_id)
        (row,) = control.rows(
            "SELECT extract(epoch FROM not_before - now()) AS pause FROM export_control.export_requests"
        )
        pauses.append(round(row["pause"]))
        assert left(requests, request_id) == 2
    assert pauses == [BACKOFF_SECONDS * factor for factor in (1, 2, 4, 8, 16)] + [LONGEST_PAUSE_SECONDS] * 2


def test_faults_of_the_export_itself_still_count_beside_outages(requests: RequestStore) -> None:
    request_id = held(requests)
    for attempt in (1, 3, 5):
        assert meet_outage(requests, request_id)
        requests.claim(request_id, attempt=attempt + 1, run_id="own")
        counted = requests.requeue(
            request_id, attempt=attempt + 1, run_id="own", error_type="internal", message="a fault"
        )
        assert counted is (attempt < 5)


def test_a_request_says_when_and_why_it_is_tried_next(control: ControlDatabase, requests: RequestStore) -> None:
    request_id = held(requests)
    assert meet_outage(requests, request_id)
    (row,) = control.rows(
        "SELECT error_type, error_message, not_before AS next, unavailable_since + interval '1 hour' AS last "
        "FROM export_control.export_requests"
    )
    next_, last = (f"{row[name].astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC" for name in ("next", "last"))
    assert row["error_type"] == "unavailable"
    assert row["error_message"] == (
        f"the source does not answer; this uses up no attempt: the next one is due at {next_}, "
        f"the last one before {last}"
    )


def test_an_outage_ends_at_its_deadline_and_another_one_begins_anew(
    control: ControlDatabase, requests: RequestStore
) -> None:
    request_id = held(requests)
    assert meet_outage(requests, request_id)
    control.rows("UPDATE export_control.export_requests SET unavailable_since = now() - interval '61 minutes'")
    assert not meet_outage(requests, request_id)
    attempt = requests.get(request_id).attempt
    assert requests.requeue(
        request_id, attempt=attempt, run_id=f"r{attempt}", error_type="internal", message="it got that far"
    )
    assert meet_outage(requests, request_id)


def test_a_retry_by_hand_has_the_whole_deadline_again(control: ControlDatabase, requests: RequestStore) -> None:
    request_id = held(requests)
    assert meet_outage(requests, request_id)
    control.rows("UPDATE export_control.export_requests SET unavailable_since = now() - interval '61 minutes'")
    attempt = requests.get(request_id).attempt
    assert requests.fail(request_id, attempt=attempt, run_id=None, **DOWN)
    requests.retry(request_id)
    assert meet_outage(requests, request_id)


@pytest.mark.parametrize("change", ["launched_by = 'cli'", "cancel_requested = true", "run_id = 'another'"])
def test_only_a_request_that_is_this_runs_and_the_services_waits(
    change: str, control: ControlDatabase, requests: RequestStore
) -> None:
    request_id = held(requests)
    control.rows(f"UPDATE export_control.export_requests SET {change}")
    assert not requests.postpone(request_id, attempt=1, run_id="r1", **DOWN)
    assert requests.get(request_id).status == "processing"


def test_those_that_waited_go_on_in_the_order_in_which_they_came(requests: RequestStore) -> None:
    first, second = held(requests, "a"), held(requests, "b")
    for _ in range(3):
        assert meet_outage(requests, first)
    assert meet_outage(requests, second)
    later = requests.insert(tenant_id="c", config=CONFIG)
    assert [each.id for each in requests.launchable()] == [later]
    assert requests.awaiting() == 2
    assert requests.release() == 2
    assert [each.id for each in requests.launchable()] == [first, second, later]
    assert (requests.awaiting(), requests.release()) == (0, 0)


def test_a_pause_after_a_fault_of_the_export_is_not_cut_short(requests: RequestStore) -> None:
    request_id = held(requests)
    requests.requeue(request_id, attempt=1, run_id="r1", error_type="internal", message="a fault")
    assert requests.release() == 0
    assert requests.launchable() == []


@pytest.mark.parametrize(
    ("heartbeat", "expected"),
    [
        ("pg_postmaster_start_time() - interval '1 second'", True),
        ("pg_postmaster_start_time() + interval '1 second'", False),
        ("'2126-01-01 12:00:00+00'::timestamptz", True),
        ("'2126-01-01 12:10:00+00'::timestamptz", True),
        ("'2126-01-01 11:50:00+00'::timestamptz", False),
        ("'2126-01-01 12:21:00+00'::timestamptz", False),
    ],
)
def test_a_run_that_fell_silent_together_with_the_service_is_no_fault_of_the_export(
    heartbeat: str, expected: bool, control: ControlDatabase, requests: RequestStore
) -> None:
    request_id = held(requests)
    ServiceStateStore(control).look()
    control.rows(
        "UPDATE export_control.service_state "
        "SET silent_from = '2126-01-01 12:00:20+00', silent_until = '2126-01-01 12:20:00+00'"
    )
    control.rows(f"UPDATE export_control.export_requests SET heartbeat_at = {heartbeat}")
    assert requests.lost_in_outage(request_id) is expected


def test_a_run_that_takes_the_service_with_it_again_and_again_uses_up_attempts(requests: RequestStore) -> None:
    request_id = held(requests)
    outcomes = [meet_outage(requests, request_id, lost=True) for _ in range(6)]
    assert outcomes == [True] * 5 + [False]
