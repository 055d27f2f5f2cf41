"""The labels of enum columns that a filter names: a word that is none of them selects nothing and would not say so."""

from __future__ import annotations

import psycopg

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.filtering import compared_as
from export_pipelines.core.model import Condition, TableSelection

_SHOWN = 20  # labels, and characters of a value, in a message
_LABELS = """
SELECT a.attname::text, array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
JOIN pg_enum e ON e.enumtypid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = ANY(%s)
GROUP BY a.attname
"""


def require_labels(connection: psycopg.Connection, catalog: Catalog, selection: TableSelection) -> None:
    """Raises `RequestRejected` for a filter on an enum column with a value that no row can have."""
    columns = catalog.tables[selection.table].columns
    named = {one.column: one for one in selection.conditions if compared_as(columns[one.column].type) is None}
    if not named:
        return
    place = catalog.relation_name(selection.table)
    for column, labels in connection.execute(_LABELS, [*place, list(named)]):
        _require(selection.table, named[column], labels)


def _require(table: str, condition: Condition, labels: list[str]) -> None:
    unknown = [value for value in condition.values if value not in labels]
    if not unknown:
        return
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    cut = unknown[0] if len(unknown[0]) <= _SHOWN else f"{unknown[0][:_SHOWN]}…"
    raise RequestRejected(
        f"{table}.{condition.column}: {cut!r} is none of its values; choose from {', '.join(labels[:_SHOWN])}{more}",
        field=f"filters.{condition.column}",
    )
