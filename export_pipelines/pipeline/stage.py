"""Read every table of the plan from one snapshot into canonical Parquet, and have the database count the same rows."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import ExportPlan, SharedSnapshot, Stage, StagedTable, TableAggregates, TableSelection
from export_pipelines.core.naming import segment, stage_prefix
from export_pipelines.core.ports import ObjectStore, Progress, Snapshot
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.services import ExportServices


def stage_tables(
    plan: ExportPlan, services: ExportServices, progress: Progress, *, join: SharedSnapshot | None = None
) -> Stage:
    """All tables of the plan as they are at one instant: now, or that of a snapshot that somebody holds.

    Counting runs on the connection that holds the snapshot while another reads the rows.
    """
    services.store.delete(stage_prefix(plan.request_id, plan.attempt))
    with services.source.snapshot(plan.scope, join=join) as snapshot, ThreadPoolExecutor(1, "aggregates") as counting:
        snapshot.require_sound(selection.table for selection in plan.selections)
        progress.expect(sum(snapshot.estimate_rows(selection) for selection in plan.selections))
        figures = [counting.submit(snapshot.aggregate, selection) for selection in plan.selections]
        try:
            tables = [
                _stage_table(plan, selection, snapshot, counted, services, progress)
                for selection, counted in zip(plan.selections, figures, strict=True)
            ]
        except BaseException:
            counting.shutdown(wait=False, cancel_futures=True)
            raise
        progress.expect(sum(table.rows for table in tables))
        return Stage(snapshot=snapshot.shared.info, tables=tuple(tables))


def _stage_table(
    plan: ExportPlan,
    selection: TableSelection,
    snapshot: Snapshot,
    counted: Future[TableAggregates],
    services: ExportServices,
    progress: Progress,
) -> StagedTable:
    schema = services.catalog.tables[selection.table].arrow_schema(selection.columns)
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/canonical/{segment(selection.table)}.parquet"
    rows = write_canonical(
        services.store, key, snapshot.read(selection), schema, table=selection.table, progress=progress
    )
    aggregates = counted.result()
    if rows != aggregates.rows:
        raise IntegrityViolation(f"{selection.table}: {rows} rows arrived, the source counts {aggregates.rows}")
    return StagedTable(
        table=selection.table,
        keys=(key,),
        rows=rows,
        size_bytes=_size(services.store, key),
        aggregates=aggregates,
        columns=selection.columns,
    )


def _size(store: ObjectStore, key: str) -> int:
    return sum(size for _, size in store.list(key))
