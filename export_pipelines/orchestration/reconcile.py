"""Repairs what a killed process could not say: compares a silent request with what Dagster knows of its run.

Called by the run-status sensors with the run that ended and by the reconciler sensor for every silent request.
Every change is guarded by the state it expects, so calling twice, late or out of order changes nothing.
"""

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.requests import ExportRequest, RequestStore

REQUEST_TAG, ATTEMPT_TAG, TENANT_TAG = "export/request", "export/attempt", "export/tenant"
_LOST = "lost"


def run_tags(request: ExportRequest) -> dict[str, str]:
    """Tags by which a run and its request find each other."""
    return {
        REQUEST_TAG: request.id,
        ATTEMPT_TAG: str(request.attempt),
        TENANT_TAG: request.tenant_id,
        "dagster/priority": str(request.priority),
    }


def run_key(request: ExportRequest) -> str:
    return f"req-{request.id}-{request.attempt}"


def reconcile(request: ExportRequest, instance: DagsterInstance, requests: RequestStore) -> str | None:
    """What was done about a silent request, or None when its run still has its chance."""
    run = _run_of(request, instance)
    if run is None:
        return _without_run(request, requests)
    if run.status in (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING):
        return None  # run monitoring fails a run that never starts
    if not run.is_finished:
        if request.status is not RequestStatus.PROCESSING:
            return None
        instance.report_run_failed(run, f"no heartbeat from request {request.id}; its process is taken for dead")
        return _again(request, requests, f"run {run.run_id} stopped without a word")
    return ended(request, run, requests)


def ended(request: ExportRequest, run: DagsterRun, requests: RequestStore) -> str | None:
    """A run is over; make its request say so, unless it did itself or another run has it."""
    if request.run_id not in (None, run.run_id) or request.status not in (RequestStatus.QUEUED, RequestStatus.PROCESSING):
        return None
    if run.tags.get(ATTEMPT_TAG, str(request.attempt)) != str(request.attempt):
        return None
    if run.status is DagsterRunStatus.CANCELED or request.cancel_requested:
        done = requests.end_cancelled(request.id, run_id=run.run_id, message=f"run {run.run_id} was terminated")
        return "cancelled" if done else None
    if request.status is RequestStatus.QUEUED and run.status is DagsterRunStatus.SUCCESS:
        return None
    return _again(request, requests, f"run {run.run_id} ended as {run.status.value} before the export was published")


def _run_of(request: ExportRequest, instance: DagsterInstance) -> DagsterRun | None:
    if request.run_id is not None:
        return instance.get_run_by_id(request.run_id)
    tags = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempt)}
    found = instance.get_runs(RunsFilter(tags=tags), limit=1)
    return found[0] if found else None


def _without_run(request: ExportRequest, requests: RequestStore) -> str | None:
    if request.status is RequestStatus.QUEUED and request.launched_by == "sensor":
        return None  # the request sensor asks for a run until there is one
    if request.status is RequestStatus.QUEUED:
        message = "the process that made this request ended before it began; retry it"
        return "failed" if requests.fail(request.id, run_id=None, error_type=_LOST, message=message) else None
    return _again(request, requests, f"Dagster knows no run {request.run_id}")


def _again(request: ExportRequest, requests: RequestStore, message: str) -> str | None:
    if request.cancel_requested:
        done = requests.end_cancelled(request.id, run_id=request.run_id, message="cancelled on request")
        return "cancelled" if done else None
    if requests.requeue(request.id, attempt=request.attempt, error_type=_LOST, message=message):
        return "queued again"
    done = requests.fail(request.id, run_id=request.run_id, error_type=_LOST, message=f"{message}; attempts are used up")
    return "failed" if done else None
