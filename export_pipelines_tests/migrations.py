"""Migration packages by the steps of an export, without Dagster and requests."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import ExportPlan, TableSelection, TenantScope
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.publish.package import assemble_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables


def migration_package(
    services: ExportServices,
    catalog: Catalog,
    tenant: str,
    home: Path,
    *tables: str,
    name: str,
    format_: str = "csv",
    without_deleted: str = "",
) -> Path:
    """The folder of a tenant's package; all tables if none is named, one of them without its deleted rows."""
    selections = tuple(
        TableSelection(table=table, columns=catalog.tables[table].exported_columns)
        for table in tables or tuple(catalog.tables)
    )
    if without_deleted:
        selections = tuple(replace(one, include_deleted=one.table != without_deleted) for one in selections)
    plan = ExportPlan(
        request_id=name,
        attempt=1,
        scope=TenantScope(tenant_id=tenant),
        catalog=catalog.name,
        export_type="migration",
        name=name,
        selections=selections,
        format=format_,
        requested_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    )
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    verdicts = validate_files(plan, stage, files, services, Unwatched())
    package = assemble_package(plan, stage, files, verdicts, services)
    return home / "objects" / package.manifest.key.removesuffix("/manifest.json")
