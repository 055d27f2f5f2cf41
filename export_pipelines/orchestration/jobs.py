"""Jobs: one for exports, one for each grain of table assets, one for the outbox, one that cleans up."""

from dagster import (
    AssetSelection,
    JobDefinition,
    OpExecutionContext,
    define_asset_job,
    job,
    op,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.orchestration.assets import table_key
from export_pipelines.orchestration.cleanup import cleanup_job
from export_pipelines.orchestration.conversion import convert_job
from export_pipelines.orchestration.export import EXPORT_KEY
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import RUN_LIMITS
from export_pipelines.pipeline.planning.runs import EXPORT_JOB
from export_pipelines.pipeline.publish.deliver import deliver_due

DELIVERY_JOB = "delivery_job"
_JOB_OF_GRAIN = {Grain.MONTH: "materialize_months", Grain.DAY: "materialize_days", Grain.NONE: "materialize_tenants"}


# One run is one request, in one process.
export_job = define_asset_job(
    EXPORT_JOB,
    selection=AssetSelection.assets(EXPORT_KEY),
    description="One export request, from plan to delivery.",
    tags=RUN_LIMITS,
)
REQUEST_JOBS = (export_job, convert_job)


def tables_of(catalog: Catalog, grain: Grain) -> list[str]:
    return [name for name, table in catalog.tables.items() if table.partition.grain is grain]


def materialize_job_name(grain: Grain) -> str:
    return _JOB_OF_GRAIN[grain]


def materialize_jobs(catalog: Catalog) -> list[UnresolvedAssetJobDefinition]:
    """A job for each grain in use; assets with different partitions cannot share a run."""
    return [
        define_asset_job(
            name,
            selection=AssetSelection.assets(*(table_key(catalog, table) for table in tables_of(catalog, grain))),
            description=f"All tables with {'no period' if grain is Grain.NONE else f'one partition a {grain}'}.",
        )
        for grain, name in _JOB_OF_GRAIN.items()
        if tables_of(catalog, grain)
    ]


@op
def send_due_deliveries(context: OpExecutionContext, export: ExportResource) -> None:
    """Work the outbox until nothing is due."""
    context.log.info(f"{deliver_due(export.services)} delivered")


@job(name=DELIVERY_JOB, description="Retry what could not be delivered.")
def delivery_job() -> None:
    send_due_deliveries()


def all_jobs(catalog: Catalog) -> list[UnresolvedAssetJobDefinition | JobDefinition]:
    return [*REQUEST_JOBS, *materialize_jobs(catalog), delivery_job, cleanup_job]
