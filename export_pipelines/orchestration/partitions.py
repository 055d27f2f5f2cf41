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
    """The partitions of every table with that grain."""
    tenants = DynamicPartitionsDefinition(name=tenant_partitions_name(catalog))
    if grain is Grain.NONE:
        return tenants
    return MultiPartitionsDefinition({PERIOD: _periods(catalog, grain), TENANT: tenants})


def _periods(catalog: Catalog, grain: Grain) -> PartitionsDefinition:
    """From the start of history; ``end_offset=1`` includes the period that is still open."""
    start, timezone = catalog.history_start, catalog.timezone
    if grain is Grain.DAY:
        return DailyPartitionsDefinition(start_date=start.isoformat(), timezone=timezone, end_offset=1)
    first = start.replace(day=1).isoformat()
    return MonthlyPartitionsDefinition(start_date=first, timezone=timezone, end_offset=1)


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


def dimension_tags(key: str) -> dict[str, str]:
    """The tags by which Dagster finds the dimensions of a materialization that it has not made itself."""
    parts = key.keys_by_dimension if isinstance(key, MultiPartitionKey) else {}
    return {f"dagster/partition/{dimension}": part for dimension, part in parts.items()}
