"""Tenant × period partitions. Tenants are dynamic; periods follow the catalog's grain."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable

from dagster import (
    DailyPartitionsDefinition,
    DynamicPartitionsDefinition,
    MonthlyPartitionsDefinition,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionsDefinition,
)

from export_pipelines.core.catalog import Catalog, Grain

PERIOD, TENANT = "period", "tenant"
UNUSABLE_IN_KEYS = ("|", "...", "\n", "\r", "\t", "\a", "\b", "\f", "\v", "\\", "'", '"')
"""What Dagster does not take inside a dynamic or multi-dimensional partition key."""


def tenant_partitions_name(catalog: Catalog) -> str:
    return f"{catalog.name}_tenants"


def partitions_of(catalog: Catalog, grain: Grain) -> PartitionsDefinition:
    """The partitions of every table with that grain. ``end_offset=1`` includes the period that is still open."""
    tenants = DynamicPartitionsDefinition(name=tenant_partitions_name(catalog))
    match grain:
        case Grain.NONE:
            return tenants
        case Grain.MONTH:
            start = catalog.history_start.replace(day=1)
            periods: PartitionsDefinition = MonthlyPartitionsDefinition(start_date=start.isoformat(), end_offset=1)
        case Grain.DAY:
            periods = DailyPartitionsDefinition(start_date=catalog.history_start.isoformat(), end_offset=1)
    return MultiPartitionsDefinition({PERIOD: periods, TENANT: tenants})


def by_tenant(keys: Iterable[str]) -> dict[str, list[tuple[str, dt.date | None]]]:
    """Partition keys of a run as tenant → [(key, first day of the period)], periods ascending."""
    found: dict[str, list[tuple[str, dt.date | None]]] = defaultdict(list)
    for key in sorted(keys):
        if isinstance(key, MultiPartitionKey):
            parts = key.keys_by_dimension
            found[parts[TENANT]].append((key, dt.date.fromisoformat(parts[PERIOD])))
        else:
            found[key].append((key, None))
    return dict(found)
