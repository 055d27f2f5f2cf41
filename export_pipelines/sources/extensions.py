"""Where the extensions of a database are, so that what belongs to them is found whatever their schema is called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

# Schemas with nothing in them but parts of extensions. Only such a one may be on the path of a session that prints
# names: what the application has there would be printed without its schema too.
_OF_EXTENSIONS_ALONE = """
SELECT DISTINCT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE n.nspname <> 'pg_catalog' AND NOT EXISTS (
    SELECT FROM (
        SELECT 'pg_class'::regclass AS kind, oid FROM pg_class WHERE relnamespace = n.oid AND relkind <> 'i'
        UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
                  WHERE typnamespace = n.oid AND typelem = 0 AND typtype <> 'm' AND typrelid = 0
    ) AS held WHERE NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = held.kind AND d.objid = held.oid AND d.deptype = 'e'))
ORDER BY 1
"""


def schemas_of_extensions_alone(connection: psycopg.Connection[Any]) -> list[str]:
    """Schemas of extensions in which the application has neither tables nor types."""
    return [name for (name,) in connection.execute(_OF_EXTENSIONS_ALONE)]


def installed(connection: psycopg.Connection[Any], names: Iterable[str]) -> dict[str, str]:
    """Those of the extensions that the database has, with their schemas."""
    return dict(
        connection.execute(
            "SELECT e.extname::text, n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = ANY(%s) ORDER BY 1",
            (list(names),),
        ).fetchall()
    )


def search_path(schemas: Iterable[str]) -> str:
    """The setting's value: these schemas, temporary tables last, so that none hides a table of the same name."""
    return ", ".join([*(sql.Identifier(schema).as_string() for schema in dict.fromkeys(schemas)), "pg_temp"])
