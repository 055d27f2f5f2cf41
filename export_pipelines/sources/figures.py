"""The SQL that makes a row of figures of each period and each combination of dimensions.

It stands in the place of the table, so that whatever reads, counts or totals rows does so with figures. The rows it
starts from are those of `export_pipelines.sources.relation`, tenant filter and all.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from export_pipelines.core.catalog import Catalog, Column
from export_pipelines.core.measures import PERIOD, Aggregation, Function, Measure
from export_pipelines.core.model import TableSelection
from export_pipelines.core.types import Kind, base_type, value_type
from export_pipelines.sources.names import GUARD, ROW

_UNITS = {
    Aggregation.HOURLY: "hour",
    Aggregation.DAILY: "day",
    Aggregation.WEEKLY: "week",
    Aggregation.MONTHLY: "month",
}
_FUNCTIONS = {
    Function.SUM: "sum({})",
    Function.COUNT: "count({})",
    Function.MIN: "min({})",
    Function.MAX: "max({})",
    Function.AVG: "avg({})",
    Function.COUNT_DISTINCT: "count(DISTINCT {})",
}


def select_figures(
    catalog: Catalog, selection: TableSelection, rows: sql.Composable, owner: sql.Composable | None
) -> sql.Composed:
    """The figures of ``rows`` (``FROM … WHERE …``) that are of ``owner``, where the table has a tenant column.

    The tenant of the rows is one of the keys: a row of another tenant would make a group of its own and be found.
    """
    table = catalog.tables[selection.table]
    keys = [(PERIOD, _period(catalog, selection))]
    keys += [(name, _dimension(name, table.columns[name])) for name in keys_of(catalog, selection)[1:]]
    if owner is not None:
        keys.append((GUARD, owner))
    figures = [
        (name, _figure(measure, table.columns)) for name, measure in table.measures.items() if name in selection.columns
    ]
    listed = [sql.SQL("{} AS {}").format(value, sql.Identifier(name)) for name, value in (*keys, *figures)]
    places = sql.SQL(", ").join(sql.Literal(place) for place in range(1, len(keys) + 1))
    return sql.SQL("SELECT {} {} GROUP BY {}").format(sql.SQL(", ").join(listed), rows, places)


def select_agreement(
    catalog: Catalog, selection: TableSelection, rows: sql.Composable, owner: sql.Composable | None
) -> tuple[tuple[str, ...], sql.Composed]:
    """The additive measures, and a query of one row: whether each adds up to what the rows come to without groups.

    Those of the table, also where none of them was chosen: an average does not add up, and its groups may get lost too.
    Without any, there is nothing to ask.
    """
    table = catalog.tables[selection.table]
    names = tuple(name for name, measure in table.measures.items() if measure.additive)
    selection = replace(selection, columns=(*selection.columns, *(n for n in names if n not in selection.columns)))
    grouped = [sql.SQL("coalesce(sum({}), 0)").format(sql.Identifier(ROW, name)) for name in names]
    plain = [sql.SQL("coalesce({}, 0)").format(_figure(table.measures[name], table.columns)) for name in names]
    query = sql.SQL("SELECT (SELECT ARRAY[{}]::numeric[] FROM ({}) AS {}), (SELECT ARRAY[{}]::numeric[] {})").format(
        sql.SQL(", ").join(grouped),
        select_figures(catalog, selection, rows, owner),
        sql.Identifier(ROW),
        sql.SQL(", ").join(plain),
        rows,
    )
    return names, query


def keys_of(catalog: Catalog, selection: TableSelection) -> tuple[str, ...]:
    """The period and the dimensions that were chosen."""
    return (PERIOD, *(name for name in catalog.tables[selection.table].dimensions if name in selection.columns))


def _period(catalog: Catalog, selection: TableSelection) -> sql.Composable:
    """The start of the row's period by the clocks of the catalog's timezone.

    Days, weeks and months are dates. An hour of an instant stays an instant: a clock that is put back shows it twice.
    """
    table, unit = catalog.tables[selection.table], _UNITS[Aggregation(str(selection.aggregation))]
    name = str(table.time_column)
    time: sql.Composable = sql.Identifier(ROW, name)
    kind, zone = value_type(table.columns[name].type).kind, sql.Literal(catalog.timezone)
    if unit == "hour":
        template = "pg_catalog.date_trunc({}, {}, {})" if kind is Kind.INSTANT else "pg_catalog.date_trunc({}, {})"
        return sql.SQL(template).format(sql.Literal(unit), time, zone)
    if kind is Kind.INSTANT:
        time = sql.SQL("({} AT TIME ZONE {})").format(time, zone)
    return sql.SQL("pg_catalog.date_trunc({}, {}::timestamp)::date").format(sql.Literal(unit), time)


def _dimension(name: str, column: Column) -> sql.Composable:
    """Texts by their bytes: a collation may take different ones for the same and leave to chance which is shown."""
    value = sql.Identifier(ROW, name)
    if value_type(column.type).padded:
        return sql.SQL('({} COLLATE "C")').format(value)
    if value_type(column.type).kind is Kind.TEXT and base_type(column.type) != "uuid":
        return sql.SQL('({}::text COLLATE "C")').format(value)
    return value


def _figure(measure: Measure, columns: dict[str, Column]) -> sql.Composable:
    value: sql.Composable = sql.SQL("*") if measure.column is None else sql.Identifier(ROW, measure.column)
    figure = sql.SQL(_FUNCTIONS[measure.function]).format(value)
    extreme = measure.function in (Function.MIN, Function.MAX)
    if extreme and value_type(columns[str(measure.column)].type).kind is Kind.NUMERIC:
        return sql.SQL("trim_scale({})").format(figure)  # 1.0 and 1.00 are one least value with two spellings
    return figure
