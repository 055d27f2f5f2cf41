"""Whether Dagster can show the lake of a catalog: how many partitions its tables have, beside what Dagster advises."""

from __future__ import annotations

import datetime as dt
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.findings import Finding, warning
from export_pipelines.core.buckets import MAX_PARTITIONS, advised_buckets
from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.windows import count_periods, period_of


def check_partition_counts(connection: psycopg.Connection[Any], catalog: Catalog, *, now: dt.datetime) -> list[Finding]:
    """A warning for each grain with more partitions than Dagster bears well."""
    owners = catalog.tenant_buckets or _tenants(connection, catalog)
    grains = {grain: _periods(catalog, grain, now) for grain in Grain}
    used = {table.partition.grain for table in catalog.tables.values()}
    buckets = min(advised_buckets(grains[grain]) for grain in used)
    found: list[Finding] = []
    for grain in sorted(used):
        if owners * grains[grain] <= MAX_PARTITIONS:
            continue
        what = "buckets" if catalog.tenant_buckets else "tenants"
        cut = "" if grain is Grain.NONE else f" × {grains[grain]:,} {grain.value}s"
        names = [name for name, table in catalog.tables.items() if table.partition.grain is grain]
        message = (
            f"{owners:,} {what}{cut} are {owners * grains[grain]:,} partitions of each of {', '.join(names)}; "
            f"Dagster becomes slow beyond {MAX_PARTITIONS:,}"
        )
        found.append(warning(message, f"set tenant_buckets: {buckets}, or a coarser grain, or a later history_start"))
    return found


def _periods(catalog: Catalog, grain: Grain, now: dt.datetime) -> int:
    return count_periods(catalog.history_start, period_of(now, grain=grain, timezone=catalog.timezone), grain)


def _tenants(connection: psycopg.Connection[Any], catalog: Catalog) -> int:
    """How many there are; 0 for a login that may not look."""
    schema, _, name = catalog.tenant.table.rpartition(".")
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema or catalog.schema_, name))
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except (errors.InsufficientPrivilege, errors.UndefinedTable):
        return 0  # the other checks say so
    return int(row[0]) if row else 0
