"""One partitioned asset for each table of the catalog, made by a factory."""

import warnings
from collections.abc import Iterator

from dagster import (
    BetaWarning,
    AssetCheckResult,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    Failure,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableColumnConstraints,
    TableSchema,
    asset,
)

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.model import TenantScope
from export_pipelines.orchestration.partitions import by_tenant, partitions_of
from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.pipeline.materialize import LakePartition, check_names, materialize_partition


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
        check_specs=[AssetCheckSpec(name=check, asset=key) for check in checks],
        group_name=table.module or catalog.name,
        description=table.description,
        kinds={"postgres", "parquet"},
        metadata={"dagster/column_schema": _column_schema(table), "source": ".".join(catalog.relation_name(name))},
    )
    def materialize_table(context: AssetExecutionContext, export: ExportResource) -> Iterator[object]:
        services = export.services
        parts: list[LakePartition] = []
        for tenant_id, keys in by_tenant(context.partition_keys).items():
            scope = TenantScope(tenant_id=tenant_id)
            with services.source.snapshot(scope) as snapshot:
                for partition_key, period in keys:
                    part = materialize_partition(catalog, name, scope, period, snapshot, services.store)
                    parts.append(part)
                    context.add_asset_metadata(_partition_metadata(part), asset_key=key, partition_key=partition_key)
        failed = [part for part in parts if not part.valid]
        yield from (_check_result(key, check, parts) for check in checks)
        if failed:
            listed = ", ".join(part.key for part in failed[:5])
            raise Failure(f"{len(failed)} partitions failed a check and were not replaced: {listed}", allow_retries=False)
        yield MaterializeResult(asset_key=key)

    return materialize_table


def _partition_metadata(part: LakePartition) -> dict[str, object]:
    header, *rows = part.preview or (("",),)
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in row) + " |" for row in rows]
    return {
        "dagster/partition_row_count": part.rows,
        "size_bytes": part.size_bytes,
        "object": part.key,
        "preview": MetadataValue.md("\n".join(lines)),
    }


def _check_result(key: AssetKey, check: str, parts: list[LakePartition]) -> AssetCheckResult:
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
