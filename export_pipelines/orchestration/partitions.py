"""Owner × period partitions. An owner is a tenant, or a bucket of tenants where the catalog says so.

Tenants are dynamic, buckets are static; periods follow the catalog's grain.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence

from dagster import (
    DagsterInstance,
    DailyPartitionsDefinition,
    DynamicPartitionsDefinition,
    MonthlyPartitionsDefinition,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionsDefinition,
    StaticPartitionsDefinition,
)

from export_pipelines.core.buckets import bucket_keys, bucket_of
from export_pipelines.core.catalog import Catalog, Grain

PERIOD, TENANT, BUCKET = "period", "tenant", "tenant_bucket"
UNUSABLE_IN_KEYS = ("|", "...", "\n", "\r", "\t", "\a", "\b", "\f", "\v", "\\", "'", '"')
"""What Dagster does not take inside a dynamic or multi-dimensional partition key."""


def tenant_partitions_name(catalog: Catalog) -> str:
    return f"{catalog.name}_tenants"


def owner_dimension(catalog: Catalog) -> str:
    """What the dimension beside the period is called."""
    return TENANT if catalog.tenant_buckets is None else BUCKET


def known_owners(catalog: Catalog, instance: DagsterInstance) -> Sequence[str]:
    """Keys of all tenants that Dagster knows, or of all buckets."""
    if catalog.tenant_buckets is not None:
        return bucket_keys(catalog.tenant_buckets)
    return instance.get_dynamic_partitions(tenant_partitions_name(catalog))


def tenants_of(owner: str, catalog: Catalog, tenants: Iterable[str]) -> list[str]:
    """Whose rows a partition of that owner holds; ``tenants`` are all there are."""
    if catalog.tenant_buckets is None:
        return [owner]
    return [tenant for tenant in tenants if bucket_of(tenant, catalog.tenant_buckets) == owner]


def partitions_of(catalog: Catalog, grain: Grain) -> PartitionsDefinition:
    """The partitions of every table with that grain."""
    owners = _owners(catalog)
    if grain is Grain.NONE:
        return owners
    return MultiPartitionsDefinition({PERIOD: _periods(catalog, grain), owner_dimension(catalog): owners})


def partition_key(catalog: Catalog, owner: str, period: dt.date | None) -> str:
    """The key of an owner's partition; without a period, of a table that has none."""
    if period is None:
        return owner
    return MultiPartitionKey({PERIOD: period.isoformat(), owner_dimension(catalog): owner})


def _owners(catalog: Catalog) -> PartitionsDefinition:
    if catalog.tenant_buckets is None:
        return DynamicPartitionsDefinition(name=tenant_partitions_name(catalog))
    return StaticPartitionsDefinition(bucket_keys(catalog.tenant_buckets))


def _periods(catalog: Catalog, grain: Grain) -> PartitionsDefinition:
    """From the start of history; ``end_offset=1`` includes the period that is still open."""
    start, timezone = catalog.history_start, catalog.timezone
    if grain is Grain.DAY:
        return DailyPartitionsDefinition(start_date=start.isoformat(), timezone=timezone, end_offset=1)
    first = start.replace(day=1).isoformat()
    return MonthlyPartitionsDefinition(start_date=first, timezone=timezone, end_offset=1)


def by_owner(keys: Iterable[str]) -> dict[str, list[tuple[str, dt.date | None]]]:
    """Partition keys of a run as owner → [(key, first day of the period)], periods ascending."""
    found: dict[str, list[tuple[str, dt.date | None]]] = defaultdict(list)
    for key in sorted(keys):
        if isinstance(key, MultiPartitionKey):
            parts = dict(key.keys_by_dimension)
            period = dt.date.fromisoformat(parts.pop(PERIOD))
            (owner,) = parts.values()
            found[owner].append((key, period))
        else:
            found[key].append((key, None))
    return dict(found)


def dimension_tags(key: str) -> dict[str, str]:
    """The tags by which Dagster finds the dimensions of a materialization that it has not made itself."""
    parts = key.keys_by_dimension if isinstance(key, MultiPartitionKey) else {}
    return {f"dagster/partition/{dimension}": part for dimension, part in parts.items()}
