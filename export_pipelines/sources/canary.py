"""The canary tenant, seen from the source: how many of its marked rows a leak would bring into an export."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Canary, Catalog
from export_pipelines.core.model import SharedSnapshot, TableSelection, TenantScope
from export_pipelines.core.resolution import Comparison
from export_pipelines.sources.query import projected
from export_pipelines.sources.relation import from_where
from export_pipelines.sources.session import begin, connected


def is_canary(catalog: Catalog) -> sql.Composable:
    """Whether a row of the tenants' table is the canary, however its id is spelled in the catalog."""
    if catalog.canary is None:
        return sql.SQL("FALSE")
    comparison = catalog.resolution.key or Comparison(key_cast=catalog.tenant.type)
    same = sql.SQL(comparison.form).format(sql.Identifier(catalog.tenant.key), sql.Literal(catalog.canary.tenant))
    return sql.SQL("({})").format(same)


def count_marked(
    url: str, catalog: Catalog, canary: Canary, shared: SharedSnapshot, selections: Iterable[TableSelection]
) -> dict[str, int]:
    """Table → rows of the selection, had the canary asked for it, with the marker in an exported value.

    Counted in the same snapshot, on a connection of its own: the session that reads a tenant is never another's.
    """
    scope = TenantScope(tenant_id=canary.tenant)
    with connected(url) as connection:
        begin(connection, catalog, scope, shared.exported_id)
        return {selection.table: _count(connection, catalog, selection, canary) for selection in selections}


def _count(connection: psycopg.Connection, catalog: Catalog, selection: TableSelection, canary: Canary) -> int:
    shape = catalog.shape(selection.table, selection.aggregation)
    columns = [name for name in shape.text_columns if name in selection.columns]
    if not columns:
        return 0
    carries = sql.SQL(" OR ").join(
        sql.SQL("strpos({}, {}) > 0").format(
            projected(name, shape.columns[name], shape.form_of(name, selection.as_text)), sql.Literal(canary.marker)
        )
        for name in columns
    )
    rows = from_where(catalog, selection, TenantScope(tenant_id=canary.tenant))
    counted = connection.execute(sql.SQL("SELECT count(*) {} AND ({})").format(rows, carries)).fetchone()
    assert counted is not None
    return int(counted[0])
