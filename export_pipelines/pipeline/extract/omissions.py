"""What an export leaves out, from its plan, the catalog, and what the source counted and has beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import ExportPlan, TableSelection
from export_pipelines.core.omissions import (
    AppliedWindow,
    ColumnCause,
    NotInCatalog,
    Omissions,
    OmittedColumn,
    OmittedTable,
    OtherRows,
    RowCount,
    SoftDelete,
    TableCause,
    TableOmissions,
)
from export_pipelines.core.types import value_type
from export_pipelines.core.windows import as_compared


def omissions_of(
    plan: ExportPlan,
    catalog: Catalog,
    *,
    rows: Mapping[str, RowCount],
    others: Mapping[str, OtherRows],
    unknown: NotInCatalog | None,
) -> Omissions:
    """``rows`` are those of the selections, by table; ``unknown`` is None where no database was compared."""
    columns = unknown.columns if unknown else {}
    return Omissions(
        tables=tuple(
            _of_table(
                selection, catalog, rows[selection.table], others[selection.table], columns.get(selection.table, ())
            )
            for selection in plan.selections
        ),
        other_tables=tuple(_other_tables(plan, catalog, unknown or NotInCatalog())),
        compared_with_database=unknown is not None,
    )


def _of_table(
    selection: TableSelection, catalog: Catalog, rows: RowCount, others: OtherRows, unknown: tuple[str, ...]
) -> TableOmissions:
    exported, deleted = others.read or rows, others.deleted or RowCount(rows=0)
    column = catalog.tables[selection.table].deleted_column
    return TableOmissions(
        table=selection.table,
        exported_rows=exported,
        all_rows=others.all_rows or exported + deleted,
        deleted=SoftDelete(column=column, included=selection.include_deleted, left_out=deleted) if column else None,
        window=_window(selection, catalog),
        filters={condition.column: tuple(condition.wanted) for condition in selection.conditions},
        columns=(
            *_columns(selection, catalog),
            *(OmittedColumn(name=name, cause=ColumnCause.NOT_IN_CATALOG) for name in unknown),
        ),
    )


def _window(selection: TableSelection, catalog: Catalog) -> AppliedWindow | None:
    window, column = selection.window, selection.window_column
    if window is None or window.unbounded or column is None:
        return None
    kind = value_type(catalog.tables[selection.table].columns[column].type).kind
    start, end = (
        None if instant is None else as_compared(instant, kind, catalog.timezone).isoformat()
        for instant in (window.start_at, window.end_at)
    )
    return AppliedWindow(column=column, start=start, end=end, rows_without_time=window.with_unset)


def _columns(selection: TableSelection, catalog: Catalog) -> Iterator[OmittedColumn]:
    """In catalog order; figures after the table's own columns."""
    table, shape = catalog.tables[selection.table], catalog.shape(selection.table, selection.aggregation)
    for name, column in (table.columns | shape.columns).items():
        chosen = name in selection.columns
        if chosen and shape.columns[name].mask is not None:
            yield OmittedColumn(name=name, cause=ColumnCause.MASKED, reason=shape.columns[name].mask)
        elif not chosen and column.exclude is not None:
            yield OmittedColumn(name=name, cause=ColumnCause.EXCLUDED, reason=column.exclude)
        elif not chosen:
            cause = ColumnCause.NOT_REQUESTED if name in shape.columns else ColumnCause.AGGREGATED
            yield OmittedColumn(name=name, cause=cause)


def _other_tables(plan: ExportPlan, catalog: Catalog, unknown: NotInCatalog) -> Iterator[OmittedTable]:
    """Of the catalog, in its order, then of the database."""
    exported = {selection.table for selection in plan.selections}
    for name, table in catalog.tables.items():
        if name in plan.withheld and name not in exported:
            reason = f"may be exported by {' or '.join(table.roles) or 'nobody'} only"
            yield OmittedTable(name=name, cause=TableCause.ROLE, reason=reason)
        elif name in plan.left_out:
            yield OmittedTable(name=name, cause=TableCause.NO_TIME_COLUMN)
        elif name not in exported:
            yield OmittedTable(name=name, cause=TableCause.NOT_REQUESTED)
    for name, reason in catalog.excluded.items():
        yield OmittedTable(name=name, cause=TableCause.EXCLUDED, reason=reason)
    for name in unknown.tables:
        yield OmittedTable(name=name, cause=TableCause.NOT_IN_CATALOG)
