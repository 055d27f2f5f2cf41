"""Sensors: tenants into partitions, request rows into runs, ended and silent runs back into rows."""

import datetime as dt
import time
from collections.abc import Iterator

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    RunStatusSensorContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    run_status_sensor,
    sensor,
)

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.orchestration.jobs import DELIVERY_JOB, REQUEST_JOBS
from export_pipelines.orchestration.outages import outage
from export_pipelines.orchestration.partitions import UNUSABLE_IN_KEYS, tenant_partitions_name
from export_pipelines.orchestration.reconcile import ended, forgotten, reconcile
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import run_of
from export_pipelines.pipeline.planning.runs import CONVERT_JOB, EXPORT_JOB, REQUEST_TAG, run_config, run_key, run_tags
from export_pipelines.pipeline.publish.publish import abandon
from export_pipelines.stores.requests import ExportRequest

_RUNNING = DefaultSensorStatus.RUNNING


def tenants_sensor(catalog: Catalog) -> SensorDefinition:
    """Keeps the dynamic tenant partitions the same as the source's tenants."""
    name = tenant_partitions_name(catalog)

    @sensor(name=f"{name}_sensor", minimum_interval_seconds=30, default_status=_RUNNING)
    def sync_tenants(context: SensorEvaluationContext, export: ExportResource) -> SkipReason:
        """Keys are changed here and not by requests, which the daemon looks up one by one: 19 s for a thousand."""
        wanted = export.services.source.tenants()
        unusable = [tenant for tenant in wanted if any(mark in tenant for mark in UNUSABLE_IN_KEYS)]
        if unusable:
            context.log.warning(f"{len(unusable)} tenant ids cannot be partition keys; they have no table assets")
        if not wanted:
            return SkipReason("the source lists no tenant; partitions are left as they are")
        present = set(context.instance.get_dynamic_partitions(name))
        added = sorted(set(wanted) - present - set(unusable))
        removed = sorted(present - set(wanted))
        if added:
            context.instance.add_dynamic_partitions(name, added)
        for tenant in removed:
            context.instance.delete_dynamic_partition(name, tenant)
        return SkipReason(f"{len(added)} tenants added, {len(removed)} removed, {len(present) - len(removed)} known")

    return sync_tenants


def request_sensor(name: str, job: str) -> SensorDefinition:
    """Asks for a run for every queued request that is this job's work."""

    @sensor(name=name, job_name=job, minimum_interval_seconds=5, default_status=_RUNNING)
    def ask(context: SensorEvaluationContext, export: ExportResource) -> Iterator[RunRequest | SkipReason]:
        """A run for every queued request, asked for again and again until it exists; the run key makes it one."""
        requests, conversions = export.services.requests, job == CONVERT_JOB
        if problem := outage(export.services, conversions=conversions):
            yield SkipReason(f"exports wait for an outage to end: {problem}")
            return
        queued = requests.launchable(conversions=conversions)
        wanted = [request for request in queued if not _has_run(request, context, export)]
        for request in wanted:
            yield RunRequest(
                run_key=run_key(request),
                run_config=run_config(request),
                tags=run_tags(request),
            )
        if queued:
            requests.asked(queued)
        if not wanted:
            yield SkipReason("no request needs a run")

    return ask


export_requests = request_sensor("export_requests", EXPORT_JOB)
conversion_requests = request_sensor("conversion_requests", CONVERT_JOB)


def _has_run(request: ExportRequest, context: SensorEvaluationContext, export: ExportResource) -> bool:
    """Whether asking again would be in vain. A run that ended before it took the request is brought to account."""
    run = run_of(request, context.instance) if request.asked_at is not None else None
    if run is None or run.status is DagsterRunStatus.NOT_STARTED:
        return False
    if run.is_finished:
        ended(request, run, context.instance, export.services.requests)
    return True


def ended_sensor(status: DagsterRunStatus) -> SensorDefinition:
    """Tells a request that its run ended so; most requests know already."""

    @run_status_sensor(
        name=f"export_run_{status.value.lower()}",
        run_status=status,
        monitor_all_code_locations=False,
        default_status=_RUNNING,
        minimum_interval_seconds=5,
    )
    def run_ended(context: RunStatusSensorContext, export: ExportResource) -> SkipReason:
        request_id = context.dagster_run.tags.get(REQUEST_TAG)
        if request_id is None:
            return SkipReason("not an export")
        requests = export.services.requests
        try:
            request = requests.get(request_id)
        except RequestRejected:
            return SkipReason(f"request {request_id} is gone")
        outcome = ended(request, context.dagster_run, context.instance, requests)
        if outcome is not None:
            abandon(request, requests, export.services.store, export.services.exclusively)
        return SkipReason(outcome or "the request knows")

    return run_ended


@sensor(minimum_interval_seconds=15, default_status=_RUNNING)
def silent_requests(context: SensorEvaluationContext, export: ExportResource) -> SkipReason:
    """Finds requests and runs that lost each other and fails, requeues or closes them."""
    requests, instance = export.services.requests, context.instance
    if export.services.state.look().stepped_within(export.services.settings.stale_after):
        return SkipReason("the clock was stepped; what it says of heartbeats counts again when all are newer than that")
    done: list[str] = []
    for request in requests.silent(older_than=export.services.settings.stale_after):
        outcome = reconcile(request, instance, requests)
        if outcome is not None:
            abandon(request, requests, export.services.store, export.services.exclusively)
            done.append(f"{request.id}: {outcome}")
    now = dt.datetime.now(dt.UTC)
    statuses = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    closed = (
        forgotten(record, instance, requests, silence=export.services.settings.stale_after, now=now)
        for job in REQUEST_JOBS
        for record in instance.get_run_records(RunsFilter(job_name=job.name, statuses=statuses))
    )
    done.extend(line for line in closed if line is not None)
    for line in done:
        context.log.warning(line)
    return SkipReason("; ".join(done) or "nothing needs repair")


@sensor(job_name=DELIVERY_JOB, minimum_interval_seconds=30, default_status=_RUNNING)
def due_deliveries(export: ExportResource) -> RunRequest | SkipReason:
    """A run for the outbox when something has become due again."""
    if not export.services.deliveries.any_due():
        return SkipReason("nothing is due")
    return RunRequest(run_key=f"deliveries-{int(time.time()) // 30}")


@sensor(minimum_interval_seconds=5, default_status=_RUNNING)
def due_schedules(context: SensorEvaluationContext, export: ExportResource) -> SkipReason:
    """Makes requests of the tenants' schedules that are due; the request sensors ask for their runs."""
    look = export.services.state.look(daemons=_heartbeats(context.instance))
    done = export.services.schedules.dispatch(look.now)
    if done.paused:
        context.log.warning(f"{done.paused} schedules cannot fire as they are and were paused")
    return SkipReason(f"{done.requests} exports due, {done.skipped} missed fires skipped")


def _heartbeats(instance: DagsterInstance) -> dict[str, float]:
    """When each of Dagster's daemons that this instance needs gave its last sign of life, in Unix seconds."""
    found, needed = instance.get_daemon_heartbeats(), instance.get_required_daemon_types()
    return {name: heartbeat.timestamp for name, heartbeat in found.items() if name in needed}


def all_sensors(catalog: Catalog) -> list[SensorDefinition]:
    return [
        *([tenants_sensor(catalog)] if catalog.tenant_buckets is None else []),  # buckets are known by their number
        export_requests,
        conversion_requests,
        ended_sensor(DagsterRunStatus.FAILURE),
        ended_sensor(DagsterRunStatus.CANCELED),
        silent_requests,
        due_deliveries,
        due_schedules,
    ]
