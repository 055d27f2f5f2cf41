"""One partitioned asset for each table of the catalog, made by a factory."""

import datetime as dt
import warnings
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    BackfillPolicy,
    BetaWarning,
    Config,
    Failure,
    MaterializeResult,
    MetadataValue,
    RetryRequested,
    TableColumn,
    TableColumnConstraints,
    TableRecord,
    TableSchema,
    asset,
)
from pydantic import Field

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.errors import ExportError, Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.orchestration.partitions import by_owner, dimension_tags, partitions_of, tenants_of
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.run_history import at_work
from export_pipelines.orchestration.runs import SOURCE_POOL
from export_pipelines.pipeline.lake.materialize import LakeWriter, Reuse, sweep_lake_stage, writing_lake
from export_pipelines.pipeline.lake.partition_checks import KEY, ROWS, SCHEMA, TENANT, Preview, check_names
from export_pipelines.pipeline.lake.partition_report import PartitionReport, tally_of
from export_pipelines.pipeline.services import ExportServices

MAX_RETRIES = 2
RETRY_SECONDS = 15
_CHECKS = {
    ROWS: "As many rows were read as the file holds and as the source counts by its policies alone.",
    SCHEMA: "Columns and types, read back with another library, are those of the catalog.",
    KEY: "No two rows of a partition share the primary key.",
    TENANT: "No row belongs to another tenant.",
}


class MaterializeConfig(Config):
    """How much of a run's partitions is read."""

    only_missing: bool = Field(
        default=False,
        description="Keep partitions that were read when their period was over and are what the catalog says.",
    )


def table_key(catalog: Catalog, name: str) -> AssetKey:
    return AssetKey([catalog.name, name])


def table_assets(catalog: Catalog) -> list[AssetsDefinition]:
    """Every table of the catalog, in its order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)  # backfill_policy; one run over a range is what makes it worth it
        return [_table_asset(catalog, name, table) for name, table in catalog.tables.items()]


def _table_asset(catalog: Catalog, name: str, table: Table) -> AssetsDefinition:
    key = table_key(catalog, name)
    checks = check_names(table)

    @asset(
        key=key,
        partitions_def=partitions_of(catalog, table.partition.grain),
        backfill_policy=BackfillPolicy.single_run(),
        pool=SOURCE_POOL,
        check_specs=[AssetCheckSpec(name=check, asset=key, description=_CHECKS[check]) for check in checks],
        group_name=table.module or catalog.name,
        description=table.description,
        kinds={"postgres", "parquet"},
        metadata={"dagster/column_schema": _column_schema(table), "source": ".".join(catalog.relation_name(name))},
    )
    def materialize_table(
        context: AssetExecutionContext, config: MaterializeConfig, export: ExportResource
    ) -> Iterator[object]:
        services = export.services
        sweep_lake_stage(services.store, at_work=lambda run_id: at_work(run_id, context.instance))
        reports: dict[str, PartitionReport] = {}
        try:
            with writing_lake(
                catalog,
                services.store,
                run_id=context.run.run_id,
                scratch=services.settings.scratch,
                retention=services.lake_retention,
            ) as writer:
                reuse = Reuse(complete=config.only_missing, since=_began_at(context))
                _materialize(name, by_owner(context.partition_keys), services, writer, reuse, reports)
        except ExportError as error:
            yield from _finished(key, reports)
            raise _failure(error) from error
        failed = [partition for partition, report in reports.items() if report.failed]
        if failed:
            yield from _finished(key, reports)
        else:
            for partition, report in reports.items():
                context.add_asset_metadata(_partition_metadata(report), asset_key=key, partition_key=partition)
            yield MaterializeResult(asset_key=key)
        # Afterwards: a check shows as not evaluated when another run's materialization comes between it and its own.
        yield from (_check_result(key, check, list(reports.values())) for check in checks)
        if failed:
            listed = f"{len(failed)} partitions failed a check and were not replaced: {', '.join(failed[:5])}"
            raise Failure(listed, allow_retries=False)

    return materialize_table


def _began_at(context: AssetExecutionContext) -> dt.datetime | None:
    """When the first try of a run began that is being retried: what that has read is not read again."""
    if not context.retry_number:
        return None
    began = context.instance.get_run_stats(context.run.run_id).start_time
    return dt.datetime.fromtimestamp(began, dt.UTC) if began else None


def _materialize(
    name: str,
    wanted: dict[str, list[tuple[str, dt.date | None]]],
    services: ExportServices,
    writer: LakeWriter,
    reuse: Reuse,
    reports: dict[str, PartitionReport],
) -> None:
    """Fill in a report for each partition: one snapshot a tenant, so that a tenant's partitions fit each other."""
    catalog, source = services.catalog, services.source
    everybody = source.tenants() if catalog.tenant_buckets is not None else []
    for owner, partitions in wanted.items():
        tenants = tenants_of(owner, catalog, everybody)
        reports.update({key: PartitionReport(tenants=len(tenants)) for key, _ in partitions})
        periods = [period for _, period in partitions]
        for tenant in tenants:
            parts = writer.materialize_all(name, TenantScope(tenant_id=tenant), periods, source, reuse)
            with closing(parts):
                for (key, _), part in zip(partitions, parts, strict=True):
                    reports[key].add(part)


def _finished(key: AssetKey, reports: dict[str, PartitionReport]) -> Iterator[AssetMaterialization]:
    """The partitions of a run that fails which are in the lake all the same."""
    for partition, report in reports.items():
        if report.whole:
            yield AssetMaterialization(
                asset_key=key,
                partition=partition,
                metadata=_partition_metadata(report),
                tags=dimension_tags(partition),
            )


def _failure(error: ExportError) -> Exception:
    if isinstance(error, Unavailable):
        return RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=RETRY_SECONDS)
    return Failure(str(error), metadata={"error_type": error.error_type}, allow_retries=False)


def _partition_metadata(report: PartitionReport) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": report.rows,
        "size_bytes": report.size_bytes,
        "tenants": report.tenants,
        "already_present": report.already_present,
        "preview": _preview(report.preview),
    }
    if report.oldest is not None:
        metadata["snapshot_taken_at"] = report.oldest.snapshot.taken_at.isoformat()
    if report.oldest is not None and report.tenants == 1:
        metadata |= {"object": report.oldest.key, "snapshot": report.oldest.snapshot.snapshot_id}
    return metadata


def _preview(preview: Preview) -> MetadataValue:
    """As a table, never as Markdown: tenants' text could bring links and images into the operators' browser."""
    return MetadataValue.table(
        records=[TableRecord(dict(zip(preview.columns, row, strict=True))) for row in preview.rows],
        schema=TableSchema([TableColumn(name) for name in preview.columns]),
    )


def _check_result(key: AssetKey, check: str, reports: list[PartitionReport]) -> AssetCheckResult:
    """One result a run, over all its partitions. Parts that were kept passed when they were made."""
    tally = tally_of(check, reports)
    return AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not tally.failed,
        metadata={
            "partitions": tally.parts,
            "failed": tally.failed,
            "already_present": sum(report.already_present for report in reports),
            "object": tally.key,
            "detail": tally.detail,
        },
    )


def _column_schema(table: Table) -> TableSchema:
    return TableSchema(
        columns=[
            TableColumn(
                name=column,
                type=table.columns[column].type,
                description=table.columns[column].description,
                tags={"classification": table.columns[column].classification.value},
                constraints=TableColumnConstraints(
                    nullable=table.columns[column].nullable, unique=table.primary_key == (column,)
                ),
            )
            for column in table.exported_columns
        ]
    )
