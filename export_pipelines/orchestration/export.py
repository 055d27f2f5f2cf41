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
from export_pipelines.core.model import ExportFile, ExportPlan, Package, Stage, TableVerdict
from export_pipelines.orchestration.assets import table_key
from export_pipelines.orchestration.attempt_ops import working
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import SOURCE_POOL
from export_pipelines.pipeline.export import (
    convert_step,
    package_step,
    plan_step,
    publish_step,
    stage_step,
    validate_step,
)
from export_pipelines.pipeline.planning.runs import EXPORT_JOB
from export_pipelines.pipeline.publish.deliver import deliver_due
from export_pipelines.pipeline.publish.package import StagedPackage

EXPORT_KEY = AssetKey("export")


class PlanConfig(Config):
    """Which request a run works on."""

    request_id: str = Field(description="Id of the row in export_control.export_requests.")


def plan_op(tables: list[str]) -> OpDefinition:
    """The first op; it depends on every table asset for lineage, and loads none of them."""

    @op(name="plan", ins={table: In(Nothing) for table in tables}, out=Out(ExportPlan))
    def plan(context: OpExecutionContext, config: PlanConfig, export: ExportResource) -> ExportPlan:
        """Take the request and check it against the catalog."""
        with working(context) as worker:
            return plan_step(config.request_id, export.services, worker, job=EXPORT_JOB)

    return plan


@op(pool=SOURCE_POOL)
def stage(context: OpExecutionContext, export: ExportResource, plan: ExportPlan) -> Stage:
    """Read all tables from one snapshot, or from the lake of some time, into canonical Parquet."""
    with working(context) as worker:
        staged = stage_step(plan, export.services, worker)
    for table in staged.tables if plan.catalog == export.services.catalog.name else ():
        context.log_event(
            AssetObservation(
                asset_key=table_key(export.services.catalog, table.table),
                metadata={"rows": table.rows, "request": plan.request_id, "snapshot": staged.snapshot.snapshot_id},
            )
        )
    return staged


@op
def convert(context: OpExecutionContext, export: ExportResource, plan: ExportPlan, staged: Stage) -> list[ExportFile]:
    """Write the files of the format asked for."""
    with working(context) as worker:
        return list(convert_step(plan, staged, export.services, worker))


@op
def validate(
    context: OpExecutionContext,
    export: ExportResource,
    plan: ExportPlan,
    staged: Stage,
    files: list[ExportFile],
) -> list[TableVerdict]:
    """Re-read every file with another library and compare with the source's own figures."""
    with working(context) as worker:
        return list(validate_step(plan, staged, tuple(files), export.services, worker))


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
    with working(context) as worker:
        return package_step(plan, staged, tuple(files), tuple(verdicts), export.services, worker)


@op
def publish(
    context: OpExecutionContext,
    export: ExportResource,
    plan: ExportPlan,
    staged: Stage,
    assembled: StagedPackage,
) -> Package:
    """Make the package visible and the request completed."""
    with working(context) as worker:
        return publish_step(plan, staged, assembled, export.services, worker)


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
