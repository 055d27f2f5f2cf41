"""Whether row-level security really keeps tenants apart for the reader role, judged from the system catalogs.

Cheap enough for the start of every extraction. Asking the tables themselves is `probe`; shapes of tables and
columns are `check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.access import needed_columns, unneeded_columns
from export_pipelines.catalog.comparing import check_comparisons
from export_pipelines.catalog.findings import Finding, error, warning
from export_pipelines.catalog.inventory import Kind, pinned
from export_pipelines.catalog.policies import (
    Policy,
    Role,
    RowSecurity,
    membership,
    read_role,
    read_row_security,
)
from export_pipelines.catalog.predicate import (
    TENANT_ONLY,
    TENANT_READ,
    current_tenant,
    is_plain,
    mark_of,
    tenant_predicate,
)
from export_pipelines.catalog.resolving import resolve
from export_pipelines.catalog.tenant_setting import settings_of
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected

Place = tuple[str, str]  # (schema, name) in PostgreSQL

APPLY = "run `export-pipelines catalog rls --apply`"
_INVOKER = "ALTER VIEW … SET (security_invoker = true) (PostgreSQL 15 or newer), or list the view under excluded"

_READABLE = """
SELECT a.attrelid::bigint, a.attname FROM pg_attribute a
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND has_column_privilege(%(role)s::name, a.attrelid, a.attnum, 'SELECT')
"""

_ACTIVE = """
SELECT oid::bigint AS oid FROM pg_class
WHERE oid = ANY(%(oids)s::oid[]) AND relkind IN ('r', 'p') AND row_security_active(oid)
"""

# A view depends on what it selects from through its rewrite rule; views on views are followed.
_BASES = """
WITH RECURSIVE used AS (
    SELECT c.oid AS view, c.oid AS relation, c.relkind FROM pg_class c WHERE c.oid = ANY(%(oids)s::oid[])
    UNION
    SELECT used.view, c.oid, c.relkind
    FROM used
    JOIN pg_rewrite r ON r.ev_class = used.relation
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
    JOIN pg_class c ON c.oid = d.refobjid AND c.oid <> used.relation AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    WHERE used.relkind = 'v'
)
SELECT used.view::bigint, n.nspname, c.relname
FROM used JOIN pg_class c ON c.oid = used.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE used.view <> used.relation ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the system catalogs say about the tables asked for and those beneath views, seen from one role."""

    role: str
    protection: dict[Place, RowSecurity]
    beneath: dict[int, list[Place]]  # by a view's oid: everything it reads, through other views too
    readable: dict[int, set[str]]  # by oid: columns the role may SELECT
    active: set[int]  # oids where row-level security binds the role


def static_isolation(
    connection: psycopg.Connection[Any], catalog: Catalog, tables: str | Iterable[str], role: str
) -> list[Finding]:
    """Everything that keeps ``role`` from reading one or several tables safely; no error means it may.

    Works inside the caller's transaction, also a read-only one, and leaves no trace in it.
    """
    names = [tables] if isinstance(tables, str) else list(tables)
    facts = read_role(connection, role)
    if facts is None:
        return [error(f"reader role {role!r} does not exist", APPLY)]
    findings = [*_role_findings(facts)]
    try:
        evidence = gather_evidence(connection, catalog, names, role)
    except errors.InsufficientPrivilege:
        user = connection.info.user
        step = membership(connection, role, user)
        return [*findings, error(f"{user!r} may not act as reader role {role!r}", step)]
    resolved = catalog.resolved(resolve(connection, catalog, names))
    findings.extend(check_comparisons(connection, resolved, names, role, APPLY))
    for name in names:
        place = catalog.relation_name(name)
        row = evidence.protection.get(place)
        if row is None:
            message = f"{'.'.join(place)} does not exist"
            findings.append(error(message, "remove it from the catalog or create it", table=name))
            continue
        findings.extend(_privilege_findings(catalog, name, evidence.readable[row.oid], role))
        if catalog.tables[name].tenant.shared is None:
            findings.extend(_protection_findings(resolved, name, row, evidence))
    return findings


def gather_evidence(connection: psycopg.Connection[Any], catalog: Catalog, names: list[str], role: str) -> Evidence:
    """What the system catalogs say; relations that do not exist are left out."""
    protection = read_row_security(connection, map(catalog.relation_name, names), role)
    views = [row.oid for row in protection.values() if row.kind is Kind.VIEW]
    beneath = _read_beneath(connection, views) if views else {}
    further = {place for group in beneath.values() for place in group} - protection.keys()
    if further:
        protection |= read_row_security(connection, further, role)
    oids = [row.oid for row in protection.values()]
    return Evidence(
        role=role,
        protection=protection,
        beneath=beneath,
        readable=_read_readable(connection, oids, role),
        active=_read_active(connection, oids, role),
    )


def _role_findings(role: Role) -> Iterator[Finding]:
    step = "use a role of its own without these rights as reader_role"
    if role.superuser:
        yield error(f"reader role {role.name!r} is a superuser, to whom row-level security does not apply", step)
    if role.bypasses:
        yield error(f"reader role {role.name!r} has BYPASSRLS", f"ALTER ROLE {role.name} NOBYPASSRLS")
    if role.privileged_through:
        through = ", ".join(role.privileged_through)
        yield error(
            f"reader role {role.name!r} can become {through}, past row-level security", "REVOKE that membership"
        )


def _privilege_findings(catalog: Catalog, name: str, readable: set[str], role: str) -> Iterator[Finding]:
    missing = [column for column in needed_columns(catalog, name) if column not in readable]
    if missing:
        listed = ", ".join(missing)
        yield error(f"reader role {role!r} may not SELECT {listed}", APPLY, table=name)
    for column in unneeded_columns(catalog, name):
        if column in readable:
            yield warning(
                f"reader role {role!r} may SELECT a column that is not exported", APPLY, table=name, column=column
            )


def _protection_findings(catalog: Catalog, name: str, row: RowSecurity, evidence: Evidence) -> Iterator[Finding]:
    if row.kind is Kind.VIEW:
        yield from _view_findings(catalog, name, row, evidence)
        return
    if row.kind in (Kind.MATERIALIZED, Kind.FOREIGN):
        what = "materialized view" if row.kind is Kind.MATERIALIZED else "foreign table"
        yield error(f"a {what} cannot have row-level security", "list it under excluded with that reason", table=name)
        return
    if row.owns:
        step = f"REVOKE {row.owner} FROM {evidence.role}, or choose another reader_role"
        yield error(f"reader role {evidence.role!r} is the owner {row.owner!r} or a member of it", step, table=name)
    problem = _table_problem(row, evidence.active, catalog.tenant.setting) or _outdated(catalog, name, row)
    if problem:
        yield error(problem, APPLY, table=name)
    if other := _other_setting(row, catalog.tenant.setting):
        message = f"a restrictive policy of the application looks at {other}, and hides every row while it is not set"
        yield warning(message, f"set `tenant.setting: {other}` if it holds the tenant", table=name)


def _view_findings(catalog: Catalog, name: str, row: RowSecurity, evidence: Evidence) -> Iterator[Finding]:
    """A view is as safe as the tables it reads, if it and every view beneath read them as whoever asks."""
    shared = {catalog.relation_name(key) for key, table in catalog.tables.items() if table.tenant.shared is not None}
    if not row.security_invoker:
        yield error("the view reads its tables as its owner, past row-level security", _INVOKER, table=name)
    isolated = False
    for place in evidence.beneath.get(row.oid, []):
        base, label = evidence.protection.get(place), ".".join(place)
        if base is None or place in shared:
            continue
        if base.kind is Kind.VIEW:
            if not base.security_invoker:
                yield error(f"{label} beneath it reads its tables as its owner", _INVOKER, table=name)
        elif _table_problem(base, evidence.active, catalog.tenant.setting) is None:
            isolated = True
        else:
            step = f"put it into the catalog and {APPLY}, or declare it shared"
            yield warning(f"{label} beneath it has no tenant policy", step, table=name)
    if not isolated:
        yield error("no table beneath the view has an enforcing tenant policy", APPLY, table=name)


def _table_problem(row: RowSecurity, active: set[int], setting: str) -> str | None:
    """Why a table does not keep tenants apart, or None."""
    if not row.enabled:
        return "row-level security is not enabled"
    if row.oid not in active:
        return "row-level security is not active for the reader role"
    applied = [policy for policy in row.policies if policy.filters_reads]
    permissive = [policy for policy in applied if policy.permissive]
    if not permissive:
        return "no permissive policy lets the reader role see any row, so that an export would be empty"
    if any(_mentions(policy, setting) for policy in applied if not policy.permissive):
        return None
    open_ones = [policy.name for policy in permissive if not _mentions(policy, setting)]
    if open_ones:
        listed = ", ".join(repr(name) for name in open_ones)
        return f"policy {listed} lets rows through without looking at {setting}, and no restrictive policy does"
    return None


def _other_setting(row: RowSecurity, setting: str) -> str | None:
    """The setting of a restrictive policy of the application, which hides every row from a session that has another."""
    for policy in row.policies:
        if policy.filters_reads and not policy.permissive and not _mentions(policy, setting):
            found = settings_of(policy.using)
            if len(found) == 1:
                return found.pop()
    return None


def _outdated(catalog: Catalog, name: str, row: RowSecurity) -> str | None:
    """Why policies that `catalog rls` made would hide or show other rows than the catalog says now, or None."""
    made = [policy for policy in row.policies if policy.name in (TENANT_READ, TENANT_ONLY)]
    try:
        expected = mark_of(tenant_predicate(catalog, name, current_tenant(catalog)))
    except RequestRejected:
        return None  # a column that is missing is reported by the check of drift
    for policy in made:
        if policy.comment != expected and (policy.comment is not None or not is_plain(catalog, name)):
            return f"policy {policy.name!r} selects other rows than the catalog says"
    return None


def _mentions(policy: Policy, setting: str) -> bool:
    return f"current_setting('{setting}'" in (policy.using or "")


def _read_beneath(connection: psycopg.Connection[Any], views: Iterable[int]) -> dict[int, list[Place]]:
    bases: dict[int, list[Place]] = {}
    with pinned(connection) as cursor:
        for row in cursor.execute(_BASES, {"oids": list(views)}).fetchall():
            bases.setdefault(row["view"], []).append((row["nspname"], row["relname"]))
    return bases


def _read_readable(connection: psycopg.Connection[Any], oids: list[int], role: str) -> dict[int, set[str]]:
    readable: dict[int, set[str]] = {oid: set() for oid in oids}
    with pinned(connection) as cursor:
        for row in cursor.execute(_READABLE, {"oids": oids, "role": role}).fetchall():
            readable[row["attrelid"]].add(row["attname"])
    return readable


def _read_active(connection: psycopg.Connection[Any], oids: list[int], role: str) -> set[int]:
    """Relations where row-level security is active for ``role``, asked as that role."""
    with pinned(connection) as cursor:
        cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        cursor.execute(_ACTIVE, {"oids": oids})
        return {row["oid"] for row in cursor.fetchall()}
