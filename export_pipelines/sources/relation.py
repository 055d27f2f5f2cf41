"""Which rows an export reads of a table, for reading, counting and totalling alike: ``FROM … WHERE …``.

Identifiers come from the catalog and are quoted by the driver's composer; values are literals quoted by the
driver, because COPY takes no parameters. The tenant filter stands here as well as in the row-level security
policies: either alone is enough.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from psycopg import sql

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.filtering import compared_as
from export_pipelines.core.model import Condition, TableSelection, TenantScope
from export_pipelines.core.types import Kind, value_type
from export_pipelines.sources.figures import select_agreement, select_figures
from export_pipelines.sources.names import EQUALS, ROW
from export_pipelines.sources.soft_delete import alive_condition


def table_name(catalog: Catalog, table: str) -> sql.Composable:
    return sql.Identifier(*catalog.relation_name(table))


def from_where(catalog: Catalog, selection: TableSelection, scope: TenantScope | None) -> sql.Composed:
    """The rows of a selection; where it asks for figures, those are the rows.

    Without a scope only the policies stand between tenants; that is for comparing the two, never for exporting.
    """
    rows = _rows(catalog, selection, scope)
    if selection.aggregation is None:
        return rows
    figures = select_figures(catalog, selection, rows)
    return sql.SQL("FROM ({}) AS {} WHERE TRUE").format(figures, sql.Identifier(ROW))


def agreement(catalog: Catalog, selection: TableSelection, scope: TenantScope) -> tuple[tuple[str, ...], sql.Composed]:
    """`select_agreement` of a selection of figures."""
    return select_agreement(catalog, selection, _rows(catalog, selection, scope))


def _rows(catalog: Catalog, selection: TableSelection, scope: TenantScope | None) -> sql.Composed:
    table = catalog.tables[selection.table]
    conditions = [sql.SQL("TRUE") if scope is None else tenant_condition(catalog, selection.table, scope)]
    if selection.window is not None and selection.window_column is not None:
        conditions.append(_window_condition(catalog, selection))
    if not selection.include_deleted and table.deleted_column is not None:
        conditions.append(alive_condition(table))
    conditions += [_value_condition(condition, table) for condition in selection.conditions]
    return sql.SQL("FROM {} AS {} WHERE {}").format(
        table_name(catalog, selection.table), sql.Identifier(ROW), sql.SQL(" AND ").join(conditions)
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


def _value_condition(condition: Condition, table: Table) -> sql.Composable:
    column = sql.Identifier(ROW, condition.column)
    parts: list[sql.Composable] = []
    if condition.values:
        kind = compared_as(table.columns[condition.column].type)
        value = column if kind else sql.SQL("{}::text").format(column)
        listed = sql.Literal(list(condition.values))
        parts.append(sql.SQL("{} {} ANY({}::text[]::{}[])").format(value, EQUALS, listed, sql.SQL(kind or "text")))
    if condition.or_null:
        parts.append(sql.SQL("{} IS NULL").format(column))
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts))


def _window_condition(catalog: Catalog, selection: TableSelection) -> sql.Composable:
    window, name = selection.window, str(selection.window_column)
    assert window is not None
    pg_type = catalog.tables[selection.table].columns[name].type
    column = sql.Identifier(ROW, name)
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
