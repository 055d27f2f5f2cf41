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
from export_pipelines.core.types import Kind, base_type, value_type

_ROW = "t0"
_EQUALS = sql.SQL("OPERATOR(pg_catalog.=)")  # not one that somebody put into a schema on the search path
GUARD = "tenant of the row"  # a column of every result whose table has a tenant column; never exported


Casts = frozenset[tuple[str, str]]
"""Names of casts in `core.types`, each with the type that it is applied to."""

NO_CASTS: Casts = frozenset()


def table_name(catalog: Catalog, table: str) -> sql.Composable:
    return sql.Identifier(*catalog.relation_name(table))


def projected(name: str, column: Column, uncast: Casts = NO_CASTS) -> sql.Composable:
    """The expression a column travels as; masked columns are NULL of the travelling type.

    ``uncast`` are the casts that whoever reads the rows makes itself.
    """
    if column.mask is not None:
        pg_type = "text" if column.travels_as.cast else column.type
        return sql.SQL("NULL::{}").format(sql.SQL(pg_type))
    value = sql.Identifier(_ROW, name)
    cast = column.travels_as.cast
    if cast is None or (cast, base_type(column.type)) in uncast:
        return value
    return sql.SQL("to_json({})::text" if cast == "array" else "{}::text").format(value)


def select_rows(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, uncast: Casts = NO_CASTS
) -> sql.Composed:
    """``SELECT`` of the selection's columns in catalog order, then `GUARD`, scoped to the tenant."""
    table = catalog.tables[selection.table]
    listed = [
        sql.SQL("{} AS {}").format(projected(name, table.columns[name], uncast), sql.Identifier(name))
        for name in selection.columns
    ]
    if table.tenant.column is not None:
        own = table.columns[table.tenant.column]
        text = projected(table.tenant.column, Column(type=own.type, as_text=True), uncast)
        listed.append(sql.SQL("{} AS {}").format(text, sql.Identifier(GUARD)))
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(listed), from_where(catalog, selection, scope))


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
        _EQUALS,
        sql.Literal(scope.tenant_id),
        sql.SQL(catalog.tenant.type),
    )
    for depth in range(len(route), 0, -1):
        relation = route[depth - 1][1]
        joined = sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(f"t{depth}", there), _EQUALS, sql.Identifier(f"t{depth - 1}", here)
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
