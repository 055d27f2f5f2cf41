"""The SQL that reads the rows of one table for one tenant: their columns, as they travel.

Which rows they are is `export_pipelines.sources.relation`'s business.
"""

from __future__ import annotations

from psycopg import sql

from export_pipelines.core.catalog import Catalog, Column
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.types import Cast, Kind, ValueType, base_type
from export_pipelines.sources.figures import keys_of
from export_pipelines.sources.names import GUARD, ROW
from export_pipelines.sources.relation import from_where, table_name

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


def projected(name: str, column: Column, form: ValueType, uncast: Casts = NO_CASTS) -> sql.Composable:
    """The expression a column travels as in that form; masked columns are NULL of the travelling type.

    ``uncast`` are the casts that whoever reads the rows makes itself.
    """
    if column.mask is not None:
        return sql.SQL("NULL::{}").format(sql.SQL("text" if form.cast else column.type))
    return _sent(name, column, form.cast, uncast)


def _sent(name: str, column: Column, cast: Cast | None, uncast: Casts) -> sql.Composable:
    value = sql.Identifier(ROW, name)
    if cast is None or (cast, base_type(column.type)) in uncast:
        return value
    return sql.SQL(_CASTS[cast]).format(value)


def select_beyond(
    catalog: Catalog, selection: TableSelection, scope: TenantScope
) -> tuple[tuple[str, ...], sql.Composed]:
    """The columns that could hold values beyond their kind, and a query whether they do: one row, a boolean each."""
    table = catalog.shape(selection.table, selection.aggregation)
    kinds = {name: table.form_of(name, selection.as_text).kind for name in selection.columns}
    doubtful = tuple(name for name, kind in kinds.items() if kind in _BEYOND and table.columns[name].mask is None)
    conditions = [sql.SQL(_BEYOND[kinds[name]]).format(sql.Identifier(ROW, name)) for name in doubtful]
    found = sql.SQL(", ").join(sql.SQL("bool_or({})").format(condition) for condition in conditions)
    return doubtful, sql.SQL("SELECT {} {}").format(found, from_where(catalog, selection, scope))


def select_rows(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, uncast: Casts = NO_CASTS
) -> sql.Composed:
    """``SELECT`` of the selection's columns in catalog order, then `GUARD`, scoped to the tenant.

    Figures are sorted, since groups come in no order; rows come as the table holds them.
    """
    shape, owner = catalog.shape(selection.table, selection.aggregation), catalog.tables[selection.table].tenant.column
    listed = []
    for name in selection.columns:
        value = projected(name, shape.columns[name], shape.form_of(name, selection.as_text), uncast)
        listed.append(sql.SQL("{} AS {}").format(value, sql.Identifier(name)))
    if owner is not None:
        name = owner if selection.aggregation is None else GUARD
        text = _sent(name, catalog.tables[selection.table].columns[owner], Cast.TEXT, uncast)
        listed.append(sql.SQL("{} AS {}").format(text, sql.Identifier(GUARD)))
    query = sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(listed), from_where(catalog, selection, scope))
    if selection.aggregation is None:
        return query
    keys = sql.SQL(", ").join(sql.Identifier(ROW, name) for name in keys_of(catalog, selection))
    return sql.SQL("{} ORDER BY {}").format(query, keys)


def explain(catalog: Catalog, selection: TableSelection, scope: TenantScope) -> sql.Composed:
    """The plan of reading the selection's own values: rows and width come from statistics, which casts would hide."""
    columns = catalog.shape(selection.table, selection.aggregation).columns
    read = [sql.Identifier(ROW, name) for name in selection.columns if columns[name].mask is None]
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
