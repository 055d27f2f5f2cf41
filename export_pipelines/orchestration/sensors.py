"""Sensors: tenants into partitions, request rows into runs, ended and silent runs back into rows."""

import time
from collections.abc import Iterator

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    DynamicPartitionsDefinition,
    RunRequest,
    RunStatusSensorContext,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    run_status_sensor,
    sensor,
)

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.orchestration.jobs import DELIVERY_JOB, EXPORT_JOB
from export_pipelines.orchestration.partitions import UNUSABLE_IN_KEYS, tenant_partitions_name
from export_pipelines.orchestration.reconcile import REQUEST_TAG, ended, reconcile, run_key, run_tags
from export_pipelines.orchestration.resources import ExportResource

_RUNNING = DefaultSensorStatus.RUNNING


def tenants_sensor(catalog: Catalog) -> SensorDefinition:
    """Keeps the dynamic tenant partitions the same as the source's tenants."""
    name = tenant_partitions_name(catalog)

    @sensor(name=f"{name}_sensor", minimum_interval_seconds=30, default_status=_RUNNING)
    def sync_tenants(context: SensorEvaluationContext, export: ExportResource) -> SensorResult | SkipReason:
        wanted = export.services.source.tenants()
        unusable = [tenant for tenant in wanted if any(mark in tenant for mark in UNUSABLE_IN_KEYS)]
        if unusable:
            context.log.warning(f"{len(unusable)} tenant ids cannot be partition keys; they have no table assets")
        if not wanted:
            return SkipReason("the source lists no tenant; partitions are left as they are")
        present = set(context.instance.get_dynamic_partitions(name))
        added = sorted(set(wanted) - present - set(unusable))
        removed = sorted(present - set(wanted))
        if not added and not removed:
            return SkipReason(f"{len(present)} tenants, all known")
        tenants = DynamicPartitionsDefinition(name=name)
        changes = [tenants.build_add_request(added)] if added else []
        changes += [tenants.build_delete_request(removed)] if removed else []
        return SensorResult(dynamic_partitions_requests=changes)

    return sync_tenants


@sensor(job_name=EXPORT_JOB, minimum_interval_seconds=5, default_status=_RUNNING)
def export_requests(context: SensorEvaluationContext, export: ExportResource) -> Iterator[RunRequest | SkipReason]:
    """A run for every queued request, asked for again and again until it exists; the run key makes it one."""
    queued = export.services.requests.launchable()
    for request in queued:
        yield RunRequest(
            run_key=run_key(request),
            run_config=export_run_config(request.id),
            tags=run_tags(request),
        )
    if not queued:
        yield SkipReason("no request is due")


def export_run_config(request_id: str) -> dict[str, object]:
    """Run config of ``export_job`` for one request."""
    return {"ops": {"export": {"ops": {"plan": {"config": {"request_id": request_id}}}}}}


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
        return SkipReason(ended(request, context.dagster_run, requests) or "the request knows")

    return run_ended


@sensor(minimum_interval_seconds=15, default_status=_RUNNING)
def silent_requests(context: SensorEvaluationContext, export: ExportResource) -> SkipReason:
    """Finds requests whose run went silent and fails or requeues them."""
    requests = export.services.requests
    done = [
        f"{request.id}: {outcome}"
        for request in requests.silent(older_than=export.stale_after)
        if (outcome := reconcile(request, context.instance, requests)) is not None
    ]
    for line in done:
        context.log.warning(line)
    return SkipReason("; ".join(done) or "no request needs repair")


@sensor(job_name=DELIVERY_JOB, minimum_interval_seconds=30, default_status=_RUNNING)
def due_deliveries(export: ExportResource) -> RunRequest | SkipReason:
    """A run for the outbox when something has become due again."""
    if not export.services.deliveries.any_due():
        return SkipReason("nothing is due")
    return RunRequest(run_key=f"deliveries-{int(time.time()) // 30}")


def all_sensors(catalog: Catalog) -> list[SensorDefinition]:
    return [
        tenants_sensor(catalog),
        export_requests,
        ended_sensor(DagsterRunStatus.FAILURE),
        ended_sensor(DagsterRunStatus.CANCELED),
        silent_requests,
        due_deliveries,
    ]
