"""The way of an export: its steps in order, each under the attempt that holds the request.

`export_pipelines.orchestration.export` runs the same steps as ops of Dagster, one after another; `run_export` runs them
here, in one call and without Dagster, for programs that bring an orchestration of their own, benchmarks and tests.
"""

from __future__ import annotations

from uuid import uuid4

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportFile, ExportPlan, Package, Stage, TableVerdict
from export_pipelines.pipeline.attempt import Worker, ending, step, take
from export_pipelines.pipeline.extract.staging import stage_rows
from export_pipelines.pipeline.planning.plan import plan_request, retained_rows, services_for
from export_pipelines.pipeline.planning.runs import job_name
from export_pipelines.pipeline.publish.archiving import open_lock
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines.pipeline.publish.package import StagedPackage, assemble_package
from export_pipelines.pipeline.publish.publish import publish as publish_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables


def run_export(request_id: str, services: ExportServices, worker: Worker | None = None) -> Package:
    """An export or a conversion from its request to its delivery; the outcome is in the request, too.

    Raises what ended it, after the request was told.
    """
    worker = worker or Worker(run_id=str(uuid4()))
    plan = plan_step(request_id, services, worker)
    staged = retained_step(plan, services, worker) if plan.converted_from else stage_step(plan, services, worker)
    files = convert_step(plan, staged, services, worker)
    verdicts = validate_step(plan, staged, files, services, worker)
    assembled = package_step(plan, staged, files, verdicts, services, worker)
    published = publish_step(plan, staged, assembled, services, worker)
    deliver_due(services, plan.request_id)
    return published


def plan_step(request_id: str, services: ExportServices, worker: Worker, *, job: str | None = None) -> ExportPlan:
    """Take the request and check it; `RequestRejected` when it is the work of another job than ``job``."""
    with ending(worker, services, request_id):
        request = take(services.requests, request_id, worker)
        if job is not None and job_name(request) != job:
            raise RequestRejected(f"request {request_id} is the work of {job_name(request)}", field="job")
        plan = plan_request(request, services)
        if plan.sealing is not None:
            open_lock(plan, plan.sealing, services)  # a missing password or a bad key is said before rows are read
        return plan


def stage_step(plan: ExportPlan, services: ExportServices, worker: Worker) -> Stage:
    """Read all tables from one snapshot, or from the lake of some time, into canonical Parquet."""
    services = services_for(plan, services)
    with step(worker, services, plan, "stage", expected_rows=plan.expected_rows or 0) as progress:
        return stage_rows(plan, services, progress)


def retained_step(plan: ExportPlan, services: ExportServices, worker: Worker) -> Stage:
    """The canonical Parquet that the export to convert left."""
    with step(worker, services, plan, "stage", expected_rows=0) as progress:
        staged = retained_rows(plan, services)
        progress.expect(_rows(staged))
        for table in staged.tables:
            progress.advance(table=table.table, rows=table.rows)
        return staged


def convert_step(plan: ExportPlan, staged: Stage, services: ExportServices, worker: Worker) -> tuple[ExportFile, ...]:
    """Write the files of the format asked for."""
    services = services_for(plan, services)
    with step(worker, services, plan, "convert", expected_rows=_rows(staged)) as progress:
        return tuple(convert_tables(plan, staged, services, progress))


def validate_step(
    plan: ExportPlan, staged: Stage, files: tuple[ExportFile, ...], services: ExportServices, worker: Worker
) -> tuple[TableVerdict, ...]:
    """Re-read every file with another library and compare with the source's own figures."""
    services = services_for(plan, services)
    with step(worker, services, plan, "validate", expected_rows=_rows(staged)) as progress:
        return tuple(validate_files(plan, staged, files, services, progress))


def package_step(
    plan: ExportPlan,
    staged: Stage,
    files: tuple[ExportFile, ...],
    verdicts: tuple[TableVerdict, ...],
    services: ExportServices,
    worker: Worker,
) -> StagedPackage:
    """Add README, datapackage.json, SHA256SUMS and the manifest; zip where asked for."""
    services = services_for(plan, services)
    with step(worker, services, plan, "package", expected_rows=0):
        return assemble_package(plan, staged, files, verdicts, services)


def publish_step(
    plan: ExportPlan, staged: Stage, assembled: StagedPackage, services: ExportServices, worker: Worker
) -> Package:
    """Make the package visible and the request completed."""
    services = services_for(plan, services)
    with step(worker, services, plan, "publish", expected_rows=0):
        return publish_package(plan, staged, assembled, services, run_id=worker.run_id)


def _rows(staged: Stage) -> int:
    return sum(table.rows for table in staged.tables)
