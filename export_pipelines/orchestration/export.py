"""The ``export`` asset: a graph of few, fat ops downstream of every table asset.

Between ops travel keys and small records, never rows. Each op unpacks, calls the pipeline and hands on.
"""

from collections.abc import Iterator

from dagster import (
    AssetKey,
    AssetObservation,
    AssetsDefinition,
    Config,
    DependencyDefinition,
    GraphDefinition,
    In,
    InputMapping,
    MetadataValue,
    Nothing,
    OpDefinition,
    OpExecutionContext,
    Out,
    Output,
    OutputMapping,
    op,
)
from pydantic import Field

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ExportFile, ExportPlan, Package, Stage, TableVerdict
from export_pipelines.orchestration.assets import table_key
from export_pipelines.orchestration.holding import ending, step, take
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import SOURCE_POOL
from export_pipelines.pipeline.archiving import open_lock
from export_pipelines.pipeline.convert import convert_tables
from export_pipelines.pipeline.deliver import deliver_due
from export_pipelines.pipeline.package import StagedPackage, assemble_package
from export_pipelines.pipeline.plan import plan_request, services_for
from export_pipelines.pipeline.publish import publish as publish_package
from export_pipelines.pipeline.runs import EXPORT_JOB, job_name
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.staging import stage_rows
from export_pipelines.pipeline.validate import validate_files

EXPORT_KEY = AssetKey("export")


class PlanConfig(Config):
    """Which request a run works on."""

    request_id: str = Field(description="Id of the row in export_control.export_requests.")


def planned(context: OpExecutionContext, request_id: str, services: ExportServices, *, job: str) -> ExportPlan:
    """Take the request and check it; `RequestRejected` when it is the work of another job."""
    with ending(context, services, request_id):
        request = take(services.requests, request_id, context.run)
        if job_name(request) != job:
            raise RequestRejected(f"request {request_id} is the work of {job_name(request)}", field="job")
        plan = plan_request(request, services)
        if plan.sealing is not None:
            open_lock(plan, plan.sealing, services)  # a missing password or a bad key is said before rows are read
        return plan


def plan_op(tables: list[str]) -> OpDefinition:
    """The first op; it depends on every table asset for lineage, and loads none of them."""

    @op(name="plan", ins={table: In(Nothing) for table in tables}, out=Out(ExportPlan))
    def plan(context: OpExecutionContext, config: PlanConfig, export: ExportResource) -> ExportPlan:
        """Take the request and check it against the catalog."""
        return planned(context, config.request_id, export.services, job=EXPORT_JOB)

    return plan


@op(pool=SOURCE_POOL)
def stage(context: OpExecutionContext, export: ExportResource, plan: ExportPlan) -> Stage:
    """Read all tables from one snapshot, or from the lake of some time, into canonical Parquet."""
    services = services_for(plan, export.services)
    with step(context, services, plan, "stage", expected_rows=plan.expected_rows or 0) as progress:
        staged = stage_rows(plan, services, progress)
    for table in staged.tables if plan.catalog == export.services.catalog.name else ():
        context.log_event(
            AssetObservation(
                asset_key=table_key(services.catalog, table.table),
                metadata={"rows": table.rows, "request": plan.request_id, "snapshot": staged.snapshot.snapshot_id},
            )
        )
    return staged


@op
def convert(context: OpExecutionContext, export: ExportResource, plan: ExportPlan, staged: Stage) -> list[ExportFile]:
    """Write the files of the format asked for."""
    services = services_for(plan, export.services)
    with step(context, services, plan, "convert", expected_rows=_rows(staged)) as progress:
        return list(convert_tables(plan, staged, services, progress))


@op
def validate(
    context: OpExecutionContext,
    export: ExportResource,
    plan: ExportPlan,
    staged: Stage,
    files: list[ExportFile],
) -> list[TableVerdict]:
    """Re-read every file with another library and compare with the source's own figures."""
    services = services_for(plan, export.services)
    with step(context, services, plan, "validate", expected_rows=_rows(staged)) as progress:
        return list(validate_files(plan, staged, tuple(files), services, progress))


@op
def package(
    context: OpExecutionContext,
    export: ExportResource,
    plan: ExportPlan,
    staged: Stage,
    files: list[ExportFile],
    verdicts: list[TableVerdict],
) -> StagedPackage:
    """Add README, datapackage.json, SHA256SUMS and the manifest; zip where asked for."""
    services = services_for(plan, export.services)
    with step(context, services, plan, "package", expected_rows=0):
        return assemble_package(plan, staged, tuple(files), tuple(verdicts), services)


@op
def publish(
    context: OpExecutionContext,
    export: ExportResource,
    plan: ExportPlan,
    staged: Stage,
    assembled: StagedPackage,
) -> Package:
    """Make the package visible and the request completed."""
    services = services_for(plan, export.services)
    with step(context, services, plan, "publish", expected_rows=0):
        return publish_package(plan, staged, assembled, services, run_id=context.run_id)


@op
def deliver(export: ExportResource, plan: ExportPlan, published: Package) -> Package:
    """Send what is due; what fails stays in the outbox for the delivery sensor."""
    deliver_due(export.services, plan.request_id)
    return published


@op
def finish(plan: ExportPlan, delivered: Package) -> Iterator[Output[str]]:
    """Record totals on the asset."""
    yield Output(
        delivered.prefix,
        metadata={
            "request": plan.request_id,
            "tenant": plan.scope.tenant_id,
            "format": plan.format,
            "rows": delivered.rows,
            "size_bytes": delivered.size_bytes,
            "files": MetadataValue.md("\n".join(f"- `{file.path}` {file.rows:,} rows" for file in delivered.files)),
            "manifest_sha256": delivered.manifest_sha256,
        },
    )


def export_asset(catalog: Catalog) -> AssetsDefinition:
    """``plan → stage → convert → validate → package → publish → deliver → finish``."""
    tables = list(catalog.tables)
    graph = GraphDefinition(
        name="export",
        node_defs=[plan_op(tables), stage, convert, validate, package, publish, deliver, finish],
        dependencies={
            "stage": inputs(plan="plan"),
            "convert": inputs(plan="plan", staged="stage"),
            "validate": inputs(plan="plan", staged="stage", files="convert"),
            "package": inputs(plan="plan", staged="stage", files="convert", verdicts="validate"),
            "publish": inputs(plan="plan", staged="stage", assembled="package"),
            "deliver": inputs(plan="plan", published="publish"),
            "finish": inputs(plan="plan", delivered="deliver"),
        },
        input_mappings=[
            InputMapping(graph_input_name=table, mapped_node_name="plan", mapped_node_input_name=table)
            for table in tables
        ],
        output_mappings=[
            OutputMapping(graph_output_name="package", mapped_node_name="finish", mapped_node_output_name="result")
        ],
    )
    return AssetsDefinition.from_graph(
        graph,
        keys_by_input_name={table: table_key(catalog, table) for table in tables},
        keys_by_output_name={"package": EXPORT_KEY},
        group_name="exports",
        descriptions_by_output_name={"package": "A verified, delivered package for one request."},
    )


def inputs(**sources: str) -> dict[str, DependencyDefinition]:
    """Dependencies of an op: input name → name of the op that makes it."""
    return {name: DependencyDefinition(node) for name, node in sources.items()}


def _rows(staged: Stage) -> int:
    return sum(table.rows for table in staged.tables)
