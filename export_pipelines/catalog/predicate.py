"""The condition "this row is the tenant's" as SQL, for policies.

One rule for all tables: a column equals the tenant, or a chain of relations leads to such a column. Where the
tenant's id comes from is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Catalog, Relation
from export_pipelines.core.errors import RequestRejected

_EQUALITIES = """
WITH RECURSIVE base AS (
    SELECT oid AS declared, oid AS type FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT base.declared, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT asked.catalog_table, asked.catalog_column, format_type(t.oid, -1) AS type,
       CASE WHEN t.typtype <> 'b' OR t.typcategory = 'A' THEN 'pg_catalog' ELSE n.nspname END AS operator_schema
FROM unnest(%(tables)s::text[], %(schemas)s::text[], %(relations)s::text[], %(columns)s::text[])
     AS asked(catalog_table, schema, relation, catalog_column)
JOIN pg_namespace s ON s.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = asked.relation
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = asked.catalog_column AND NOT a.attisdropped
LEFT JOIN base ON base.declared = a.atttypid
JOIN pg_type t ON t.oid = coalesce(base.type, a.atttypid) AND t.typtype <> 'd'
JOIN pg_namespace n ON n.oid = t.typnamespace
"""


@dataclass(frozen=True, kw_only=True)
class Equality:
    """How values of one column are compared.

    ``type`` has no length: a cast to ``varchar(3)`` would cut a longer id down to another tenant's. The operator's
    schema is named so that no operator on a search path can stand in for it.
    """

    type: str
    operator_schema: str


Equalities = dict[tuple[str, str], Equality]  # by (catalog table, column)


def read_equalities(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> Equalities:
    """The comparisons that the predicates of these tables need; `RequestRejected` where a column is missing."""
    asked = sorted({pair for name in tables for pair in _compared(catalog, name)})
    places = [catalog.relation_name(table) for table, _ in asked]
    parameters = {
        "tables": [table for table, _ in asked],
        "schemas": [schema for schema, _ in places],
        "relations": [relation for _, relation in places],
        "columns": [column for _, column in asked],
    }
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
        rows = connection.execute(_EQUALITIES, parameters).fetchall()
    found = {(row[0], row[1]): Equality(type=row[2], operator_schema=row[3]) for row in rows}
    missing = [f"{table}.{column}" for table, column in asked if (table, column) not in found]
    if missing:
        raise RequestRejected(f"not in the database: {', '.join(missing)}; run `export-pipelines catalog check`")
    return found


def tenant_predicate(catalog: Catalog, name: str, equalities: Equalities, tenant: sql.Composable) -> sql.Composed:
    """True for rows of the tenant whose id is the text expression ``tenant``; the table is named, not aliased.

    A path through relations becomes one EXISTS inside the other, from the table up to the tenant's column.
    """
    row = sql.Identifier(*catalog.relation_name(name))
    hops: list[sql.Composed] = []
    for _, relation in catalog.tenant_route(name):
        name = relation.references
        parent = sql.Identifier(f"export_hop_{len(hops) + 1}")
        source = sql.Identifier(*catalog.relation_name(name))
        joined = _joined(relation, row, parent, equalities)
        hops.append(sql.SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND ").format(source, parent, joined))
        row = parent
    column = catalog.tables[name].tenant.column
    if column is None:
        raise ValueError(f"{name!r} is shared by all tenants and has no predicate")
    equality = equalities[name, column]
    # PostgreSQL printed the type itself, quoted where it has to be.
    value = sql.SQL("{}::{}").format(tenant, sql.SQL(equality.type))
    return sql.Composed([*hops, _equal(row, column, value, equality), sql.SQL(")" * len(hops))])


def current_tenant(catalog: Catalog) -> sql.Composed:
    """The session's tenant as text; NULL, which equals nothing, where it is unset or empty."""
    setting = sql.Literal(catalog.tenant.setting)
    return sql.SQL("NULLIF(pg_catalog.current_setting({}, true), '')").format(setting)


def _joined(relation: Relation, row: sql.Identifier, parent: sql.Identifier, equalities: Equalities) -> sql.Composed:
    """The parent is the one that this row refers to, whatever the width of the key."""
    return sql.SQL(" AND ").join(
        _equal(
            parent,
            referenced,
            sql.SQL("{}.{}").format(row, sql.Identifier(own)),
            equalities[relation.references, referenced],
        )
        for own, referenced in zip(relation.columns, relation.referenced_columns, strict=True)
    )


def _equal(row: sql.Identifier, column: str, value: sql.Composable, equality: Equality) -> sql.Composed:
    operator = sql.SQL("OPERATOR({}.=)").format(sql.Identifier(equality.operator_schema))
    return sql.SQL("{}.{} {} {}").format(row, sql.Identifier(column), operator, value)


def _compared(catalog: Catalog, name: str) -> Iterable[tuple[str, str]]:
    route = catalog.tenant_route(name)
    for _, relation in route:
        yield from ((relation.references, column) for column in relation.referenced_columns)
    last = route[-1][1].references if route else name
    column = catalog.tables[last].tenant.column
    if column is not None:
        yield last, column
