"""The SQL that reads one table for one tenant.

Identifiers come from the catalog and are quoted by the driver's composer; values are literals quoted by the
driver, because COPY takes no parameters. The tenant filter stands here as well as in the row-level security
policies: either alone is enough.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from psycopg import sql

from export_pipelines.core.catalog import Catalog, Column
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.types import Cast, Kind, ValueType, base_type, value_type

_ROW = "t0"
EQUALS = sql.SQL("OPERATOR(pg_catalog.=)")  # not one that somebody put into a schema on the search path
GUARD = "tenant of the row"  # a column of every result whose table has a tenant column; never exported


Casts = frozenset[tuple[Cast, str]]
"""Casts of `core.types`, each with the type that it is applied to."""

NO_CASTS: Casts = frozenset()
_ISO = """CASE WHEN {{0}} >= '0001-01-01{zone}' AND {{0}} < '10000-01-01{zone}'
THEN pg_catalog.to_char({{0}}, 'YYYY-MM-DD"T"HH24:MI:SS.US{suffix}') ELSE {{0}}::text END"""
# An array with bounds of its own (`[0:1]={1,2}`) is no JSON array: it becomes a JSON string of what PostgreSQL prints.
_ARRAY = """CASE WHEN (array_lower({{0}}, 1) <> 1 OR array_ndims({{0}}) > 1) AND {{0}}::text LIKE '[%'
THEN to_json({{0}}::text)::text ELSE to_json({elements})::text END"""
_CASTS = {
    Cast.TEXT: "{0}::text",
    Cast.ARRAY: _ARRAY.format(elements="{0}"),
    Cast.ELEMENTS: _ARRAY.format(elements="{0}::text[]"),
    Cast.TIME: "pg_catalog.to_char({0}, 'HH24:MI:SS.US')",
    Cast.TIMESTAMP: _ISO.format(zone="", suffix=""),
    Cast.INSTANT: _ISO.format(zone="Z", suffix='"Z"'),  # the session's zone is UTC
}
_YEARS = "({{0}} < '0001-01-01{zone}' OR {{0}} >= '10000-01-01{zone}')"
_BEYOND = {
    Kind.DATE: _YEARS.format(zone=""),
    Kind.TIMESTAMP: _YEARS.format(zone=""),
    Kind.INSTANT: _YEARS.format(zone="Z"),
    Kind.TIME: "({0} = '24:00')",
    Kind.DECIMAL: "({0} = 'NaN')",
}
"""That a value is one of `export_pipelines.core.types.BEYOND`."""


def table_name(catalog: Catalog, table: str) -> sql.Composable:
    return sql.Identifier(*catalog.relation_name(table))


def projected(name: str, column: Column, form: ValueType, uncast: Casts = NO_CASTS) -> sql.Composable:
    """The expression a column travels as in that form; masked columns are NULL of the travelling type.

    ``uncast`` are the casts that whoever reads the rows makes itself.
    """
    if column.mask is not None:
        return sql.SQL("NULL::{}").format(sql.SQL("text" if form.cast else column.type))
    return _sent(name, column, form.cast, uncast)


def _sent(name: str, column: Column, cast: Cast | None, uncast: Casts) -> sql.Composable:
    value = sql.Identifier(_ROW, name)
    if cast is None or (cast, base_type(column.type)) in uncast:
        return value
    return sql.SQL(_CASTS[cast]).format(value)


def select_beyond(
    catalog: Catalog, selection: TableSelection, scope: TenantScope
) -> tuple[tuple[str, ...], sql.Composed]:
    """The columns that could hold values beyond their kind, and a query whether they do: one row, a boolean each."""
    table = catalog.tables[selection.table]
    kinds = {name: table.form_of(name, selection.as_text).kind for name in selection.columns}
    doubtful = tuple(name for name, kind in kinds.items() if kind in _BEYOND and table.columns[name].mask is None)
    conditions = [sql.SQL(_BEYOND[kinds[name]]).format(sql.Identifier(_ROW, name)) for name in doubtful]
    found = sql.SQL(", ").join(sql.SQL("bool_or({})").format(condition) for condition in conditions)
    return doubtful, sql.SQL("SELECT {} {}").format(found, from_where(catalog, selection, scope))


def select_rows(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, uncast: Casts = NO_CASTS
) -> sql.Composed:
    """``SELECT`` of the selection's columns in catalog order, then `GUARD`, scoped to the tenant."""
    table = catalog.tables[selection.table]
    listed = []
    for name in selection.columns:
        value = projected(name, table.columns[name], table.form_of(name, selection.as_text), uncast)
        listed.append(sql.SQL("{} AS {}").format(value, sql.Identifier(name)))
    if table.tenant.column is not None:
        text = _sent(table.tenant.column, table.columns[table.tenant.column], Cast.TEXT, uncast)
        listed.append(sql.SQL("{} AS {}").format(text, sql.Identifier(GUARD)))
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(listed), from_where(catalog, selection, scope))


def explain(catalog: Catalog, selection: TableSelection, scope: TenantScope) -> sql.Composed:
    """The plan of reading the selection's own values: rows and width come from statistics, which casts would hide."""
    columns = catalog.tables[selection.table].columns
    read = [sql.Identifier(_ROW, name) for name in selection.columns if columns[name].mask is None]
    listed = sql.SQL(", ").join(read) if read else sql.SQL("1")
    return sql.SQL("EXPLAIN (FORMAT JSON) SELECT {} {}").format(listed, from_where(catalog, selection, scope))


def was_analysed(catalog: Catalog, table: str) -> sql.Composed:
    """Whether the server has gathered statistics of the table or, where it has some, of all its partitions.

    A view has none of its own and is taken for analysed.
    """
    return sql.SQL(
        """
        SELECT NOT EXISTS (
            SELECT FROM pg_class
            WHERE oid = ANY(ARRAY(SELECT relid::oid FROM pg_partition_tree({place})) || {place}::oid)
              AND relkind IN ('r', 'm') AND reltuples < 0
        )
        """
    ).format(place=sql.SQL("{}::regclass").format(sql.Literal(table_name(catalog, table).as_string())))


def from_where(catalog: Catalog, selection: TableSelection, scope: TenantScope | None) -> sql.Composed:
    """``FROM … WHERE …``: the rows of a selection, for reading and for counting alike.

    Without a scope only the policies stand between tenants; that is for comparing the two, never for exporting.
    """
    table = catalog.tables[selection.table]
    conditions = [sql.SQL("TRUE") if scope is None else tenant_condition(catalog, selection.table, scope)]
    if selection.window is not None and selection.window_column is not None:
        conditions.append(_window_condition(catalog, selection))
    if not selection.include_deleted and table.deleted_column is not None:
        conditions.append(sql.SQL("{} IS NULL").format(sql.Identifier(_ROW, table.deleted_column)))
    return sql.SQL("FROM {} AS {} WHERE {}").format(
        table_name(catalog, selection.table), sql.Identifier(_ROW), sql.SQL(" AND ").join(conditions)
    )


def tenant_condition(catalog: Catalog, table: str, scope: TenantScope) -> sql.Composable:
    """That a row is the tenant's: its own column, or EXISTS through the catalog's relations."""
    if catalog.tables[table].tenant.shared is not None:
        return sql.SQL("TRUE")
    route = catalog.tenant_route(table)
    owner = catalog.tables[route[-1][1].references if route else table]
    condition: sql.Composable = sql.SQL("{} {} {}::{}").format(
        sql.Identifier(f"t{len(route)}", str(owner.tenant.column)),
        EQUALS,
        sql.Literal(scope.tenant_id),
        sql.SQL(catalog.tenant.type),
    )
    for depth in range(len(route), 0, -1):
        relation = route[depth - 1][1]
        joined = sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(f"t{depth}", there), EQUALS, sql.Identifier(f"t{depth - 1}", here)
            )
            for here, there in zip(relation.columns, relation.referenced_columns, strict=True)
        )
        condition = sql.SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND {})").format(
            table_name(catalog, relation.references), sql.Identifier(f"t{depth}"), joined, condition
        )
    return condition


def _window_condition(catalog: Catalog, selection: TableSelection) -> sql.Composable:
    window, name = selection.window, str(selection.window_column)
    assert window is not None
    pg_type = catalog.tables[selection.table].columns[name].type
    column = sql.Identifier(_ROW, name)
    parts: list[sql.Composable] = []
    if window.start_at is not None:
        parts.append(sql.SQL("{} >= {}").format(column, _bound(window.start_at, pg_type, catalog.timezone)))
    if window.end_at is not None:
        parts.append(sql.SQL("{} < {}").format(column, _bound(window.end_at, pg_type, catalog.timezone)))
    within = sql.SQL(" AND ").join(parts) if parts else sql.SQL("TRUE")
    return sql.SQL("({} OR {} IS NULL)").format(within, column) if window.with_unset else within


def _bound(instant: dt.datetime, pg_type: str, timezone: str) -> sql.Composable:
    """An edge of a window in the terms of the column: an instant, a local time, or a local day (rounded up)."""
    kind = value_type(pg_type).kind
    if kind is Kind.INSTANT:
        return sql.SQL("{}::timestamptz").format(sql.Literal(instant.isoformat()))
    local = instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    if kind is Kind.DATE:
        day = local.date() if local.time() == dt.time() else local.date() + dt.timedelta(days=1)
        return sql.SQL("{}::date").format(sql.Literal(day.isoformat()))
    return sql.SQL("{}::timestamp").format(sql.Literal(local.isoformat()))
