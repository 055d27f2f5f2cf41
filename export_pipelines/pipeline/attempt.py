"""One attempt at an export: the right to work on its request, a heartbeat in every step, an honest end when it fails.

Whoever runs the steps (a run of Dagster, or a process of its own) is a `Worker` here. Hooks of an orchestrator miss
cancellation and its sensors lag, so a step itself writes what happened into the request; the reconciler speaks for the
attempts that were killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
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
from export_pipelines.pipeline.progress import RunProgress, reporting
from export_pipelines.pipeline.publish.publish import abandon
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest, RequestStore

_FINAL = (RequestRejected, IntegrityViolation)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Who works on a request, as the request table names it."""

    run_id: str
    parent_run_id: str | None = None  # of the run that this one executes again
    attempt: int | None = None  # that it was made for; None: the newest
    interruptions: tuple[type[BaseException], ...] = (KeyboardInterrupt,)  # raised where somebody ends the work
    terminated_by: Callable[[], str | None] = lambda: None  # why, if somebody meant to end it for good


def take(requests: RequestStore, request_id: str, worker: Worker) -> ExportRequest:
    """The request, held by this worker; `Cancelled` when another one has it or it is not open any more.

    A run made for one attempt never takes another; a re-execution takes the newest.
    """
    request = requests.get(request_id)
    if request.status in (RequestStatus.FAILED, RequestStatus.CANCELLED) and requests.reopen(
        request_id, parent_run_id=worker.parent_run_id
    ):
        request = requests.get(request_id)
    attempt = worker.attempt or request.attempt
    if not requests.claim(request_id, attempt=attempt, run_id=worker.run_id, parent_run_id=worker.parent_run_id):
        raise Cancelled(
            f"request {request_id} is {request.status}, attempt {request.attempt}, held by run {request.run_id}; "
            "nothing to do here"
        )
    return requests.get(request_id)


@contextmanager
def step(
    worker: Worker, services: ExportServices, plan: ExportPlan, name: str, *, expected_rows: int
) -> Iterator[RunProgress]:
    """Run one step under the request's heartbeat; one line in the log says how long it took."""
    ids = {"request": plan.request_id, "tenant": plan.scope.tenant_id, "run": worker.run_id, "attempt": plan.attempt}
    with bound_contextvars(**ids), _logged(name), ending(worker, services, plan.request_id):
        if services.requests.get(plan.request_id).run_id != worker.run_id:
            take(services.requests, plan.request_id, worker)
        with reporting(
            services.requests,
            plan.request_id,
            worker.run_id,
            step=name,
            expected_rows=expected_rows,
            every_seconds=services.settings.heartbeat_seconds,
        ) as progress:
            yield progress


@contextmanager
def ending(worker: Worker, services: ExportServices, request_id: str) -> Iterator[None]:
    """Write the outcome of an error into the request, and raise the error again."""
    try:
        yield
    except worker.interruptions:
        _end(services, request_id, worker.run_id, lambda held: _interrupted(held, worker, services.requests))
        raise
    except Cancelled as error:
        message = str(error)
        _end(services, request_id, worker.run_id, lambda held: _cancel(held, message, services.requests))
        raise
    except Exception as error:
        kind, message = error_type_of(error), message_of(error, worker.run_id)
        final = isinstance(error, _FINAL)
        _end(
            services,
            request_id,
            worker.run_id,
            lambda held: _fail(held, kind, message, services.requests, final=final),
        )
        raise


def message_of(error: BaseException, run_id: str) -> str:
    """What the request and the orchestrator are told: the text of our own errors, only the type of others."""
    if isinstance(error, ExportError):
        return str(error)
    return f"unexpected {type(error).__name__}; see the log of run {run_id}"


@contextmanager
def _logged(name: str) -> Iterator[None]:
    started, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "done"
    finally:
        _log.info("step", step=name, outcome=outcome, seconds=round(time.monotonic() - started, 3))


def _end(services: ExportServices, request_id: str, run_id: str, say: Callable[[ExportRequest], object]) -> None:
    """Speak for the request while this worker holds it, and take away what the attempt had staged."""
    try:
        request = services.requests.get(request_id)
        if request.run_id == run_id and request.status is RequestStatus.PROCESSING:
            say(request)
            abandon(request, services.requests, services.store, services.exclusively)
    except Unavailable:
        return  # the control database is down as well; the heartbeat has stopped and the reconciler will see it


def _interrupted(request: ExportRequest, worker: Worker, requests: RequestStore) -> None:
    """Somebody ended the work, or the service stops and the export is to go on with the next start."""
    why = worker.terminated_by()
    if why is None and requests.give_back(
        request.id, run_id=worker.run_id, message="the service was stopped while this run was at work"
    ):
        return
    _cancel(request, f"run {worker.run_id} was terminated: {why or 'interrupted'}", requests)


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
