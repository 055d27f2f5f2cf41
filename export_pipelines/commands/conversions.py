"""``convert``: a finished export in another format, without touching the source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.exports import run_request
from export_pipelines.commands.ordering import (
    AsJson,
    Compression,
    Encrypt,
    Format,
    ManyFiles,
    MaxSize,
    Options,
    Recipients,
    Split,
    encryption,
    format_option,
    require_tenant_id,
    split_files,
)
from export_pipelines.commands.passwords import PasswordFile
from export_pipelines.settings import load_settings


def convert(
    request: Annotated[str, typer.Argument(help="Id of a completed export.")],
    tenant: Annotated[str, typer.Option(help="Id of the tenant whose export it is.")],
    format_: Format,
    compression: Compression = "none",
    split: Split = None,
    max_size_mb: MaxSize = None,
    many_files: ManyFiles = False,
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    password_file: PasswordFile = None,
    option: Options = None,
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
            "split_files": split_files(split, max_size_mb, many_files=many_files),
            "encryption": encryption(encrypt, recipient or [], password_file, settings),
        }
        require_tenant_id(tenant)
        run_request(config, tenant, output_, settings, as_json=as_json)
