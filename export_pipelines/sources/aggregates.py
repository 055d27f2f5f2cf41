"""The database's own account of a selection: the oracle that finished files are compared with.

`export_pipelines.validation.row_digest` computes the same figures from a file, in another engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.columns import Shape
from export_pipelines.core.model import ColumnAggregate, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.types import Kind, Total, base_type, plain_number
from export_pipelines.sources.names import ROW
from export_pipelines.sources.query import projected
from export_pipelines.sources.relation import from_where

Ask = Callable[[sql.Composed], tuple[Any, ...]]
"""The one row that a statement answers with."""

UTF8 = "UTF8"
_COLUMNS = 400  # of one statement, which asks for four figures of each: PostgreSQL answers with 1,664 at most

# Each is computed for every row while the rows are read, so no expression is dearer, or there twice, without need.
_TOTALS = {
    Total.TRUES: "pg_catalog.count(*) FILTER (WHERE {})",
    Total.SUM: "pg_catalog.sum({})",
    # An infinite date has no distance, and an error would end the snapshot that other tables are still read from.
    Total.DAYS: "pg_catalog.sum({0} - DATE '1970-01-01') FILTER (WHERE pg_catalog.isfinite({0}))",
    Total.MICROSECONDS: "pg_catalog.sum(extract(epoch FROM {})) * 1000000",
    Total.OCTETS: "pg_catalog.sum(pg_catalog.octet_length({}))",
}
# Files are UTF-8. Converting costs as much as counting, so a database that is UTF-8 itself does not.
_OCTETS_AS_UTF8 = "pg_catalog.sum(pg_catalog.octet_length(pg_catalog.convert_to({}, 'UTF8')))"
# As text, character(n) has no blanks at its end; they are an octet each in every encoding.
_PADDED_OCTETS_AS_UTF8 = """pg_catalog.sum(pg_catalog.octet_length(pg_catalog.convert_to({0}::text, 'UTF8'))
+ pg_catalog.octet_length({0}) - pg_catalog.octet_length({0}::text))"""
_UUID_OCTETS = sql.Literal(36)  # of its text, whichever it is


def read_aggregates(
    ask: Ask, catalog: Catalog, selection: TableSelection, scope: TenantScope, *, encoding: str
) -> TableAggregates:
    """Rows, and of each column its non-null count, total, low and high, by as many statements as it takes.

    ``encoding`` is the database's own; all statements have to see the same snapshot.
    """
    rows, columns = 0, {}
    for names, statement in select_aggregates(catalog, selection, scope, encoding=encoding):
        figures = iter(ask(statement))
        rows = next(figures)
        for name in names:
            count, total, low, high = (next(figures) for _ in range(4))
            columns[name] = ColumnAggregate(non_null=count, total=plain_number(total), low=low, high=high)
    return TableAggregates(rows=rows, columns=columns)


def select_aggregates(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, *, encoding: str
) -> Iterator[tuple[tuple[str, ...], sql.Composed]]:
    """The statements that ask for the figures, each with the columns that it is about."""
    names = selection.columns
    for first in range(0, max(len(names), 1), _COLUMNS):
        some = names[first : first + _COLUMNS]
        yield some, _select_some(catalog, selection, scope, some, encoding)


def _select_some(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, names: Collection[str], encoding: str
) -> sql.Composed:
    """One row: ``count(*)``, then four figures of each column."""
    shape = catalog.shape(selection.table, selection.aggregation)
    figures: list[sql.Composable] = [sql.SQL("pg_catalog.count(*)")]
    for name in names:
        figures += _figures(name, shape, selection.as_text, encoding)
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(figures), from_where(catalog, selection, scope))


def _figures(name: str, shape: Shape, as_text: Collection[str], encoding: str) -> list[sql.Composable]:
    column, form = shape.columns[name], shape.form_of(name, as_text)
    value, rule = projected(name, column, form), form.total
    none: sql.Composable = sql.SQL("NULL")
    if column.mask is not None:  # nothing but NULL, and a NULL of the travelling type has no sum
        return [sql.SQL("0"), none, none, none]
    plain = sql.Identifier(ROW, name)
    count = sql.SQL("pg_catalog.count({})").format(plain)
    if rule is Total.EXTREMES:
        finite = sql.SQL("FILTER (WHERE {0} NOT IN ('NaN', 'Infinity', '-Infinity'))").format(value)
        return [
            count,
            none,
            sql.SQL("pg_catalog.min({0}) {1}").format(value, finite),
            sql.SQL("pg_catalog.max({0}) {1}").format(value, finite),
        ]
    if rule is Total.OCTETS and base_type(column.type) == "uuid":
        return [count, sql.SQL("(pg_catalog.count({}) * {})::text").format(plain, _UUID_OCTETS), none, none]
    figure = _TOTALS[rule]
    if rule is Total.OCTETS and form.kind in (Kind.TEXT, Kind.JSON) and encoding != UTF8:
        figure = _PADDED_OCTETS_AS_UTF8 if form.padded else _OCTETS_AS_UTF8
    total = sql.SQL("({})::text").format(sql.SQL(figure).format(plain if rule is Total.SUM else value))
    return [count, total, none, none]
