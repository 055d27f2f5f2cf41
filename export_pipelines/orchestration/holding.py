"""What surrounds every step of an export run: the right to work on the request, and an honest end when it fails.

Hooks miss cancellation and status sensors lag, so a step itself says what happened; the reconciler speaks for
the ones that were killed.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from dagster import DagsterRun, Failure, MetadataValue, OpExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError
from structlog.contextvars import bound_contextvars

from export_pipelines.core.errors import (
    Cancelled,
    ExportError,
    IntegrityViolation,
    RequestRejected,
    Unavailable,
    error_type_of,
)
from export_pipelines.core.model import ExportPlan
from export_pipelines.core.status import RequestStatus
from export_pipelines.orchestration.reconcile import termination
from export_pipelines.pipeline.progress import RunProgress, reporting
from export_pipelines.pipeline.publish import abandon
from export_pipelines.pipeline.runs import ATTEMPT_TAG
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest, RequestStore

_FINAL = (RequestRejected, IntegrityViolation)
_log = structlog.get_logger(__name__)


def take(requests: RequestStore, request_id: str, run: DagsterRun) -> ExportRequest:
    """The request, held by this run; `Cancelled` when another run has it or it is not open any more.

    A run made for one attempt never takes another; a re-execution, which copies its parent's tags, takes the newest.
    """
    request = requests.get(request_id)
    if request.status in (RequestStatus.FAILED, RequestStatus.CANCELLED) and requests.reopen(
        request_id, parent_run_id=run.parent_run_id
    ):
        request = requests.get(request_id)
    made_for = None if run.parent_run_id else run.tags.get(ATTEMPT_TAG)
    attempt = int(made_for) if made_for else request.attempt
    if not requests.claim(request_id, attempt=attempt, run_id=run.run_id, parent_run_id=run.parent_run_id):
        raise Cancelled(
            f"request {request_id} is {request.status}, attempt {request.attempt}, held by run {request.run_id}; "
            "nothing to do here"
        )
    return requests.get(request_id)


@contextmanager
def step(
    context: OpExecutionContext, services: ExportServices, plan: ExportPlan, name: str, *, expected_rows: int
) -> Iterator[RunProgress]:
    """Run one step under the request's heartbeat; one line in the log says how long it took."""
    run_id = context.run.run_id
    ids = {"request": plan.request_id, "tenant": plan.scope.tenant_id, "run": run_id, "attempt": plan.attempt}
    with bound_contextvars(**ids), _told(name), ending(context, services, plan.request_id):
        if services.requests.get(plan.request_id).run_id != run_id:
            take(services.requests, plan.request_id, context.run)
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
def _told(name: str) -> Iterator[None]:
    started, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "done"
    finally:
        _log.info("step", step=name, outcome=outcome, seconds=round(time.monotonic() - started, 3))


@contextmanager
def ending(context: OpExecutionContext, services: ExportServices, request_id: str) -> Iterator[None]:
    """Write the outcome of an error into the request, then fail the step without Dagster's own retries."""
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        _said(services, request_id, context.run_id, lambda held: _interrupted(held, context, services.requests))
        raise
    except Cancelled as error:
        message = str(error)
        _said(services, request_id, context.run_id, lambda held: _cancel(held, message, services.requests))
        raise _failure(error, message) from error
    except Exception as error:
        kind, known = error_type_of(error), isinstance(error, ExportError)
        message = str(error) if known else f"unexpected {type(error).__name__}; see the log of run {context.run_id}"
        final = isinstance(error, _FINAL)
        _said(
            services,
            request_id,
            context.run_id,
            lambda held: _fail(held, kind, message, services.requests, final=final),
        )
        raise _failure(error, message) from error


def _said(services: ExportServices, request_id: str, run_id: str, say: Callable[[ExportRequest], object]) -> None:
    """Speak for the request while this run holds it, and take away what the attempt had staged."""
    try:
        request = services.requests.get(request_id)
        if request.run_id == run_id and request.status is RequestStatus.PROCESSING:
            say(request)
            abandon(request, services.requests, services.store, services.exclusively)
    except Unavailable:
        return  # the control database is down as well; the heartbeat has stopped and the reconciler will see it


def _interrupted(request: ExportRequest, context: OpExecutionContext, requests: RequestStore) -> None:
    """Somebody ended the run, or the service stops and the export is to go on with the next start."""
    why = termination(context.instance, context.run_id)
    if why is None and requests.give_back(
        request.id, run_id=context.run_id, message="the service was stopped while this run was at work"
    ):
        return
    _cancel(request, f"run {context.run_id} was terminated: {why or 'interrupted'}", requests)


def _cancel(request: ExportRequest, message: str, requests: RequestStore) -> None:
    requests.end_cancelled(request.id, attempt=request.attempt, run_id=request.run_id, message=message)


def _fail(request: ExportRequest, kind: str, message: str, requests: RequestStore, *, final: bool) -> None:
    attempt, run_id = request.attempt, request.run_id
    if kind == Unavailable.error_type and requests.postpone(
        request.id, attempt=attempt, run_id=run_id, error_type=kind, message=message
    ):
        return
    if kind == Unavailable.error_type and request.launched_by == "sensor":
        message, final = f"{message}; nothing answered until the deadline for outages", True
    if final or not requests.requeue(request.id, attempt=attempt, run_id=run_id, error_type=kind, message=message):
        requests.fail(request.id, attempt=attempt, run_id=run_id, error_type=kind, message=message)


def _failure(error: Exception, message: str) -> Failure:
    return Failure(
        description=message, metadata={"error_type": MetadataValue.text(error_type_of(error))}, allow_retries=False
    )
