"""Tables that inherit from others, and partitions: every row is exported with one table, and with one only.

A table that others inherit from is read without their rows (``FROM ONLY``), since they have columns and policies of
their own; a partitioned table is read with all partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from export_pipelines.catalog.findings import Finding, error
from export_pipelines.catalog.inventory import pinned
from export_pipelines.core.catalog import Catalog

_CHILDREN = """
WITH RECURSIVE descent AS (
    SELECT asked.name, c.oid, c.oid AS top, c.relkind AS top_kind
    FROM unnest(%(schemas)s::text[], %(relations)s::text[], %(names)s::text[]) AS asked(schema, relation, name)
    JOIN pg_namespace n ON n.nspname = asked.schema
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.relation AND c.relkind IN ('r', 'p')
    UNION
    SELECT descent.name, i.inhrelid, descent.top, descent.top_kind
    FROM descent JOIN pg_inherits i ON i.inhparent = descent.oid
)
SELECT DISTINCT descent.name, n.nspname AS schema, c.relname AS relation, descent.top_kind = 'p' AS is_partition
FROM descent JOIN pg_class c ON c.oid = descent.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE descent.oid <> descent.top AND c.relpersistence <> 't'
ORDER BY 1, 2, 3
"""
ONCE_WITH_PARENT = "its rows are exported with"  # what `catalog init` once said of tables that inherit


def check_inheritance(connection: psycopg.Connection[Any], catalog: Catalog) -> Iterator[Finding]:
    """Errors for rows that no table exports, and for rows that two do."""
    places = {name: catalog.relation_name(name) for name in catalog.tables}
    parameters = {
        "schemas": [schema for schema, _ in places.values()],
        "relations": [relation for _, relation in places.values()],
        "names": list(places),
    }
    with pinned(connection) as cursor:
        rows = cursor.execute(_CHILDREN, parameters).fetchall()
    exported = {place: name for name, place in places.items()}
    for row in rows:
        parent, place = row["name"], (row["schema"], row["relation"])
        label, known = ".".join(place), exported.get(place)
        if row["is_partition"]:
            if known is not None:
                message = f"is a partition of {parent!r}, so that its rows would be exported twice"
                yield error(message, f"remove it from the catalog; {parent!r} has its rows", table=known)
        elif known is None and _left_out(catalog, place) is None:
            message = f"{label} inherits from it, and neither table exports the rows of {label}"
            yield error(message, f"add {label} to tables, or list it under excluded with a reason", table=parent)


def _left_out(catalog: Catalog, place: tuple[str, str]) -> str | None:
    """Why the table is not exported; None where the catalog does not say, or only said that its parent has the rows."""
    schema, relation = place
    names = (f"{schema}.{relation}", relation if schema == catalog.schema_ else "", f"{schema}.*")
    reason = next((catalog.excluded[name] for name in names if name in catalog.excluded), None)
    return None if reason is not None and reason.startswith(ONCE_WITH_PARENT) else reason
