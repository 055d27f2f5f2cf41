"""A request and its run inside the process of a command, with a progress bar, and an end whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from export_pipelines.commands import output
from export_pipelines.commands.control import record
from export_pipelines.core.access import Action
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.planning.orders import EstimatedOrder, insert_order
from export_pipelines.pipeline.publish.publish import abandon
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings
from export_pipelines.stores.batches import BatchStore
from export_pipelines.stores.requests import ExportRequest, RequestStore

_POLL_SECONDS = 0.5
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the outcome is said once, by us
_OPEN = (RequestStatus.QUEUED, RequestStatus.PROCESSING)


def run_here(order: EstimatedOrder, services: ExportServices, *, quiet: bool) -> ExportRequest:
    """Insert the request and run its job in this process; the request as it ended."""
    from dagster import DagsterInstance

    from export_pipelines.definitions import defs
    from export_pipelines.pipeline.planning.runs import job_name, run_config, run_tags

    requests = services.requests
    request = _inserted(order, services)
    close = partial(_close, request.id, services)
    job = defs.resolve_job_def(job_name(request))
    with DagsterInstance.get() as instance, _watched(request.id, services.settings, quiet=quiet):
        ended = threading.Event()

        def run() -> None:
            try:
                job.execute_in_process(
                    run_config={**run_config(request), **_QUIET},
                    instance=instance,
                    tags=run_tags(request),
                    raise_on_error=False,
                )
            finally:
                ended.set()

        # In a thread of its own, since Ctrl-C inside a callback of some library is lost or turned into another error.
        threading.Thread(target=run, name="run", daemon=True).start()
        _wait(ended, close, request.id, requests)
    close()
    return requests.get(request.id)


def _inserted(order: EstimatedOrder, services: ExportServices) -> ExportRequest:
    """The new request; it is in the audit log, or it is not there."""
    written, config = order.planned.order.configuration.written, order.planned.order.configuration.config
    action = Action.CONVERT if config.convert else Action.BULK if config.is_bulk else Action.CREATE
    control, tenant = services.control, order.planned.order.scope.tenant_id
    with control.transaction():
        batch_id = None
        if config.is_bulk:
            batch_id = BatchStore(control).insert(
                tenant_id=tenant,
                requested_by="cli",
                export_type=config.export_type,
                total_tables=len(order.planned.plan.selections),
            )
        request = insert_order(order, services.requests, launched_by="cli", batch_id=batch_id)
        detail = {name: written[name] for name in ("convert", "export_type", "format") if written.get(name)}
        record(control, action, target=("export", request.id), tenant_id=tenant, detail=detail)
    return request


def _wait(ended: threading.Event, close: Callable[[], None], request_id: str, requests: RequestStore) -> None:
    """Ctrl-C cancels the request, which its run notices soon; a second one does not wait for that."""
    try:
        _until(ended)
    except KeyboardInterrupt:
        with suppress(RequestRejected):  # it has ended meanwhile
            requests.request_cancel(request_id)
        try:
            _until(ended)
        except KeyboardInterrupt:
            close()
            raise


def _until(ended: threading.Event) -> None:
    """Wait in pieces: the signal may reach another thread, and this one has to wake up to act on it."""
    while not ended.wait(_POLL_SECONDS):
        pass


def _close(request_id: str, services: ExportServices) -> None:
    """Steps speak for the request; before the first of them, and when nobody waits for them, this does."""
    requests = services.requests
    request = requests.get(request_id)
    if request.status not in _OPEN:
        return
    attempt, run_id = request.attempt, request.run_id
    if request.cancel_requested:
        requests.end_cancelled(request.id, attempt=attempt, run_id=run_id, message="interrupted")
    else:
        message = "the run ended outside of its steps; see its log in Dagster"
        requests.fail(request.id, attempt=attempt, run_id=run_id, error_type="internal", message=message)
    abandon(request, requests, services.store, services.exclusively)


@contextmanager
def _watched(request_id: str, settings: Settings, *, quiet: bool) -> Iterator[None]:
    """A progress bar fed from the request row, as everybody else sees it."""
    if quiet or not output.err.is_terminal:
        yield
        return
    ended = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:>12} rows"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=output.err, transient=True) as bars:
        bar = bars.add_task("exporting", total=100, rows=0)

        def follow() -> None:
            with open_services(settings) as watching:  # a connection of its own, so that nobody waits for it
                while not ended.wait(_POLL_SECONDS):
                    seen = watching.requests.get(request_id)
                    bars.update(
                        bar,
                        completed=seen.percentage,
                        rows=seen.rows_processed,
                        description=seen.current_table or "exporting",
                    )

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
