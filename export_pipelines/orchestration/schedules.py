"""Schedules for the operators' side: history into the lake, the cleanup. Tenants' own are rows, not these."""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

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
from export_pipelines.core.windows import last_closed_day, last_closed_month
from export_pipelines.orchestration.cleanup import cleanup_job
from export_pipelines.orchestration.jobs import materialize_job_name, tables_of
from export_pipelines.orchestration.partitions import PERIOD, known_owners, owner_dimension
from export_pipelines.pipeline.runs import TENANT_TAG

_CRON = {Grain.MONTH: "0 2 2 * *", Grain.DAY: "0 1 * * *"}


def closing_schedule(catalog: Catalog, grain: Grain) -> ScheduleDefinition:
    """The period before, a run for each tenant or bucket; in the catalog's timezone, where its periods end."""
    dimension, timezone = owner_dimension(catalog), ZoneInfo(catalog.timezone)

    @schedule(
        name=f"close_last_{grain}",
        cron_schedule=_CRON[grain],
        execution_timezone=catalog.timezone,
        job_name=materialize_job_name(grain),
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Materialise the last closed {grain} of every table cut by the {grain}, for all tenants.",
    )
    def close_last_period(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        now = context.scheduled_execution_time.astimezone(timezone)
        period = (last_closed_day(now) if grain is Grain.DAY else last_closed_month(now)).isoformat()
        known = known_owners(catalog, context.instance)
        for owner in known:
            yield RunRequest(
                run_key=f"{period}-{owner}",
                partition_key=MultiPartitionKey({PERIOD: period, dimension: owner}),
                tags={TENANT_TAG: owner} if catalog.tenant_buckets is None else {},
            )
        if not known:
            yield SkipReason("no tenants are known yet")

    return close_last_period


def cleanup_schedule(hour: int, timezone: str) -> ScheduleDefinition:
    """Once a night; a missed night is made up for by the next."""
    return ScheduleDefinition(
        name="cleanup",
        job=cleanup_job,
        cron_schedule=f"30 {hour} * * *",
        execution_timezone=timezone,
        default_status=DefaultScheduleStatus.RUNNING,
        description="Expire and remove exports, sweep leftovers, prune run history.",
    )


def all_schedules(catalog: Catalog, *, cleanup_hour: int) -> list[ScheduleDefinition]:
    """The cleanup, and one for each grain that has an end and a table."""
    closing = [closing_schedule(catalog, grain) for grain in _CRON if tables_of(catalog, grain)]
    return [*closing, cleanup_schedule(cleanup_hour, catalog.timezone)]
