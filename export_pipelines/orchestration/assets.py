"""One partitioned asset for each table of the catalog, made by a factory."""

import datetime as dt
import warnings
from collections.abc import Generator, Iterator
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

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.errors import ExportError, Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.orchestration.history import at_work
from export_pipelines.orchestration.partitions import by_tenant, dimension_tags, partitions_of
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.runs import SOURCE_POOL
from export_pipelines.pipeline.materialize import LakePartition, LakeWriter, sweep_lake_stage, writing_lake
from export_pipelines.pipeline.partition_checks import KEY, ROWS, SCHEMA, TENANT, Preview, check_names
from export_pipelines.pipeline.services import ExportServices

MAX_RETRIES = 2
RETRY_SECONDS = 15
_CHECKS = {
    ROWS: "As many rows were read as the file holds and as the source counts by its policies alone.",
    SCHEMA: "Columns and types, read back with another library, are those of the catalog.",
    KEY: "No two rows of a partition share the primary key.",
    TENANT: "No row belongs to another tenant.",
}


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
    def materialize_table(context: AssetExecutionContext, export: ExportResource) -> Iterator[object]:
        services = export.services
        sweep_lake_stage(services.store, at_work=lambda run_id: at_work(run_id, context.instance))
        parts: dict[str, LakePartition] = {}
        try:
            with (
                writing_lake(
                    catalog,
                    services.store,
                    run_id=context.run.run_id,
                    scratch=services.scratch,
                    retention=services.lake_retention,
                ) as writer,
                closing(_materialized(name, by_tenant(context.partition_keys), services, writer)) as done,
            ):
                parts.update(done)
        except ExportError as error:
            yield from _finished(key, parts)
            raise _failure(error) from error
        failed = [part.key for part in parts.values() if not part.valid]
        if failed:
            yield from _finished(key, parts)
        else:
            for partition_key, part in parts.items():
                context.add_asset_metadata(_partition_metadata(part), asset_key=key, partition_key=partition_key)
            yield MaterializeResult(asset_key=key)
        # Afterwards: a check shows as not evaluated when another run's materialization comes between it and its own.
        yield from (_check_result(key, check, list(parts.values())) for check in checks)
        if failed:
            listed = f"{len(failed)} partitions failed a check and were not replaced: {', '.join(failed[:5])}"
            raise Failure(listed, allow_retries=False)

    return materialize_table


def _materialized(
    name: str,
    wanted: dict[str, list[tuple[str, dt.date | None]]],
    services: ExportServices,
    writer: LakeWriter,
) -> Generator[tuple[str, LakePartition], None, None]:
    """Each partition as it is done: one snapshot a tenant, so that a tenant's partitions fit each other."""
    for tenant_id, periods in wanted.items():
        scope = TenantScope(tenant_id=tenant_id)
        with services.source.snapshot(scope) as snapshot:
            for partition_key, period in periods:
                yield partition_key, writer.materialize(name, scope, period, snapshot)


def _finished(key: AssetKey, parts: dict[str, LakePartition]) -> Iterator[AssetMaterialization]:
    """The partitions of a run that fails which are in the lake all the same."""
    for partition_key, part in parts.items():
        if part.valid:
            yield AssetMaterialization(
                asset_key=key,
                partition=partition_key,
                metadata=_partition_metadata(part),
                tags=dimension_tags(partition_key),
            )


def _failure(error: ExportError) -> Exception:
    if isinstance(error, Unavailable):
        return RetryRequested(max_retries=MAX_RETRIES, seconds_to_wait=RETRY_SECONDS)
    return Failure(str(error), metadata={"error_type": error.error_type}, allow_retries=False)


def _partition_metadata(part: LakePartition) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": part.rows,
        "size_bytes": part.size_bytes,
        "object": part.key,
        "snapshot": part.snapshot.snapshot_id,
        "snapshot_taken_at": part.snapshot.taken_at.isoformat(),
        "preview": _preview(part.preview),
    }


def _preview(preview: Preview) -> MetadataValue:
    """As a table, never as Markdown: tenants' text could bring links and images into the operators' browser."""
    return MetadataValue.table(
        records=[TableRecord(dict(zip(preview.columns, row, strict=True))) for row in preview.rows],
        schema=TableSchema([TableColumn(name) for name in preview.columns]),
    )


def _check_result(key: AssetKey, check: str, parts: list[LakePartition]) -> AssetCheckResult:
    """One result a run, over all its partitions: the first that failed, or else the first, is shown."""
    outcomes = [(part, outcome) for part in parts for outcome in part.outcomes if outcome.name == check]
    failed = [(part, outcome) for part, outcome in outcomes if not outcome.passed]
    part, shown = (failed or outcomes)[0]
    return AssetCheckResult(
        asset_key=key,
        check_name=check,
        passed=not failed,
        metadata={"partitions": len(outcomes), "failed": len(failed), "object": part.key, "detail": shown.detail},
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
