"""``lake missing``: which partitions of which tenants could be in the lake and are not."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work
from export_pipelines.core.buckets import bucket_of
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import Source
from export_pipelines.pipeline.lake.gaps import Gap, find_gaps
from export_pipelines.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Partitions of tables as they were materialised.")


@app.callback()
def lake() -> None:
    """What all commands of the lake have in common."""


@app.command()
def missing(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what a backup of a point in time would miss, and the partition keys to ask for in Dagster."""
    with output.reported(as_json=as_json), at_work(load_settings()) as services:
        catalog = services.catalog
        if table is not None:
            catalog.table(table)
        found = find_gaps(catalog, services.store, _tenants(services.source, tenant), now=dt.datetime.now(dt.UTC))
        gaps = [gap for gap in found if table in (None, gap.table)]
        if as_json:
            output.say_json([asdict(gap) | {"partition_owner": _owner(catalog, gap)} for gap in gaps])
        else:
            _say(catalog, gaps)


def _tenants(source: Source, tenant: str | None) -> list[str]:
    known = source.tenants()
    if tenant is not None and tenant not in known:
        raise RequestRejected(f"{tenant!r} is not among the tenants, spelled as the source has them", field="--tenant")
    return known if tenant is None else [tenant]


def _owner(catalog: Catalog, gap: Gap) -> str:
    """The part of a partition's key beside the period."""
    return gap.tenant if catalog.tenant_buckets is None else bucket_of(gap.tenant, catalog.tenant_buckets)


def _say(catalog: Catalog, gaps: list[Gap]) -> None:
    if not gaps:
        output.say("nothing is missing: every partition was read when its period was over")
        return
    owner = "tenant" if catalog.tenant_buckets is None else "bucket"
    grid = Grid("table", "tenant", "partitions", "from", "to", *([owner] if owner == "bucket" else []))
    for gap in gaps:
        words = (gap.table, gap.tenant, f"{gap.partitions:,}", str(gap.first or ""), str(gap.last or ""))
        grid.add_row(*map(output.plain, words), *([_owner(catalog, gap)] if owner == "bucket" else []))
    output.out.print(grid)
    tenants = Counter(gap.tenant for gap in gaps)
    output.say(f"{sum(gap.partitions for gap in gaps):,} partitions of {len(tenants):,} tenants are missing")
