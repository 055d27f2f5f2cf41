"""Which rows an export reads of a table, for reading, counting and totalling alike: ``FROM … WHERE …``.

Identifiers come from the catalog and are quoted by the driver's composer; values are literals quoted by the
driver, because COPY takes no parameters. The tenant filter stands here as well as in the row-level security
policies: either alone is enough.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from psycopg import sql

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.filtering import compared_as
from export_pipelines.core.model import Condition, TableSelection, TenantScope
from export_pipelines.core.types import Kind, value_type
from export_pipelines.core.windows import as_compared
from export_pipelines.sources.figures import select_agreement, select_figures
from export_pipelines.sources.names import EQUALS, ROW
from export_pipelines.sources.soft_delete import alive_condition


def table_name(catalog: Catalog, table: str) -> sql.Composable:
    return sql.Identifier(*catalog.relation_name(table))


def rows_of(catalog: Catalog, table: str) -> sql.Composable:
    """What stands after FROM: without the rows of tables that inherit from this one, which are exported as theirs."""
    name = table_name(catalog, table)
    return sql.SQL("ONLY {}").format(name) if table in catalog.resolution.parents else name


def from_where(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, *, by_policy: bool = False
) -> sql.Composed:
    """The rows of a selection; where it asks for figures, those are the rows.

    ``by_policy`` leaves the tenant filter to the policies; that is for comparing the two, never for exporting.
    """
    rows = _rows(catalog, selection, scope, by_policy=by_policy)
    if selection.aggregation is None:
        return rows
    figures = select_figures(catalog, selection, rows, _owner_text(catalog, selection.table, scope))
    return sql.SQL("FROM ({}) AS {} WHERE TRUE").format(figures, sql.Identifier(ROW))


def agreement(catalog: Catalog, selection: TableSelection, scope: TenantScope) -> tuple[tuple[str, ...], sql.Composed]:
    """`select_agreement` of a selection of figures."""
    rows = _rows(catalog, selection, scope, by_policy=False)
    return select_agreement(catalog, selection, rows, _owner_text(catalog, selection.table, scope))


def count_same(catalog: Catalog, table: str, texts: Sequence[str], scope: TenantScope) -> sql.Composed:
    """How many of the texts are the tenant's id to the database, as values of the table's tenant column."""
    same = sql.SQL(catalog.owner_comparison(table).form_of_texts).format(
        sql.Identifier("given", "owner"), sql.Literal(scope.tenant_id)
    )
    listed = sql.Literal(list(texts))
    return sql.SQL("SELECT count(*) FROM unnest({}::text[]) AS given(owner) WHERE {}").format(listed, same)


def _rows(catalog: Catalog, selection: TableSelection, scope: TenantScope, *, by_policy: bool) -> sql.Composed:
    table = catalog.tables[selection.table]
    conditions = [sql.SQL("TRUE") if by_policy else tenant_condition(catalog, selection.table, scope)]
    if selection.window is not None and selection.window_column is not None:
        conditions.append(_window_condition(catalog, selection))
    if not selection.include_deleted and table.deleted_column is not None:
        conditions.append(alive_condition(table))
    conditions += [_value_condition(condition, table) for condition in selection.conditions]
    return sql.SQL("FROM {} AS {} WHERE {}").format(
        rows_of(catalog, selection.table), sql.Identifier(ROW), sql.SQL(" AND ").join(conditions)
    )


def tenant_condition(catalog: Catalog, table: str, scope: TenantScope) -> sql.Composable:
    """That a row is the tenant's: its own column, or EXISTS through the catalog's relations."""
    if catalog.tables[table].tenant.shared is not None:
        return sql.SQL("TRUE")
    route = catalog.tenant_route(table)
    owner = route[-1][1].references if route else table
    condition = _owned(catalog, owner, f"t{len(route)}", scope)
    for depth in range(len(route), 0, -1):
        name, relation = route[depth - 1]
        joined = sql.SQL(" AND ").join(
            sql.SQL(catalog.join_comparison(name, here, (relation.references, there)).form).format(
                sql.Identifier(f"t{depth - 1}", here), sql.Identifier(f"t{depth}", there)
            )
            for here, there in zip(relation.columns, relation.referenced_columns, strict=True)
        )
        condition = sql.SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND {})").format(
            rows_of(catalog, relation.references), sql.Identifier(f"t{depth}"), joined, condition
        )
    return condition


def _owned(catalog: Catalog, table: str, alias: str, scope: TenantScope) -> sql.Composable:
    """That a row of a table with a tenant column is the tenant's, or everybody's."""
    tenant = catalog.tables[table].tenant
    column = sql.Identifier(alias, str(tenant.column))
    owned = sql.SQL(catalog.owner_comparison(table).form).format(column, sql.Literal(scope.tenant_id))
    return sql.SQL("({} OR {} IS NULL)").format(owned, column) if tenant.null_is_shared else owned


def _owner_text(catalog: Catalog, table: str, scope: TenantScope) -> sql.Composable | None:
    """The tenant of a row of `ROW`: one text for all rows that are the tenant's, and their own for any others."""
    column = catalog.tables[table].tenant.column
    if column is None:
        return None
    return sql.SQL('(CASE WHEN {} THEN {}::text ELSE {}::text END COLLATE "C")').format(
        _owned(catalog, table, ROW, scope), sql.Literal(scope.tenant_id), sql.Identifier(ROW, column)
    )


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
    """An edge of a window as a literal of the column's type."""
    kind = value_type(pg_type).kind
    cast = {Kind.INSTANT: "timestamptz", Kind.DATE: "date"}.get(kind, "timestamp")
    return sql.SQL("{}::{}").format(sql.Literal(as_compared(instant, kind, timezone).isoformat()), sql.SQL(cast))
