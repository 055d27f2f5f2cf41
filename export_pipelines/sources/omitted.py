"""Counts of the rows that a selection leaves out, by the database, in the snapshot of those it reads.

Rows marked as deleted are counted under all other conditions of the selection. The rows of the whole table are counted
only as far as `export_pipelines.core.omissions.COUNTED_ROWS`, so that a narrow export of a large table stays small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.omissions import COUNTED_ROWS, OtherRows, Precision, RowCount
from export_pipelines.sources.relation import from_where
from export_pipelines.sources.soft_delete import alive_condition

CHEAP_COST = 2_000.0  # of the planner: some 15 MB of pages to read, 10 ms
Ask = Callable[[sql.Composed], tuple[Any, ...]]
"""Runs a statement that answers one row."""

_Count = Callable[[sql.Composed], RowCount]


def count_other_rows(catalog: Catalog, selection: TableSelection, scope: TenantScope, ask: Ask) -> OtherRows:
    """Exactly, or to where counting ends."""
    return _counted(catalog, selection, scope, lambda rows: _exactly(rows, ask), lambda rows: _bounded(rows, ask))


def expect_other_rows(catalog: Catalog, selection: TableSelection, scope: TenantScope, ask: Ask) -> OtherRows:
    """By the planner; exactly where it expects a count to be cheap."""

    def count(rows: sql.Composed) -> RowCount:
        plan = ask(sql.SQL("EXPLAIN (FORMAT JSON) SELECT {}").format(rows))[0][0]["Plan"]
        if plan["Total Cost"] <= CHEAP_COST:
            return _exactly(rows, ask)
        return RowCount(rows=int(plan["Plan Rows"]), precision=Precision.ESTIMATE)

    return _counted(catalog, selection, scope, count, count)


def _counted(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, count: _Count, count_all: _Count
) -> OtherRows:
    table, rows = catalog.tables[selection.table], replace(selection, aggregation=None)
    whole = replace(rows, include_deleted=True)
    deleted = read = all_rows = None
    if not selection.include_deleted and table.deleted_column is not None:
        # A condition that is NULL keeps a row out, too.
        inverse = sql.SQL(" AND ({}) IS NOT TRUE").format(alive_condition(table))
        deleted = count(from_where(catalog, whole, scope) + inverse)
    if selection.aggregation is not None:
        read = count(from_where(catalog, rows, scope))
    if selection.narrowed:
        all_rows = count_all(from_where(catalog, replace(whole, window=None, conditions=()), scope))
    return OtherRows(deleted=deleted, read=read, all_rows=all_rows)


def _exactly(rows: sql.Composed, ask: Ask) -> RowCount:
    return RowCount(rows=ask(sql.SQL("SELECT count(*) {}").format(rows))[0])


def _bounded(rows: sql.Composed, ask: Ask) -> RowCount:
    limit = sql.Literal(COUNTED_ROWS + 1)
    (found,) = ask(sql.SQL("SELECT count(*) FROM (SELECT {} LIMIT {}) AS counted").format(rows, limit))
    if found > COUNTED_ROWS:
        return RowCount(rows=COUNTED_ROWS, precision=Precision.AT_LEAST)
    return RowCount(rows=found)
