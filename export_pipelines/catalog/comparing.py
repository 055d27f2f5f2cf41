"""Whether the keys that lead a row to its tenant can be compared, and the reader role may name what compares them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg

from export_pipelines.catalog.findings import Finding, error
from export_pipelines.catalog.inventory import pinned
from export_pipelines.catalog.resolving import TEXTS
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.resolution import Resolution

_UNUSABLE = """
SELECT n.nspname AS schema FROM pg_namespace n
WHERE n.nspname = ANY(%(schemas)s) AND NOT has_schema_privilege(%(role)s::name, n.oid, 'USAGE') ORDER BY 1
"""


def check_comparisons(
    connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str], role: str, apply: str
) -> Iterator[Finding]:
    """An error for each table whose rows the reader role cannot find; ``apply`` is the step that grants rights.

    The catalog is `resolved`.
    """
    names, resolution = list(tables), catalog.resolution
    for name in names:
        yield from _incomparable(catalog, name, resolution)
    schemas = {catalog.relation_name(name)[0] for name in names} | resolution.schemas
    with pinned(connection) as cursor:
        denied = cursor.execute(_UNUSABLE, {"schemas": sorted(schemas), "role": role}).fetchall()
    for row in denied:
        yield error(f"reader role {role!r} may not use schema {row['schema']!r}", apply)


def _incomparable(catalog: Catalog, name: str, resolution: Resolution) -> Iterator[Finding]:
    end = name
    for table, relation in catalog.tenant_route(name):
        end = relation.references
        for here, there in zip(relation.columns, relation.referenced_columns, strict=True):
            found = resolution.joins.get((table, here, end, there))
            if found is not None and found.problem:
                step = f"change the type of {table}.{here} or {end}.{there}, or choose another path to the tenant"
                yield error(f"{table}.{here} {found.problem}", step, table=name)
    owner, column = resolution.owners.get(end), catalog.tables[end].tenant.column
    if owner is not None and owner.problem:
        step = "change its type, or exclude the table"
        if owner.column_type in TEXTS:
            step = f"set `tenant.type` to text where it holds the key as PostgreSQL prints it; else {step}"
        message = f"{end}.{column} is {owner.column_type}, `tenant.type` is {catalog.tenant.type}: it {owner.problem}"
        yield error(message, step, table=name)
