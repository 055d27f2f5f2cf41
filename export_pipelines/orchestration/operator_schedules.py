"""Schedules for the operators' side: history into the lake, the cleanup. Tenants' own are rows, not these."""

import datetime as dt
from collections.abc import Iterator, Sequence
from zoneinfo import ZoneInfo

from dagster import (
    DefaultScheduleStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.grains import NIGHTLY_SCHEDULES
from export_pipelines.core.windows import last_closed_day, last_closed_month, period_of
from export_pipelines.orchestration.cleanup import cleanup_job
from export_pipelines.orchestration.jobs import materialize_job_name, tables_of
from export_pipelines.orchestration.partitions import known_owners, partition_key
from export_pipelines.pipeline.planning.runs import TENANT_TAG

_CLOSING_CRON = {Grain.MONTH: "0 2 2 * *", Grain.DAY: "0 1 * * *"}


def closing_schedule(catalog: Catalog, grain: Grain) -> ScheduleDefinition:
    """The period before, a run for each tenant or bucket; in the catalog's timezone, where its periods end."""
    timezone = ZoneInfo(catalog.timezone)

    @schedule(
        name=f"close_last_{grain}",
        cron_schedule=_CLOSING_CRON[grain],
        execution_timezone=catalog.timezone,
        job_name=materialize_job_name(grain),
        default_status=DefaultScheduleStatus.RUNNING,
        description=f"Materialise the last closed {grain} of every table cut by the {grain}, for all tenants.",
    )
    def close_last_period(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        now = context.scheduled_execution_time.astimezone(timezone)
        period = last_closed_day(now) if grain is Grain.DAY else last_closed_month(now)
        yield from _for_everybody(catalog, context, [period])

    return close_last_period


def nightly_schedule(catalog: Catalog, grain: Grain) -> ScheduleDefinition:
    """What goes on changing, as it is this night: whole tables, or the month that goes on, and the one that just ended.

    Off until an operator switches it on: it reads from the source every night, and only backups of a point in time
    need it.
    """
    timezone = ZoneInfo(catalog.timezone)

    @schedule(
        name=NIGHTLY_SCHEDULES[grain],
        cron_schedule="30 0 * * *",
        execution_timezone=catalog.timezone,
        job_name=materialize_job_name(grain),
        default_status=DefaultScheduleStatus.STOPPED,
        description="Materialise for all tenants, every night, "
        + ("all tables without a period." if grain is Grain.NONE else f"the {grain} that goes on."),
    )
    def read_tonight(context: ScheduleEvaluationContext) -> Iterator[RunRequest | SkipReason]:
        tonight = context.scheduled_execution_time.astimezone(timezone)
        nights = (tonight - dt.timedelta(days=1), tonight)
        months = sorted({period_of(night, grain=grain, timezone=catalog.timezone) for night in nights})
        yield from _for_everybody(catalog, context, [None] if grain is Grain.NONE else months, night=tonight.date())

    return read_tonight


def _for_everybody(
    catalog: Catalog,
    context: ScheduleEvaluationContext,
    periods: Sequence[dt.date | None],
    *,
    night: dt.date | None = None,
) -> Iterator[RunRequest | SkipReason]:
    """A run for each tenant or bucket and period."""
    known = known_owners(catalog, context.instance)
    for owner in known:
        for period in periods:
            named = [str(part) for part in (night, period) if part is not None]
            yield RunRequest(
                run_key="-".join([*named, owner]),
                partition_key=partition_key(catalog, owner, period),
                tags={TENANT_TAG: owner} if catalog.tenant_buckets is None else {},
            )
    if not known:
        yield SkipReason("no tenants are known yet")


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
    """The cleanup, and those of the grains that have a table."""
    closing = [closing_schedule(catalog, grain) for grain in _CLOSING_CRON if tables_of(catalog, grain)]
    nightly = [nightly_schedule(catalog, grain) for grain in NIGHTLY_SCHEDULES if tables_of(catalog, grain)]
    return [*closing, *nightly, cleanup_schedule(cleanup_hour, catalog.timezone)]
