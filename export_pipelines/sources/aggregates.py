"""The database's own account of a selection: the oracle that finished files are compared with.

`export_pipelines.validation.account` computes the same figures from a file, in another engine.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.columns import Shape
from export_pipelines.core.model import ColumnAggregate, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.types import Total, base_type, plain_number
from export_pipelines.sources.names import ROW
from export_pipelines.sources.query import projected
from export_pipelines.sources.relation import from_where

# Each is computed for every row while the rows are read, so no expression is dearer, or there twice, without need.
_TOTALS = {
    Total.TRUES: "count(*) FILTER (WHERE {})",
    Total.SUM: "sum({})",
    # An infinite date has no distance, and an error would end the snapshot that other tables are still read from.
    Total.DAYS: "sum({0} - DATE '1970-01-01') FILTER (WHERE isfinite({0}))",
    Total.MICROSECONDS: "sum(extract(epoch FROM {})) * 1000000",
    Total.OCTETS: "sum(octet_length({}))",
}
_UUID_OCTETS = sql.Literal(36)  # of its text, whichever it is


def select_aggregates(catalog: Catalog, selection: TableSelection, scope: TenantScope) -> sql.Composed:
    """One row: ``count(*)``, then for each column its non-null count, total, low and high."""
    shape = catalog.shape(selection.table, selection.aggregation)
    figures: list[sql.Composable] = [sql.SQL("count(*)")]
    for name in selection.columns:
        figures += _figures(name, shape, selection.as_text)
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(figures), from_where(catalog, selection, scope))


def _figures(name: str, shape: Shape, as_text: Collection[str]) -> list[sql.Composable]:
    column, form = shape.columns[name], shape.form_of(name, as_text)
    value, rule = projected(name, column, form), form.total
    none: sql.Composable = sql.SQL("NULL")
    if column.mask is not None:  # nothing but NULL, and a NULL of the travelling type has no sum
        return [sql.SQL("0"), none, none, none]
    plain = sql.Identifier(ROW, name)
    count = sql.SQL("count({})").format(plain)
    if rule is Total.EXTREMES:
        finite = sql.SQL("FILTER (WHERE {0} NOT IN ('NaN', 'Infinity', '-Infinity'))").format(value)
        return [
            count,
            none,
            sql.SQL("min({0}) {1}").format(value, finite),
            sql.SQL("max({0}) {1}").format(value, finite),
        ]
    if rule is Total.OCTETS and base_type(column.type) == "uuid":
        return [count, sql.SQL("(count({}) * {})::text").format(plain, _UUID_OCTETS), none, none]
    total = sql.SQL("({})::text").format(sql.SQL(_TOTALS[rule]).format(plain if rule is Total.SUM else value))
    return [count, total, none, none]


def read_aggregates(selection: TableSelection, row: tuple[Any, ...]) -> TableAggregates:
    """The row of `select_aggregates` as a record."""
    figures = iter(row)
    rows = next(figures)
    columns = {
        name: ColumnAggregate(
            non_null=next(figures), total=plain_number(next(figures)), low=next(figures), high=next(figures)
        )
        for name in selection.columns
    }
    return TableAggregates(rows=rows, columns=columns)
