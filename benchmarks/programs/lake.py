"""Materialises partitions of the lake: all tables of the catalog, so many months, the tenants.

By the pipeline's functions as the assets call them, or with ``--dagster`` by the job of the assets, one run a table.
Before the clock starts one partition is written: what a process pays once is not the cost of a partition.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time

from dagster import AssetKey, DagsterInstance, MultiPartitionKey

from benchmarks.datasets import TENANTS
from benchmarks.programs.opened import answer, opened_services, refusals_reported, workplace
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TenantScope
from export_pipelines.definitions import build_defs
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.orchestration.jobs import materialize_job_name
from export_pipelines.orchestration.partitions import PERIOD, TENANT, tenant_partitions_name
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.lake.materialize import writing_lake
from export_pipelines.pipeline.services import ExportServices

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=10)
    parser.add_argument("--tenants", type=int, default=1, choices=range(1, len(TENANTS) + 1))
    parser.add_argument("--dagster", action="store_true")
    arguments = parser.parse_args()
    tenants = TENANTS[: arguments.tenants]
    with refusals_reported(), workplace() as place:
        catalog = open_catalog(place.settings)
        months = [_month(catalog, number) for number in range(arguments.months)]
        tables = [name for name, table in catalog.tables.items() if table.partition_column]
        if arguments.dagster:
            seconds = _by_dagster(place, catalog, tables, tenants, months)
        else:
            with opened_services(place) as services:
                materialize(services, tables[:1], tenants[:1], months[:1])
                started = time.perf_counter()
                materialize(services, tables, tenants, months)
                seconds = time.perf_counter() - started
        count = len(tables) * len(months) * len(tenants)
        answer(seconds=seconds, partitions=count, partition_seconds=seconds / count)


def _month(catalog: Catalog, number: int) -> dt.date:
    first = catalog.history_start
    return dt.date(first.year + number // 12, 1 + number % 12, 1)


def materialize(services: ExportServices, tables: list[str], tenants: tuple[str, ...], months: list[dt.date]) -> None:
    """One writer for each table, one snapshot for each tenant in it, as in a run of an asset."""
    for name in tables:
        with writing_lake(
            services.catalog, services.store, run_id=f"bench-{name}", scratch=services.settings.scratch
        ) as writer:
            for tenant in tenants:
                scope = TenantScope(tenant_id=tenant)
                with services.source.snapshot(scope) as snapshot:
                    parts = [writer.materialize(name, scope, month, snapshot) for month in months]
                if not all(part.valid for part in parts):
                    raise SystemExit("a partition failed its checks")


def _by_dagster(
    place: Workplace, catalog: Catalog, tables: list[str], tenants: tuple[str, ...], months: list[dt.date]
) -> float:
    definitions = build_defs(place.settings, catalog=catalog)

    def run(name: str, last: str) -> None:
        job = definitions.resolve_job_def(materialize_job_name(catalog.tables[name].partition.grain))
        job.execute_in_process(
            instance=instance,
            asset_selection=[AssetKey([catalog.name, name])],
            run_config=QUIET,
            tags={RANGE_START: _key(tenants[0], months[0]), RANGE_END: last},
        )

    with DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(tenant_partitions_name(catalog), list(tenants))
        run(tables[0], _key(tenants[0], months[0]))
        started = time.perf_counter()
        for name in tables:
            run(name, _key(tenants[-1], months[-1]))
        return time.perf_counter() - started


def _key(tenant: str, month: dt.date) -> str:
    return MultiPartitionKey({PERIOD: month.isoformat(), TENANT: tenant})


if __name__ == "__main__":
    main()
