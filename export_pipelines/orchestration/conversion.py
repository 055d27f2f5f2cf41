"""The job that writes what a finished export has read in another format, without touching the source."""

from dagster import GraphDefinition, JobDefinition, OpExecutionContext, op

from export_pipelines.core.model import ExportPlan, Stage
from export_pipelines.orchestration.attempt_ops import working
from export_pipelines.orchestration.export import (
    PlanConfig,
    convert,
    deliver,
    finish,
    inputs,
    package,
    publish,
    validate,
)
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import RUN_LIMITS
from export_pipelines.pipeline.export import plan_step, retained_step
from export_pipelines.pipeline.planning.runs import CONVERT_JOB


@op
def plan_conversion(context: OpExecutionContext, config: PlanConfig, export: ExportResource) -> ExportPlan:
    """Take the request and find what it converts."""
    with working(context) as worker:
        return plan_step(config.request_id, export.services, worker, job=CONVERT_JOB)


@op
def canonical(context: OpExecutionContext, export: ExportResource, plan: ExportPlan) -> Stage:
    """The canonical Parquet that the export left."""
    with working(context) as worker:
        return retained_step(plan, export.services, worker)


convert_job: JobDefinition = GraphDefinition(
    name=CONVERT_JOB,
    description="One conversion request: a finished export in another format.",
    node_defs=[plan_conversion, canonical, convert, validate, package, publish, deliver, finish],
    dependencies={
        "canonical": inputs(plan="plan_conversion"),
        "convert": inputs(plan="plan_conversion", staged="canonical"),
        "validate": inputs(plan="plan_conversion", staged="canonical", files="convert"),
        "package": inputs(plan="plan_conversion", staged="canonical", files="convert", verdicts="validate"),
        "publish": inputs(plan="plan_conversion", staged="canonical", assembled="package"),
        "deliver": inputs(plan="plan_conversion", published="publish"),
        "finish": inputs(plan="plan_conversion", delivered="deliver"),
    },
).to_job(tags=RUN_LIMITS)
