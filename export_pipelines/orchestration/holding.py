"""What surrounds every step of an export run: the right to work on the request, and an honest end when it fails.

Hooks miss cancellation and status sensors lag, so a step itself says what happened; the reconciler speaks for
the ones that were killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Failure, MetadataValue, OpExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError

from export_pipelines.core.errors import (
    Cancelled,
    ExportError,
    IntegrityViolation,
    RequestRejected,
    Unavailable,
    error_type_of,
)
from export_pipelines.core.model import ExportPlan
from export_pipelines.core.naming import stage_prefix
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.progress import RunProgress, reporting
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest, RequestStore

_FINAL = (RequestRejected, IntegrityViolation)


def take(requests: RequestStore, request_id: str, *, run_id: str, parent_run_id: str | None) -> ExportRequest:
    """The request, held by this run; `Cancelled` when another run has it or it is not open any more."""
    request = requests.get(request_id)
    if request.status in (RequestStatus.FAILED, RequestStatus.CANCELLED) and requests.reopen(
        request_id, parent_run_id=parent_run_id
    ):
        request = requests.get(request_id)
    if not requests.claim(request_id, attempt=request.attempt, run_id=run_id, parent_run_id=parent_run_id):
        raise Cancelled(f"request {request_id} is {request.status} and held by run {request.run_id}; nothing to do here")
    return requests.get(request_id)


@contextmanager
def step(
    context: OpExecutionContext, services: ExportServices, plan: ExportPlan, name: str, *, expected_rows: int
) -> Iterator[RunProgress]:
    """Run one step under the request's heartbeat."""
    run_id, parent = context.run.run_id, context.run.parent_run_id
    with ending(services, plan.request_id, run_id):
        if services.requests.get(plan.request_id).run_id != run_id:
            take(services.requests, plan.request_id, run_id=run_id, parent_run_id=parent)
        with reporting(
            services.requests,
            plan.request_id,
            run_id,
            step=name,
            expected_rows=expected_rows,
            every_seconds=services.heartbeat_seconds,
        ) as progress:
            yield progress


@contextmanager
def ending(services: ExportServices, request_id: str, run_id: str) -> Iterator[None]:
    """Write the outcome of an error into the request, then fail the step without Dagster's own retries."""
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _cancel(services, request_id, run_id, f"run {run_id} was terminated")
        raise
    except Cancelled as error:
        _cancel(services, request_id, run_id, str(error))
        raise _failure(error, str(error)) from error
    except Exception as error:
        known = isinstance(error, ExportError)
        message = str(error) if known else f"unexpected {type(error).__name__}; see the log of run {run_id}"
        _fail(services, request_id, run_id, error, message)
        raise _failure(error, message) from error


def _cancel(services: ExportServices, request_id: str, run_id: str, message: str) -> None:
    request = services.requests.get(request_id)
    if request.run_id == run_id and services.requests.end_cancelled(request_id, run_id=run_id, message=message):
        services.store.delete(stage_prefix(request_id, request.attempt))


def _fail(services: ExportServices, request_id: str, run_id: str, error: Exception, message: str) -> None:
    requests = services.requests
    try:
        request = requests.get(request_id)
        if request.run_id != run_id:
            return
        kind = error_type_of(error)
        again = not isinstance(error, _FINAL) and requests.requeue(
            request_id, attempt=request.attempt, error_type=kind, message=message
        )
        if not again:
            requests.fail(request_id, run_id=run_id, error_type=kind, message=message)
    except Unavailable:
        return  # the control database is down as well; the heartbeat has stopped and the reconciler will see it


def _failure(error: Exception, message: str) -> Failure:
    return Failure(
        description=message, metadata={"error_type": MetadataValue.text(error_type_of(error))}, allow_retries=False
    )
