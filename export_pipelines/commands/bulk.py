"""``bulk`` and ``batches show``: whole tables or the account of the service, and how far such an order is."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from export_pipelines.commands import output
from export_pipelines.commands.control import open_control
from export_pipelines.commands.exports import run_request
from export_pipelines.commands.ordering import (
    AsJson,
    Compression,
    Deliver,
    Email,
    Encrypt,
    Options,
    Recipients,
    Tenant,
    Title,
    delivery_entries,
    encryption,
    format_option,
    require_tenant_id,
)
from export_pipelines.commands.passwords import PasswordFile
from export_pipelines.core.bulk import BulkOrder
from export_pipelines.core.configuration import MAX_PARALLEL_JOBS, explain
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import TenantScope
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.plan import check_order
from export_pipelines.settings import load_settings
from export_pipelines.stores.batches import BatchStore

app = typer.Typer(no_args_is_help=True, help="Look at bulk orders.")


class Type(StrEnum):
    FULL_BACKUP = "full_backup"
    MIGRATION = "migration"
    AUDIT = "audit"


class By(StrEnum):
    TABLE = "table"
    MONTH = "month"
    WEEK = "week"


def bulk(
    tenant: Tenant,
    type_: Annotated[Type, typer.Option("--type", help="What kind of package.")],
    tables: Annotated[str, typer.Option(help="Tables, separated by commas; default: all.")] = "",
    format_: Annotated[str, typer.Option("--format", help="Default: csv, of an audit ndjson.")] = "",
    include_deleted: Annotated[
        bool | None, typer.Option(help="Also rows that are marked as deleted; so unless --no-include-deleted.")
    ] = None,
    parallel_jobs: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_PARALLEL_JOBS, help="Tables that are read at the same time; default: 1."),
    ] = None,
    by: Annotated[By, typer.Option(help="A file for each table, or for each month or week of it.")] = By.TABLE,
    point_in_time: Annotated[
        str | None, typer.Option(help="full_backup: as materialised at or before this instant.")
    ] = None,
    compression: Compression = "none",
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    password_file: PasswordFile = None,
    option: Options = None,
    name: Title = "",
    email: Email = None,
    deliver: Deliver = None,
    output_: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the package into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Export whole tables, with what restores them elsewhere, or what the service did for a tenant; in this process."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        wanted = {
            "export_type": type_.value,
            "name": name,
            "tables": [table.strip() for table in tables.split(",") if table.strip()] or None,
            "include_deleted": include_deleted,
            "point_in_time": point_in_time,
            "format": format_ or (),
            "options": dict(format_option(text) for text in option or []),
            "partitioning": {"by": by.value, "parallel_jobs": parallel_jobs},
            "compression": compression,
            "encryption": encryption(encrypt, recipient or [], password_file, settings),
            "delivery": delivery_entries(email, deliver),
        }
        (config,) = _order(wanted).configurations()
        require_tenant_id(tenant)
        here = open_destinations(settings)
        check_order(config, TenantScope(tenant_id=tenant), open_catalog(settings), destinations=here)  # before all else
        run_request(config, tenant, output_, settings, as_json=as_json)


def _order(wanted: dict[str, Any]) -> BulkOrder:
    try:
        return BulkOrder.model_validate(wanted)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RequestRejected(explain(first), field=".".join(map(str, first["loc"]))) from error


@app.command()
def show(batch_id: Annotated[str, typer.Argument(help="Id of the batch.")], as_json: AsJson = False) -> None:
    """One bulk order with its requests."""
    with output.reported(as_json=as_json), open_control() as control:
        batch = BatchStore(control).get(batch_id)
        if as_json:
            output.say_json({**asdict(batch), "status": batch.status, "percentage": batch.percentage})
            return
        when = f"{batch.created_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
        output.say(f"{batch.export_type} of {batch.total_tables} tables for {batch.tenant_id}, {when}")
        output.say(f"{batch.status}, {batch.percentage:.0f} %")
        for request in batch.requests:
            rows = f"{request.package_rows or request.rows_processed:,} rows"
            problem = f"  {request.error_message}" if request.error_message else ""
            output.say(f"  {request.id}  {request.config.get('format')!s:8} {request.status:10} {rows}{problem}")


@app.callback()
def batches() -> None:
    """Keeps `show` a command of its own while it is the only one."""
