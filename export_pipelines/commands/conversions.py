"""``convert``: a finished export in another format, without touching the source."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Any

import typer

from export_pipelines.commands import output
from export_pipelines.commands.exports import AsJson, carry_out, format_options
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.formats.registry import all_formats
from export_pipelines.pipeline.assembly import open_catalog, open_object_store
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import RequestStore


def convert(
    request: Annotated[str, typer.Argument(help="Id of a completed export.")],
    tenant: Annotated[str, typer.Option(help="Id of the tenant whose export it is.")],
    format_: Annotated[str, typer.Option("--format", help="csv, json, ndjson, parquet, xlsx or xml.")],
    compression: Annotated[str, typer.Option(help="none, gzip or zip.")] = "none",
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, for example json_pretty=true; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="Title of the new export.")] = "",
    output_: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the package into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a finished export has read in another format; the source is not asked again."""
    with output.reported(as_json=as_json):
        config = {
            "name": name,
            "convert": request,
            "format": format_,
            "compression": compression,
            "options": format_options(option or []),
        }
        carry_out(config, tenant, output_, _check, as_json=as_json)


def _check(config: dict[str, Any], tenant: str, workplace: Workplace) -> None:
    wanted = parse_configuration(config)
    scope, catalog = TenantScope(tenant_id=tenant), open_catalog(workplace.settings)
    kept = find_kept(
        str(wanted.convert),
        scope,
        catalog,
        RequestStore(ControlDatabase(workplace.settings.require_control_url())),
        open_object_store(workplace.settings),
    )
    plan_export(
        wanted,
        catalog,
        request_id="check",
        attempt=1,
        scope=scope,
        requested_at=dt.datetime.now(dt.UTC),
        formats=all_formats(),
        kept=kept,
    )
