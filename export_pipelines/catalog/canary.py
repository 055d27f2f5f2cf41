"""Which tables the catalog's canary does not cover: no row of its tenant carries the marker there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.findings import Finding, warning
from export_pipelines.catalog.predicate import not_shared, rows_of
from export_pipelines.catalog.resolving import resolve
from export_pipelines.core.catalog import Canary, Catalog
from export_pipelines.core.errors import RequestRejected

TIMEOUT_SECONDS = 30  # for one table; an index on the tenant answers at once
_PLANT = "insert a row of the canary tenant with the marker in a text column"


def find_uncovered(
    connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str], role: str
) -> list[Finding]:
    """Asks each tenant's table as ``role`` in the canary's name and rolls back; shared tables have nothing to leak."""
    canary = catalog.canary
    if canary is None:
        return []
    if not _is_tenant(connection, catalog, canary):
        message = f"canary.tenant {canary.tenant!r} is not among the tenants, spelled as {catalog.tenant.table} has it"
        return [warning(message, "correct it, or insert that tenant")]
    names = [name for name in tables if catalog.tables[name].tenant.shared is None]
    catalog = catalog.resolved(resolve(connection, catalog, names))
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        connection.execute("SELECT set_config('row_security', 'on', true)")
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{TIMEOUT_SECONDS}s"])
        connection.execute("SELECT set_config(%s, %s, true)", [catalog.tenant.setting, canary.tenant])
        return [finding for name in names for finding in _look(connection, catalog, name, canary)]


def _look(connection: psycopg.Connection[Any], catalog: Catalog, name: str, canary: Canary) -> Iterator[Finding]:
    columns = catalog.tables[name].text_columns
    if not columns:  # nowhere to plant one; its exports say that nothing was planted
        return
    carries = sql.SQL(" OR ").join(
        sql.SQL("strpos({}::text, {}) > 0").format(sql.Identifier(column), sql.Literal(canary.marker))
        for column in columns
    )
    try:
        query = sql.SQL("SELECT 1 FROM {} WHERE ({}) AND {} LIMIT 1").format(
            rows_of(catalog, name), carries, not_shared(catalog, name)
        )
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except RequestRejected:
        return  # a column that is missing is reported by the check of drift
    except psycopg.DatabaseError as problem:
        reason = problem.diag.message_primary or type(problem).__name__
        yield warning(f"could not be asked for canary rows: {reason}", "see the other findings", table=name)
        return
    if row is None:
        yield warning("has no canary row, so that a leak of it would not show", _PLANT, table=name)


def _is_tenant(connection: psycopg.Connection[Any], catalog: Catalog, canary: Canary) -> bool:
    schema, _, name = catalog.tenant.table.rpartition(".")
    query = sql.SQL('SELECT 1 FROM {} WHERE {}::text COLLATE "C" = {}').format(
        sql.Identifier(schema or catalog.schema_, name), sql.Identifier(catalog.tenant.key), sql.Literal(canary.tenant)
    )
    try:
        with connection.transaction():
            return connection.execute(query).fetchone() is not None
    except (errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedColumn):
        return True  # without a look at the tenants, the tables tell
