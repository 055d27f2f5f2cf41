"""``convert``: a finished export in another format, without touching the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from export_pipelines.commands import output
from export_pipelines.commands.exports import AsJson, carry_out, require_tenant_id
from export_pipelines.commands.ordering import (
    Compression,
    Encrypt,
    MaxSize,
    Recipients,
    Split,
    encryption,
    format_option,
    split_files,
)
from export_pipelines.commands.passwords import PasswordFile
from export_pipelines.core.model import TenantScope
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.pipeline.assembly import open_catalog, open_object_store
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.pipeline.plan import check_order
from export_pipelines.settings import load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import RequestStore


def convert(
    request: Annotated[str, typer.Argument(help="Id of a completed export.")],
    tenant: Annotated[str, typer.Option(help="Id of the tenant whose export it is.")],
    format_: Annotated[str, typer.Option("--format", help="csv, json, ndjson, parquet, xlsx or xml.")],
    compression: Compression = "none",
    split: Split = None,
    max_size_mb: MaxSize = None,
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    password_file: PasswordFile = None,
    option: Annotated[
        list[str] | None, typer.Option(help="name=value, for example json_pretty=true; repeatable.")
    ] = None,
    name: Annotated[str, typer.Option(help="Title of the new export.")] = "",
    output_: Annotated[Path | None, typer.Option("--output", "-o", help="Copy the package into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write what a finished export has read in another format; the source is not asked again."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        config = {
            "name": name,
            "convert": request,
            "format": format_,
            "compression": compression,
            "options": dict(format_option(text) for text in option or []),
            "split_files": split_files(split, max_size_mb),
            "encryption": encryption(encrypt, recipient or [], password_file, settings),
        }
        require_tenant_id(tenant)
        carry_out(config, tenant, output_, settings, as_json=as_json, check=lambda place: _check(config, tenant, place))


def _check(config: dict[str, Any], tenant: str, workplace: Workplace) -> None:
    scope, catalog = TenantScope(tenant_id=tenant), open_catalog(workplace.settings)
    requests = RequestStore(ControlDatabase(workplace.settings.require_control_url()))
    store = open_object_store(workplace.settings)
    check_order(config, scope, catalog, kept=lambda origin: find_kept(origin, scope, catalog, requests, store))
