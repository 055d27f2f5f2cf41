"""Asks the tables themselves: a tenant that does not exist, or none at all, must see no row.

Catches what reading policies cannot: a policy that mentions the tenant and lets everything through all the same.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.findings import Finding, error, warning
from export_pipelines.catalog.predicate import not_shared, rows_of
from export_pipelines.catalog.resolving import resolve
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import Kind, value_type

TIMEOUT_SECONDS = 30  # for one table; an index on the tenant answers at once
_ATTEMPTS = 20
_NO_TENANT_OF_THAT_TYPE = (
    errors.InvalidTextRepresentation,
    errors.NumericValueOutOfRange,
    errors.InvalidDatetimeFormat,
    errors.DatetimeFieldOverflow,
)
_LOWEST = {"smallint": -(2**15), "integer": -(2**31), "bigint": -(2**63)}
_SPREAD = 10_000
_PARAMETER = re.compile(r'configuration parameter "([a-z0-9_.]+)"')


def probe_isolation(
    connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str], role: str
) -> list[Finding]:
    """Reads at most one row of each tenant's table as ``role`` and rolls back; a row seen is an error."""
    names = [name for name in tables if catalog.tables[name].tenant.shared is None]
    catalog = catalog.resolved(resolve(connection, catalog, names))
    stranger = _stranger(connection, catalog)
    findings: list[Finding] = []
    if stranger is None:
        message = f"no unused tenant id of type {catalog.tenant.type} could be made up"
        findings.append(warning(f"{message}; only the unset tenant was probed", "test the policies by hand"))
    with connection.transaction(force_rollback=True):
        connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        connection.execute("SELECT set_config('row_security', 'on', true)")
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{TIMEOUT_SECONDS}s"])
        for tenant, who in ((stranger, "a tenant that does not exist"), ("", "a session without a tenant")):
            if tenant is None:
                continue
            connection.execute("SELECT set_config(%s, %s, true)", [catalog.tenant.setting, tenant])
            for name in names:
                findings.extend(_look(connection, catalog, name, who, shared=bool(tenant)))
    return _without_repeats(findings)


def _look(
    connection: psycopg.Connection[Any], catalog: Catalog, name: str, who: str, *, shared: bool
) -> Iterator[Finding]:
    """``shared``: whoever looks may see the rows that belong to every tenant."""
    try:
        wanted = not_shared(catalog, name) if shared else sql.SQL("TRUE")
        query = sql.SQL("SELECT 1 FROM {} WHERE {} LIMIT 1").format(rows_of(catalog, name), wanted)
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except errors.QueryCanceled:
        step = "create an index that starts with the columns of its tenant path"
        yield warning(f"the probe took longer than {TIMEOUT_SECONDS} s", step, table=name)
        return
    except RequestRejected:
        return  # a column that is missing is reported by the check of drift
    except _NO_TENANT_OF_THAT_TYPE:
        return  # a policy that cannot even read the tenant shows nothing: closed, which is what was asked
    except psycopg.DatabaseError as problem:
        reason = problem.diag.message_primary or type(problem).__name__
        step = "grant what it asks for, or exclude it"
        if isinstance(problem, errors.UndefinedObject) and (setting := _PARAMETER.search(reason)):
            step = f"a policy of the application asks for it: set `tenant.setting: {setting[1]}` if it holds the tenant"
        yield error(f"cannot be read as the reader role: {reason}", step, table=name)
        return
    if row is not None:
        yield error(f"{who} sees rows", "correct its policies; until then nothing of it may be exported", table=name)


def _stranger(connection: psycopg.Connection[Any], catalog: Catalog) -> str | None:
    """An id, as text, that no tenant has; None where the type offers none."""
    make = _maker(catalog.tenant.type)
    if make is None:
        return None
    schema, _, name = catalog.tenant.table.rpartition(".")
    table, key = sql.Identifier(schema or catalog.schema_, name), sql.Identifier(catalog.tenant.key)
    query = sql.SQL('SELECT 1 FROM {} WHERE {}::text COLLATE "C" = {} LIMIT 1')
    for _ in range(_ATTEMPTS):
        candidate = make()
        try:
            with connection.transaction():
                taken = connection.execute(query.format(table, key, sql.Literal(candidate))).fetchone()
        except (errors.InsufficientPrivilege, errors.UndefinedTable, errors.UndefinedColumn):
            return candidate  # without a look at the tenants an id is still improbable enough
        if taken is None:
            return candidate
    return None


def _maker(tenant_type: str) -> Callable[[], str] | None:
    value = value_type(tenant_type)
    if value.pg_type == "uuid":
        return lambda: str(uuid.uuid4())
    if value.kind is Kind.INTEGER:
        return lambda: str(_LOWEST[value.pg_type] + secrets.randbelow(_SPREAD))
    if value.kind in (Kind.DECIMAL, Kind.NUMERIC):
        return lambda: str(-1 - secrets.randbelow(_SPREAD))
    if value.kind is Kind.TEXT and value.pg_type.partition("(")[0] in (
        "text",
        "character varying",
        "character",
        "citext",
    ):
        return lambda: f"probe-{secrets.token_hex(8)}"
    return None


def _without_repeats(findings: list[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))
