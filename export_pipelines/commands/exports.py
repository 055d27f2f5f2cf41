"""``export``: one export in this process."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from export_pipelines.commands import output
from export_pipelines.commands.control import record
from export_pipelines.commands.estimates import estimated
from export_pipelines.commands.local_run import run_here
from export_pipelines.commands.ordering import (
    Aggregates,
    AsJson,
    Compression,
    Email,
    Encrypt,
    Fields,
    Filters,
    Format,
    From,
    IncludeDeleted,
    ManyFiles,
    MaxSize,
    Modules,
    Options,
    Recipients,
    Split,
    Tables,
    Tenant,
    Title,
    To,
    encryption,
    export_order,
    require_tenant_id,
)
from export_pipelines.commands.passwords import PasswordFile
from export_pipelines.core.access import Action
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import TenantScope
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.embedded.workplace import Workplace, prepared
from export_pipelines.packaging.omissions import account, notable
from export_pipelines.pipeline.assembly import open_catalog, open_object_store
from export_pipelines.pipeline.planning.plan import check_order
from export_pipelines.pipeline.verification.published import published_omissions
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.requests import ExportRequest

_COPY_BYTES = 1 << 20


def export(
    tenant: Tenant,
    format_: Format,
    tables: Tables = "",
    module: Modules = None,
    from_: From = None,
    to: To = None,
    fields: Fields = None,
    filter_: Filters = None,
    aggregate: Aggregates = None,
    compression: Compression = "none",
    split: Split = None,
    max_size_mb: MaxSize = None,
    many_files: ManyFiles = False,
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    password_file: PasswordFile = None,
    option: Options = None,
    name: Title = "",
    email: Email = None,
    include_deleted: IncludeDeleted = False,
    output_: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the package into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export a tenant's tables: the same request and the same job as in the service, in this process."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        config = export_order(
            tables=tables,
            modules=module,
            format_=format_,
            dates=(from_, to),
            fields=fields,
            filters=filter_,
            aggregates=aggregate,
            compression=compression,
            split=split,
            max_size_mb=max_size_mb,
            many_files=many_files,
            encryption=encryption(encrypt, recipient or [], password_file, settings),
            option=option,
            name=name,
            email=email,
            include_deleted=include_deleted,
        )
        require_tenant_id(tenant)
        check_order(config, TenantScope(tenant_id=tenant), open_catalog(settings))  # before anything is started
        run_request(config, tenant, output_, settings, as_json=as_json)


def run_request(
    config: dict[str, Any],
    tenant: str,
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
    with prepared(settings) as workplace:
        store = open_object_store(workplace.settings)  # refused here, before there is a request
        os.environ.update(workplace.environment)  # for Dagster, which reads it in this process
        expected = estimated(config, tenant, workplace)
        request = run_here(config, tenant, workplace, store, estimate=expected, quiet=as_json)
        if request.status is not RequestStatus.COMPLETED:
            message = f"request {request.id} {request.status}: {request.error_message}"
            output.stop(message, request.error_type or "internal", as_json=as_json)
        if folder is not None:
            with closing(ControlDatabase(workplace.settings.require_control_url())) as control:
                record(control, Action.DOWNLOAD, target=("export", request.id), tenant_id=tenant)
            copy_package(store, str(request.package_prefix), folder)
        _tell(request, store, folder, workplace, as_json=as_json)


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


def _tell(
    request: ExportRequest, store: ObjectStore, folder: Path | None, workplace: Workplace, *, as_json: bool
) -> None:
    deliveries = DeliveryStore(ControlDatabase(workplace.settings.require_control_url()))
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
        output.say(f"  mail to {delivery['recipient']}: {delivery['status']}{problem}")
    for line in notable(stated):
        output.say(f"  {line}")
    output.say(f"{request.package_rows:,} rows, verified against the source, in {where}")
