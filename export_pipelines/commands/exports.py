"""``export``: one export in this process."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.control import record
from export_pipelines.commands.estimates import estimated
from export_pipelines.commands.expanding import expanded
from export_pipelines.commands.local_run import run_here
from export_pipelines.commands.ordering import AsJson, OrderOptions, Tenant, new_order, order_of
from export_pipelines.core.access import Action
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.embedded.workplace import prepared
from export_pipelines.packaging.omissions import account, notable
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.orders import EstimatedOrder, Order, PlannedOrder, plan_order
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.pipeline.verification.published import published_omissions
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.requests import ExportRequest

_COPY_BYTES = 1 << 20


Folder = Annotated[Path | None, typer.Option("--output", "-o", help="Copy the package into this folder.")]


@expanded(required=("format_",))
def export(tenant: Tenant, options: OrderOptions, output_: Folder = None, as_json: AsJson = False) -> None:
    """Export a tenant's tables: the same request and the same job as in the service, in this process."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        order, here = order_of(new_order(options, settings), tenant), open_destinations(settings)
        # Before anything is started.
        planned = plan_order(order, open_catalog(settings), destinations=here, longest_keep=settings.keep)
        run_request(planned, output_, settings, as_json=as_json)


def run_request(
    wanted: Order | PlannedOrder,
    folder: Path | None,
    settings: Settings,
    *,
    as_json: bool,
) -> None:
    """Run the request here, copy its package into the folder, and tell; leaves with an exit code when it failed.

    What the plan would refuse is refused before there is a request.
    """
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestRejected(f"{folder} exists and is not an empty folder", field="--output")
    _make_folder(folder)
    with prepared(settings) as workplace, open_services(workplace.settings) as services:
        _ = services.store  # refused here, before there is a request
        os.environ.update(workplace.environment)  # for Dagster, which reads it in this process
        planned, estimate = estimated(wanted, services)
        request = run_here(EstimatedOrder(planned=planned, estimate=estimate), services, quiet=as_json)
        if request.status is not RequestStatus.COMPLETED:
            message = f"request {request.id} {request.status}: {request.error_message}"
            output.stop(message, request.error_type or "internal", as_json=as_json)
        if folder is not None:
            record(services.control, Action.DOWNLOAD, target=("export", request.id), tenant_id=request.tenant_id)
            copy_package(services.store, str(request.package_prefix), folder)
        _tell(request, services, folder, as_json=as_json)


def _make_folder(folder: Path | None) -> None:
    """Before the export, so that a place that cannot be written to costs nothing."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestRejected(f"{folder} cannot be made: {error.strerror}", field="--output") from error


def copy_package(store: ObjectStore, prefix: str, folder: Path) -> None:
    """A published package as plain files, the manifest last."""
    keys = sorted((key for key, _ in store.list(prefix)), key=lambda key: key.endswith("manifest.json"))
    for key in keys:
        target = folder / key.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        with store.reading(key) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, _COPY_BYTES)


def _tell(request: ExportRequest, services: ExportServices, folder: Path | None, *, as_json: bool) -> None:
    store, deliveries = services.store, services.deliveries
    files, sent = deliveries.files_of(request.id), deliveries.of_request(request.id)
    where = str(folder) if folder else store.url(str(request.package_prefix))
    stated = published_omissions(request, store)
    if as_json:
        listed = {"files": files, "deliveries": sent, "package": where}
        output.say_json({**asdict(request), **listed, "left_out": account(stated)})
        return
    for file in files:
        rows = f"{file['rows']:,} rows" if file["rows"] else ""
        output.say(f"  {file['path']:44} {rows:>17}  {output.size(file['size_bytes']):>9}")
    for delivery in sent:
        problem = f" ({delivery['error_message']})" if delivery["error_message"] else ""
        output.say(f"  {delivery['method']} to {delivery['recipient']}: {delivery['status']}{problem}")
    for line in notable(stated):
        output.say(f"  {line}")
    output.say(f"{request.package_rows:,} rows, verified against the source, in {where}")
