"""``convert``: a finished export in another format, without touching the source."""

from __future__ import annotations

from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.expanding import expanded
from export_pipelines.commands.exports import Folder, run_request
from export_pipelines.commands.ordering import (
    UNSAID,
    AsJson,
    ProductOptions,
    SplitOptions,
    Tenant,
    order_of,
)
from export_pipelines.settings import load_settings


@expanded(required=("format_",))
def convert(
    request: Annotated[str, typer.Argument(help="ID of a completed export.")],
    tenant: Tenant,
    product: ProductOptions,
    splitting: SplitOptions,
    output_: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Convert what a finished export has read to another format; the source is not asked again."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        config = {**UNSAID, "convert": request, **splitting.given(), **product.given(settings)}
        run_request(order_of(config, tenant), output_, settings, as_json=as_json)
