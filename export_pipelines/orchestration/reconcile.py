"""Repairs what a killed process could not say: compares requests with what Dagster knows of their runs.

Called with the run that ended by the run-status sensors, and with silent requests and forgotten runs by the
reconciler. Every change is guarded by the attempt and run it expects, so calling twice, late or out of order changes
nothing.
"""

import datetime as dt

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunRecord

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.status import RequestStatus
from export_pipelines.orchestration.runs import run_of
from export_pipelines.pipeline.planning.runs import ATTEMPT_TAG, REQUEST_TAG
from export_pipelines.stores.requests import ExportRequest, RequestStore

_LOST = "lost"
_NOT_BEGUN = (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING)
_BEGUN = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
_AFTER_PUBLISHING = 10  # times the silence that is allowed elsewhere; sending mail reports no heartbeat


def reconcile(request: ExportRequest, instance: DagsterInstance, requests: RequestStore) -> str | None:
    """What was done about a silent request, or None when its run still has its chance."""
    run = run_of(request, instance)
    if run is None:
        return _without_run(request, requests)
    if run.is_finished:
        return ended(request, run, instance, requests)
    if run.status in _NOT_BEGUN or request.status is not RequestStatus.PROCESSING:
        return None  # run monitoring fails a run that never starts, `forgotten` finds one that died before its plan
    return _bury(request, run, instance, requests, f"no heartbeat from request {request.id}")


def ended(request: ExportRequest, run: DagsterRun, instance: DagsterInstance, requests: RequestStore) -> str | None:
    """A run is over; make its request say so, unless it did itself or another run has it."""
    if not _concerns(run, request):
        return None
    if run.status is DagsterRunStatus.CANCELED and (
        request.launched_by == "cli" or termination(instance, run.run_id) is not None
    ):
        done = requests.end_cancelled(
            request.id, attempt=request.attempt, run_id=run.run_id, message=f"run {run.run_id} was terminated"
        )
        return "cancelled" if done else None
    if run.status is DagsterRunStatus.CANCELED and requests.give_back(
        request.id, run_id=run.run_id, message=f"run {run.run_id} was stopped together with the service"
    ):
        return "queued again"
    message = f"run {run.run_id} ended as {run.status.value} before it had published"
    return _again(request, run.run_id, requests, message)


def forgotten(
    record: RunRecord, instance: DagsterInstance, requests: RequestStore, *, silence: dt.timedelta, now: dt.datetime
) -> str | None:
    """What was done about a begun run whose request does not need it any more, or never heard of it.

    Its process was killed together with the code server, which would have reported it.
    """
    run = record.dagster_run
    if run.status not in _BEGUN or not _longer_than(silence, record.start_time, now):
        return None
    try:
        request = requests.get(run.tags.get(REQUEST_TAG, ""))
    except RequestRejected:
        return None  # not a run for a request
    if _concerns(run, request):
        waits = request.status is RequestStatus.QUEUED
        return _bury(request, run, instance, requests, "the run never took its request") if waits else None
    patience = silence * _AFTER_PUBLISHING if request.run_id == run.run_id else silence
    if not _longer_than(patience, _last_event_at(run, instance), now):
        return None
    fate = f"request {request.id} is {request.status} without it"
    instance.report_run_failed(run, f"its process is taken for dead; {fate}")
    return f"run {run.run_id} closed"


def termination(instance: DagsterInstance, run_id: str) -> str | None:
    """Why somebody asked Dagster to end the run; None when it ended with the service.

    A run that is interrupted ends as CANCELED either way. Only a request to end it leaves an event, or happens to a
    run that had not begun.
    """
    asked = instance.all_logs(run_id, of_type=DagsterEventType.RUN_CANCELING)
    if asked:
        return asked[-1].message or "terminated"
    record = instance.get_run_record_by_id(run_id)
    return "terminated before it began" if record is not None and record.start_time is None else None


def _last_event_at(run: DagsterRun, instance: DagsterInstance) -> float | None:
    newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    return newest[0].event_log_entry.timestamp if newest else None


def _concerns(run: DagsterRun, request: ExportRequest) -> bool:
    """Whether the request is open and this run's: held by it, or still waiting with the attempt it was made for."""
    if request.status is RequestStatus.PROCESSING:
        return request.run_id == run.run_id
    return request.status is RequestStatus.QUEUED and run.tags.get(ATTEMPT_TAG) == str(request.attempt)


def _longer_than(silence: dt.timedelta, since: float | None, now: dt.datetime) -> bool:
    return since is None or now.timestamp() - since > silence.total_seconds()


def _bury(
    request: ExportRequest, run: DagsterRun, instance: DagsterInstance, requests: RequestStore, why: str
) -> str | None:
    """End a begun run whose process is gone, in the way it was going to end, and speak for it."""
    if run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, f"{why}; its process is taken for dead")
    else:
        instance.report_run_failed(run, f"{why}; its process is taken for dead")
    over = instance.get_run_by_id(run.run_id)
    return ended(request, over, instance, requests) if over is not None else None


def _without_run(request: ExportRequest, requests: RequestStore) -> str | None:
    if request.status is RequestStatus.PROCESSING:
        return _again(request, request.run_id, requests, f"Dagster knows no run {request.run_id}")
    if request.launched_by == "sensor":
        return None  # the request sensor asks for a run until there is one
    message = "the process that made this request ended before it began; retry it"
    done = requests.fail(request.id, attempt=request.attempt, run_id=None, error_type=_LOST, message=message)
    return "failed" if done else None


def _again(request: ExportRequest, run_id: str | None, requests: RequestStore, message: str) -> str | None:
    if request.cancel_requested:
        done = requests.end_cancelled(
            request.id, attempt=request.attempt, run_id=run_id, message="cancelled on request"
        )
        return "cancelled" if done else None
    if requests.lost_in_outage(request.id) and requests.postpone(
        request.id, attempt=request.attempt, run_id=run_id, error_type=_LOST, message=message, lost=True
    ):
        return "queued again"
    if requests.requeue(request.id, attempt=request.attempt, run_id=run_id, error_type=_LOST, message=message):
        return "queued again"
    why = "a command line has one attempt" if request.launched_by == "cli" else "attempts are used up"
    done = requests.fail(
        request.id, attempt=request.attempt, run_id=run_id, error_type=_LOST, message=f"{message}; {why}"
    )
    return "failed" if done else None
