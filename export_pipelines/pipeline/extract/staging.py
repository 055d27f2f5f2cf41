"""Where the rows of an export come from: the tenants' database, the lake, or the service's own state."""

from __future__ import annotations

from export_pipelines.core.model import ExportPlan, Stage
from export_pipelines.core.ports import Progress
from export_pipelines.pipeline.extract.lake_stage import stage_lake
from export_pipelines.pipeline.extract.service_stage import stage_service
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.services import ExportServices


def stage_rows(plan: ExportPlan, services: ExportServices, progress: Progress) -> Stage:
    """Canonical Parquet with the figures that finished files are compared with."""
    if plan.export_type == "audit":
        return stage_service(plan, services, progress)
    if plan.point_in_time is not None:
        return stage_lake(plan, plan.point_in_time, services, progress)
    return stage_tables(plan, services, progress)
