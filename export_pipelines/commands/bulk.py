"""``bulk`` and ``batches show``: whole tables or the account of the service, and how far such an order is."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from export_pipelines.commands import output
from export_pipelines.commands.control import open_control
from export_pipelines.commands.expanding import expanded
from export_pipelines.commands.exports import Folder, run_request
from export_pipelines.commands.ordering import (
    UNSAID,
    AsJson,
    ProductOptions,
    Tenant,
    order_of,
    table_names,
)
from export_pipelines.core.bulk import BulkOrder
from export_pipelines.core.configuration import MAX_PARALLEL_JOBS
from export_pipelines.core.rejection import rejected
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.orders import plan_order
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


@expanded(defaults={"format_": "csv, ndjson for audit"})
def bulk(
    tenant: Tenant,
    type_: Annotated[Type, typer.Option("--type", help="What kind of package.")],
    product: ProductOptions,
    tables: Annotated[str, typer.Option(help="Tables, separated by commas.", show_default="all")] = "",
    include_deleted: Annotated[
        bool | None,
        typer.Option(help="Include rows that are marked as deleted.", show_default="include-deleted"),
    ] = None,
    parallel_jobs: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_PARALLEL_JOBS, help="Tables to read at the same time.", show_default="1"),
    ] = None,
    by: Annotated[By, typer.Option(help="One file per table, or one per month or week of it.")] = By.TABLE,
    point_in_time: Annotated[
        str | None, typer.Option(help="full_backup: as materialised at or before this instant.")
    ] = None,
    output_: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Export whole tables, with what restores them elsewhere, or what the service did for a tenant; in this process."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        wanted = {
            **UNSAID,
            "format": (),
            **product.given(settings),
            "export_type": type_.value,
            "tables": table_names(tables) or None,
            "include_deleted": include_deleted,
            "point_in_time": point_in_time,
            "partitioning": {"by": by.value, "parallel_jobs": parallel_jobs},
        }
        del wanted["split_files"]  # `partitioning` here
        (config,) = _order(wanted).configurations()
        order, here = order_of(config, tenant), open_destinations(settings)
        # Before anything is started.
        planned = plan_order(order, open_catalog(settings), destinations=here, longest_keep=settings.keep)
        run_request(planned, output_, settings, as_json=as_json)


def _order(wanted: dict[str, Any]) -> BulkOrder:
    try:
        return BulkOrder.model_validate(wanted)
    except ValidationError as error:
        raise rejected(error, model=BulkOrder) from error


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
