"""What is not in the lake although it could be: partitions whose period is over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TenantScope
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.windows import period_end
from export_pipelines.pipeline.lake.generations import newest, partition_folder, periods_until
from export_pipelines.pipeline.lake.materialize import Reuse

_COMPLETE = Reuse(complete=True)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Partitions of one tenant's table that are missing, or were read before their period was over."""

    table: str
    tenant: str
    partitions: int
    first: dt.date | None  # first day of the earliest period; None for a table that is not cut
    last: dt.date | None


def find_gaps(catalog: Catalog, store: ObjectStore, tenants: Iterable[str], *, now: dt.datetime) -> Iterator[Gap]:
    """Tenant by tenant, in the catalog's order of tables; one listing of each tenant's table, no file is opened."""
    for tenant in tenants:
        for name in catalog.tables:
            missing = list(_missing(catalog, store, name, TenantScope(tenant_id=tenant), now))
            if missing:
                yield Gap(table=name, tenant=tenant, partitions=len(missing), first=missing[0], last=missing[-1])


def _missing(
    catalog: Catalog, store: ObjectStore, name: str, scope: TenantScope, now: dt.datetime
) -> Iterator[dt.date | None]:
    present = newest(catalog, name, scope, store)
    grain = catalog.tables[name].partition.grain
    for period in periods_until(catalog, name, now):
        end = period_end(period, grain, catalog.timezone) if period else None
        if end is not None and end > now:
            continue
        generation = present.get(partition_folder(catalog, name, scope, period))
        if generation is None or not _COMPLETE.covers(generation, end):
            yield period
