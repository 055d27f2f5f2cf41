"""Whether `deleted_column` and `alive_when` of a catalog can tell deleted rows in its live database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from export_pipelines.catalog.findings import Finding, error
from export_pipelines.catalog.inventory import pinned
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.soft_delete import alive_text

# NOT NULL of the column, or of a domain that it is of.
_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT oid AS declared, oid AS type, typnotnull AS not_null FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT base.declared, t.typbasetype, t.typnotnull FROM base JOIN pg_type t ON t.oid = base.type
    WHERE t.typtype = 'd'
)
SELECT asked.catalog_table AS name, a.attnotnull OR coalesce(d.not_null, false) AS not_null,
       (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
        WHERE e.enumtypid = coalesce(d.type, a.atttypid)) AS labels
FROM unnest(%(tables)s::text[], %(schemas)s::text[], %(relations)s::text[], %(columns)s::text[])
     AS asked(catalog_table, schema, relation, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.relation
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = asked.name AND NOT a.attisdropped
LEFT JOIN (SELECT base.declared, bool_or(base.not_null) AS not_null,
                  max(base.type::bigint) FILTER (WHERE t.typtype <> 'd')::oid AS type
           FROM base JOIN pg_type t ON t.oid = base.type GROUP BY base.declared) d ON d.declared = a.atttypid
"""


def check_deletions(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> Iterator[Finding]:
    """An error for each table of which every row would count as deleted, and be left out without a word."""
    asked = {name: catalog.tables[name] for name in tables if catalog.tables[name].deleted_column is not None}
    if not asked:
        return
    places = [catalog.relation_name(name) for name in asked]
    parameters = {
        "tables": list(asked),
        "schemas": [schema for schema, _ in places],
        "relations": [relation for _, relation in places],
        "columns": [table.deleted_column for table in asked.values()],
    }
    with pinned(connection) as cursor:
        rows = cursor.execute(_COLUMNS, parameters).fetchall()
    for row in rows:
        yield from _column(row["name"], asked[row["name"]], not_null=row["not_null"], labels=row["labels"])


def _column(name: str, table: Table, *, not_null: bool, labels: list[str] | None) -> Iterator[Finding]:
    column = str(table.deleted_column)
    if table.alive_when is None:
        if not_null:
            message = "is NOT NULL, so that every row would count as deleted and be left out"
            step = "name the value of rows that are not deleted, as in `alive_when: infinity`, or remove deleted_column"
            yield error(message, step, table=name, column=column)
    elif labels is not None and alive_text(table.columns[column], table.alive_when) not in labels:
        message = f"never is {table.alive_when!r}, which alive_when says of rows that are not deleted"
        yield error(message, f"choose from {', '.join(labels)}", table=name, column=column)
