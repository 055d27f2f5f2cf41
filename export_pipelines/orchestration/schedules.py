"""Schedules for the operators' side: history into the lake. Tenants' own schedules are rows, not these."""

from collections.abc import Iterator

from dagster import (
    DefaultScheduleStatus,
    MultiPartitionKey,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.windows import last_closed_month
from export_pipelines.orchestration.jobs import materialize_job_name, tables_of
from export_pipelines.orchestration.partitions import PERIOD, TENANT, tenant_partitions_name
from export_pipelines.orchestration.reconcile import TENANT_TAG


def monthly_schedule(catalog: Catalog) -> ScheduleDefinition:
    """On the second of each month, the month before, for every tenant: a run a tenant."""
    tenants = tenant_partitions_name(catalog)

    @schedule(
        name="close_last_month",
        cron_schedule="0 2 2 * *",
        execution_timezone="UTC",
        job_name=materialize_job_name(Grain.MONTH),
        default_status=DefaultScheduleStatus.RUNNING,
        description="Materialise the last closed month of every table with monthly partitions, for all tenants.",
    )
    def close_last_month(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        month = last_closed_month(context.scheduled_execution_time).isoformat()
        known = context.instance.get_dynamic_partitions(tenants)
        for tenant in known:
            yield RunRequest(
                run_key=f"{month}-{tenant}",
                partition_key=MultiPartitionKey({PERIOD: month, TENANT: tenant}),
                tags={TENANT_TAG: tenant},
            )
        if not known:
            yield SkipReason("no tenants are known yet")

    return close_last_month


def all_schedules(catalog: Catalog) -> list[ScheduleDefinition]:
    return [monthly_schedule(catalog)] if tables_of(catalog, Grain.MONTH) else []
