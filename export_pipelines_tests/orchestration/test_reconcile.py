"""Requests and Dagster's runs that lost each other: what is repaired, and what is left alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRun, DagsterRunStatus, RunRecord
from dagster._core.test_utils import create_run_for_test

from export_pipelines.core.errors import Cancelled
from export_pipelines.core.status import RequestStatus
from export_pipelines.orchestration.attempt_ops import worker_of
from export_pipelines.orchestration.reconcile import ended, forgotten, reconcile
from export_pipelines.pipeline.attempt import take
from export_pipelines.pipeline.planning.runs import EXPORT_JOB, run_tags
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines_tests.workshop import Workshop

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
MINUTE = dt.timedelta(minutes=1)
S = DagsterRunStatus


@pytest.fixture
def requests(workshop: Workshop) -> RequestStore:
    return workshop.services.requests


@pytest.fixture
def make_run(workshop: Workshop) -> Callable[..., DagsterRun]:
    """``make_run(request, status)``: a run for the request's attempt that Dagster has brought to that status."""

    def make(request: ExportRequest, status: DagsterRunStatus) -> DagsterRun:
        run = create_run_for_test(workshop.instance, job_name=EXPORT_JOB, status=S.NOT_STARTED, tags=run_tags(request))
        events = {
            S.NOT_STARTED: [],
            S.STARTING: [DagsterEventType.RUN_STARTING],
            S.STARTED: [DagsterEventType.RUN_START],
            S.CANCELING: [DagsterEventType.RUN_START, DagsterEventType.RUN_CANCELING],
            S.SUCCESS: [DagsterEventType.RUN_START, DagsterEventType.RUN_SUCCESS],
            S.FAILURE: [DagsterEventType.RUN_START, DagsterEventType.RUN_FAILURE],
            S.CANCELED: [DagsterEventType.RUN_START, DagsterEventType.RUN_CANCELED],
        }
        for event in events[status]:
            workshop.instance.report_dagster_event(DagsterEvent(event.value, EXPORT_JOB), run.run_id)
        return known(workshop, run)

    return make


def known(workshop: Workshop, run: DagsterRun) -> DagsterRun:
    found = workshop.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found


def record(workshop: Workshop, run: DagsterRun) -> RunRecord:
    found = workshop.instance.get_run_record_by_id(run.run_id)
    assert found is not None
    return found


@pytest.fixture
def queued(workshop: Workshop) -> ExportRequest:
    return workshop.services.requests.get(workshop.order(CONFIG))


@pytest.fixture
def held(
    workshop: Workshop, queued: ExportRequest, make_run: Callable[..., DagsterRun]
) -> tuple[ExportRequest, DagsterRun]:
    """A request at work, and its run."""
    run = make_run(queued, S.STARTED)
    return take(workshop.services.requests, queued.id, worker_of(run)), run


def look(requests: RequestStore, request: ExportRequest) -> tuple[str, int, str | None]:
    now = requests.get(request.id)
    return now.status, now.attempt, now.run_id


# A request that is still queued -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.NOT_STARTED, S.STARTING, S.STARTED])
def test_a_queued_request_whose_run_is_on_its_way_is_left_alone(
    status: DagsterRunStatus, workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, status)
    assert reconcile(queued, workshop.instance, requests) is None
    assert look(requests, queued) == ("queued", 1, None)
    assert known(workshop, run).status is status


def test_a_run_that_fails_before_its_plan_costs_an_attempt_until_they_are_used_up(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    outcomes = []
    for _ in range(3):
        request = requests.get(queued.id)
        outcomes.append(ended(request, make_run(request, S.FAILURE), workshop.instance, requests))
    assert outcomes == ["queued again", "queued again", "failed"]
    assert "attempts are used up" in str(requests.get(queued.id).error_message)
    assert [event["attempt"] for event in requests.events(queued.id)] == [1, 2, 3, 3]


def test_a_run_cancelled_in_dagsters_queue_cancels_its_request(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, S.NOT_STARTED)
    workshop.instance.report_run_canceling(run)
    workshop.instance.report_run_canceled(run)
    assert ended(queued, known(workshop, run), workshop.instance, requests) == "cancelled"


def test_a_run_forced_to_end_before_it_began_cancels_its_request(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, S.STARTING)
    workshop.instance.report_run_canceled(run)
    assert ended(queued, known(workshop, run), workshop.instance, requests) == "cancelled"


def test_a_command_line_that_died_before_its_run_fails_its_request(workshop: Workshop, requests: RequestStore) -> None:
    request = requests.get(workshop.order(CONFIG, launched_by="cli"))
    assert reconcile(request, workshop.instance, requests) == "failed"
    assert "retry it" in str(requests.get(request.id).error_message)


def test_a_queued_request_without_a_run_waits_for_the_sensor(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest
) -> None:
    assert reconcile(queued, workshop.instance, requests) is None


# A request at work ------------------------------------------------------------------------------------------------


def test_a_run_without_a_heartbeat_is_failed_and_its_request_queued_again(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, run = held
    assert reconcile(request, workshop.instance, requests) == "queued again"
    assert known(workshop, run).status is S.FAILURE
    assert look(requests, request) == ("queued", 2, None)


@pytest.mark.parametrize("status", [S.SUCCESS, S.FAILURE])
def test_a_run_that_ended_without_publishing_is_tried_again(
    status: DagsterRunStatus, workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, status)
    request = take(requests, queued.id, worker_of(run))
    assert reconcile(request, workshop.instance, requests) == "queued again"


def test_a_request_whose_run_dagster_forgot_is_tried_again(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest
) -> None:
    requests.claim(queued.id, attempt=1, run_id="5d1b0d3e-0000-4000-8000-000000000000")
    assert reconcile(requests.get(queued.id), workshop.instance, requests) == "queued again"


def test_a_run_that_somebody_terminated_cancels_its_request(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, run = held
    workshop.instance.report_run_canceling(run)
    workshop.instance.report_run_canceled(run)
    assert ended(request, known(workshop, run), workshop.instance, requests) == "cancelled"


def test_a_run_that_died_while_it_was_being_terminated_cancels_its_request(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, run = held
    workshop.instance.report_run_canceling(run)
    assert reconcile(request, workshop.instance, requests) == "cancelled"
    assert known(workshop, run).status is S.CANCELED


def test_a_run_that_was_stopped_with_the_service_gives_its_request_back(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    """Interrupted between two steps: Dagster says CANCELED, but nobody had asked for it."""
    run = make_run(queued, S.CANCELED)
    request = take(requests, queued.id, worker_of(run))
    assert ended(request, run, workshop.instance, requests) == "queued again"
    now = requests.get(queued.id)
    assert (now.attempt, now.max_attempts) == (2, 4)


def test_a_command_line_that_was_interrupted_cancels_its_request(
    workshop: Workshop, requests: RequestStore, make_run: Any
) -> None:
    request = requests.get(workshop.order(CONFIG, launched_by="cli"))
    run = make_run(request, S.CANCELED)
    assert ended(take(requests, request.id, worker_of(run)), run, workshop.instance, requests) == "cancelled"


@pytest.mark.parametrize("status", [S.FAILURE, S.SUCCESS, S.CANCELED])
def test_a_request_that_is_to_be_cancelled_is_cancelled_however_its_run_ends(
    status: DagsterRunStatus, workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, status)
    take(requests, queued.id, worker_of(run))
    requests.request_cancel(queued.id)
    assert ended(requests.get(queued.id), run, workshop.instance, requests) == "cancelled"


# Messages that are late, repeated or not for us -------------------------------------------------------------------


@pytest.mark.parametrize("status", [S.FAILURE, S.CANCELED, S.SUCCESS])
def test_the_end_of_an_earlier_attempt_does_not_touch_the_next(
    status: DagsterRunStatus, workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    earlier = make_run(queued, status)
    requests.requeue(queued.id, attempt=1, run_id=None, error_type="lost", message="m")
    request = requests.get(queued.id)
    assert ended(request, earlier, workshop.instance, requests) is None
    taken = take(requests, queued.id, worker_of(make_run(request, S.STARTED)))
    assert ended(taken, earlier, workshop.instance, requests) is None
    assert requests.get(queued.id) == taken


def test_an_end_told_twice_from_the_same_old_view_counts_once(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, S.FAILURE)
    assert [ended(queued, run, workshop.instance, requests) for _ in range(2)] == ["queued again", None]
    assert look(requests, queued) == ("queued", 2, None)


def test_a_run_of_an_earlier_attempt_cannot_take_the_next(
    requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    late = make_run(queued, S.STARTED)
    requests.requeue(queued.id, attempt=1, run_id=None, error_type="lost", message="m")
    with pytest.raises(Cancelled, match="attempt 2"):
        take(requests, queued.id, worker_of(late))
    assert look(requests, queued) == ("queued", 2, None)


def test_a_re_execution_takes_the_request_though_it_carries_its_parents_tags(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, parent = held
    requests.fail(request.id, attempt=1, run_id=parent.run_id, error_type="internal", message="m")
    again = create_run_for_test(
        workshop.instance, job_name=EXPORT_JOB, parent_run_id=parent.run_id, root_run_id=parent.run_id, tags=parent.tags
    )
    assert take(requests, request.id, worker_of(again)).attempt == 2
    workshop.instance.report_run_failed(again)
    assert ended(requests.get(request.id), known(workshop, again), workshop.instance, requests) == "queued again"


# Runs that nobody needs -------------------------------------------------------------------------------------------


def look_for(workshop: Workshop, run: DagsterRun, *, later: dt.timedelta) -> str | None:
    now = dt.datetime.now(dt.UTC) + later
    return forgotten(record(workshop, run), workshop.instance, workshop.services.requests, silence=MINUTE, now=now)


def test_a_run_that_died_before_it_took_its_request_is_closed(
    workshop: Workshop, requests: RequestStore, queued: ExportRequest, make_run: Any
) -> None:
    run = make_run(queued, S.STARTED)
    assert look_for(workshop, run, later=MINUTE / 2) is None
    assert look_for(workshop, run, later=MINUTE * 2) == "queued again"
    assert known(workshop, run).status is S.FAILURE
    assert look(requests, queued) == ("queued", 2, None)


def test_a_run_at_work_is_left_to_its_heartbeat(workshop: Workshop, held: tuple[ExportRequest, DagsterRun]) -> None:
    assert look_for(workshop, held[1], later=MINUTE * 60) is None


def test_a_run_that_died_after_its_request_ended_is_closed_in_the_end(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, run = held
    requests.fail(request.id, attempt=1, run_id=run.run_id, error_type="internal", message="m")
    assert look_for(workshop, run, later=MINUTE * 5) is None  # it may still be sending mail
    assert look_for(workshop, run, later=MINUTE * 11) == f"run {run.run_id} closed"
    assert known(workshop, run).status is S.FAILURE
    assert requests.get(request.id).status is RequestStatus.FAILED


def test_a_run_that_lost_its_request_is_closed_and_the_request_untouched(
    workshop: Workshop, requests: RequestStore, held: tuple[ExportRequest, DagsterRun]
) -> None:
    request, run = held
    requests.requeue(request.id, attempt=1, run_id=run.run_id, error_type="lost", message="m")
    assert look_for(workshop, run, later=MINUTE * 2) == f"run {run.run_id} closed"
    assert look(requests, request) == ("queued", 2, None)


@pytest.mark.parametrize(
    "tags", [{}, {"export/request": "nonsense"}, {"export/request": "00000000-0000-4000-8000-000000000000"}]
)
def test_runs_of_others_are_none_of_our_business(tags: dict[str, str], workshop: Workshop) -> None:
    run = create_run_for_test(workshop.instance, job_name=EXPORT_JOB, status=S.STARTING, tags=tags)
    workshop.instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, EXPORT_JOB), run.run_id)
    assert look_for(workshop, run, later=MINUTE * 60) is None
    assert known(workshop, run).status is S.STARTED
