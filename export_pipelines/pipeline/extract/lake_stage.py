"""The stage of an export of a point in time: partitions as they were materialised, not the source.

They were read from snapshots of their own, so rows that moved between two of them may be in both or in neither. The
manifest lists every one; figures to compare files with come from the parts themselves, which were compared with the
source when they were written.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter

import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.catalog import Table
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import ExportPlan, LakePart, Stage, StagedTable, TableSelection
from export_pipelines.core.naming import segment, stage_prefix
from export_pipelines.core.omissions import OtherRows, RowCount
from export_pipelines.core.ports import Progress
from export_pipelines.pipeline.canonical import read_canonical, write_canonical
from export_pipelines.pipeline.extract.omissions import omissions_of
from export_pipelines.pipeline.lake.generations import Generation, at_point, has_schema, read_footer, read_spellings
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.sources.conform import foreign_owners
from export_pipelines.sources.soft_delete import alive_rows
from export_pipelines.validation.row_digest import account


def stage_lake(plan: ExportPlan, at: dt.datetime, services: ExportServices, progress: Progress) -> Stage:
    """Copies of the parts in the attempt's stage, so that nothing after this minds what the lake retires."""
    services.store.delete(stage_prefix(plan.request_id, plan.attempt))
    chosen = at_point(plan, at, services.catalog, services.store)
    parts = {table: list(_described(table, found, services)) for table, found in chosen.items()}
    progress.expect(sum(part.rows for found in parts.values() for part in found))
    tables = tuple(
        _staged(plan, selection, chosen[selection.table], services, progress) for selection in plan.selections
    )
    held = {table: sum(part.rows for part in found) for table, found in parts.items()}
    _require_rows(plan, tables, held)
    listed = tuple(part for found in parts.values() for part in found)
    newest = max((part.snapshot for part in listed), key=attrgetter("taken_at"))
    omissions = omissions_of(
        plan,
        services.catalog,
        rows={table.table: RowCount(rows=table.rows) for table in tables},
        others={table.table: OtherRows(deleted=RowCount(rows=held[table.table] - table.rows)) for table in tables},
        unknown=None,  # a database of now says nothing of the one that the parts were read from
    )
    return Stage(snapshot=newest, tables=tables, omissions=omissions, parts=listed)


def _described(table: str, found: Iterable[Generation], services: ExportServices) -> Iterator[LakePart]:
    for generation in found:
        snapshot, rows = read_footer(services.store, generation)
        yield LakePart(table=table, partition=generation.partition, rows=rows, snapshot=snapshot)


def _staged(
    plan: ExportPlan,
    selection: TableSelection,
    found: Iterable[Generation],
    services: ExportServices,
    progress: Progress,
) -> StagedTable:
    table, store = services.catalog.tables[selection.table], services.store
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/canonical/{segment(selection.table)}.parquet"
    schema = table.arrow_schema(selection.columns)
    batches = (
        kept
        for generation in found
        for batch in _read(generation, schema, selection.table, services)
        for kept in _own(batch, table, selection, plan.scope.tenant_id, partial(read_spellings, store, generation))
    )
    rows = write_canonical(store, key, batches, schema, table=selection.table, progress=progress)
    return StagedTable(
        table=selection.table,
        keys=(key,),
        rows=rows,
        size_bytes=sum(size for _, size in store.list(key)),
        aggregates=account(read_canonical(store, (key,), schema), schema).aggregates,
        columns=selection.columns,
    )


def _read(generation: Generation, schema: pa.Schema, table: str, services: ExportServices) -> Iterator[pa.RecordBatch]:
    if not has_schema(services.store, generation, schema):
        raise RequestRejected(
            f"the catalog describes {table} otherwise than when {generation.partition or 'it'} was materialised at "
            f"{generation.taken_at.isoformat()}; choose a later time",
            field="point_in_time",
        )
    yield from read_canonical(services.store, (generation.key,), schema)


def _own(
    batch: pa.RecordBatch,
    table: Table,
    selection: TableSelection,
    tenant_id: str,
    spellings: Callable[[], Collection[str]],
) -> Iterator[pa.RecordBatch]:
    """The batch without rows marked as deleted, unless they are wanted; never another tenant's rows."""
    owner = table.tenant.column
    if owner in batch.schema.names and table.columns[str(owner)].mask is None:
        owners = pc.cast(batch.column(owner), pa.string())
        if table.form_of(str(owner)).padded:  # blanks at its end say nothing of whose a row is
            owners = pc.utf8_rtrim(owners, " ")
        others = foreign_owners(owners, tenant_id, null_is_shared=table.tenant.null_is_shared)
        if others and not set(others) <= set(spellings()):
            raise IntegrityViolation(f"{selection.table}: the lake holds rows of another tenant; nothing was written")
    if not selection.include_deleted and table.deleted_column is not None:
        if table.deleted_column not in batch.schema.names or table.columns[table.deleted_column].mask is not None:
            raise RequestRejected(
                f"{selection.table} in the lake does not say which rows are deleted; leave include_deleted out",
                field="include_deleted",
            )
        batch = alive_rows(batch, table)
    if batch.num_rows:
        yield batch


def _require_rows(plan: ExportPlan, tables: Iterable[StagedTable], held: Mapping[str, int]) -> None:
    for selection, table in zip(plan.selections, tables, strict=True):
        there = held[table.table]
        if table.rows > there or (selection.include_deleted and table.rows != there):
            raise IntegrityViolation(f"{table.table}: {table.rows} rows were read from the lake, which holds {there}")
