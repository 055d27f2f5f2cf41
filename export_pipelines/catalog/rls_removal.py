"""Takes away what `rls` made and nothing else: its policies, rights, roles, and row-level security where it was off.

What is ours is told by marks: the names of the policies, the comment of the policy that keeps access as it was, the
comment of a role. Policies, rights and settings of the application stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.catalog.inventory import pinned
from export_pipelines.catalog.policies import RowSecurity, read_row_security
from export_pipelines.catalog.predicate import TENANT_ONLY, TENANT_READ
from export_pipelines.catalog.resolving import tenant_place
from export_pipelines.catalog.rls import (
    KEEP_ACCESS,
    KEEP_COMMENT,
    KEEP_COMMENT_FORCED,
    KEEP_OWNER,
    OWN_POLICIES,
    ROLE_COMMENT,
    SHARED_READ,
    TENANT_LIST,
    run_once,
)
from export_pipelines.core.catalog import Catalog

Place = tuple[str, str]  # (schema, name) in PostgreSQL

_WITH_POLICIES = """
SELECT DISTINCT n.nspname AS schema, c.relname AS name
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.polname = ANY(%(names)s::name[]) ORDER BY 1, 2
"""

# Databases beside this one where the role owns something or has rights; 0 are objects of the whole server.
_ROLE = """
SELECT r.oid, coalesce(shobj_description(r.oid, 'pg_authid') = %(mark)s, false) AS ours,
       array(SELECT DISTINCT d.datname::text FROM pg_shdepend s JOIN pg_database d ON d.oid = s.dbid
             WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND d.datname <> current_database()
             ORDER BY 1) AS used_in
FROM pg_roles r WHERE r.rolname = %(role)s
"""

_RELATIONS = """
SELECT n.nspname AS schema, c.relname AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (EXISTS (SELECT FROM aclexplode(c.relacl) acl WHERE acl.grantee = %(oid)s)
    OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) acl
               WHERE a.attrelid = c.oid AND acl.grantee = %(oid)s))
ORDER BY 1, 2
"""

_SCHEMAS = """
SELECT n.nspname AS schema FROM pg_namespace n
WHERE EXISTS (SELECT FROM aclexplode(n.nspacl) acl WHERE acl.grantee = %(oid)s) ORDER BY 1
"""


@dataclass(frozen=True, kw_only=True)
class _Grantee:
    """A role of the catalog as the server has it."""

    name: str
    oid: int
    ours: bool  # made by `rls`
    used_in: tuple[str, ...]  # other databases


def removal_sql(connection: psycopg.Connection[Any], catalog: Catalog) -> list[str]:
    """Statements, without semicolons, that undo what `rls_sql` did here; none where there is nothing of it.

    Meant for one transaction. They follow from the database, so tables that have left the catalog are covered too.
    """
    statements = [*_policies(connection, catalog)]
    for role in _grantees(connection, catalog):
        statements.extend(_rights(connection, catalog, role))
        if role.ours and not role.used_in:
            statements.append(sql.SQL("DROP ROLE {}").format(sql.Identifier(role.name)))
    return [statement.as_string(connection) for statement in statements]


def remove_rls(connection: psycopg.Connection[Any], catalog: Catalog) -> list[str]:
    """Run `removal_sql` in one transaction and answer what was run; errors as of `apply_rls`."""
    return run_once(connection, lambda: removal_sql(connection, catalog))


def kept_roles(connection: psycopg.Connection[Any], catalog: Catalog) -> dict[str, str]:
    """Roles of the catalog that `removal_sql` leaves on the server, with the reason."""
    kept: dict[str, str] = {}
    for role in _grantees(connection, catalog):
        if not role.ours:
            kept[role.name] = "it was there before, with rights of its own that it keeps on schemas"
        elif role.used_in:
            kept[role.name] = f"it has rights in {', '.join(role.used_in)}; remove them there, the last one drops it"
    return kept


def _policies(connection: psycopg.Connection[Any], catalog: Catalog) -> Iterator[sql.Composed]:
    roles = {catalog.reader_role, catalog.directory_role}
    with pinned(connection) as cursor:
        rows = cursor.execute(_WITH_POLICIES, {"names": sorted(OWN_POLICIES)}).fetchall()
    places = [(row["schema"], row["name"]) for row in rows]
    for place, row in read_row_security(connection, places, catalog.reader_role).items():
        made = [row.policy(name) for name in (TENANT_READ, TENANT_ONLY, SHARED_READ, TENANT_LIST)]
        if any(policy is not None and not set(policy.roles) <= roles for policy in made):
            continue  # of another catalog, with another reader role
        yield from _undone(place, row, [policy.name for policy in made if policy is not None])


def _undone(place: Place, row: RowSecurity, made: list[str]) -> Iterator[sql.Composed]:
    table = sql.Identifier(*place)
    keeping = {
        policy.name: policy.comment == KEEP_COMMENT_FORCED
        for policy in row.policies
        if policy.name in (KEEP_ACCESS, KEEP_OWNER) and policy.comment in (KEEP_COMMENT, KEEP_COMMENT_FORCED)
    }
    if row.forced and any(keeping.values()):
        yield sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(table)
    if row.enabled and KEEP_ACCESS in keeping:  # without it the table would be closed, and it was open before
        yield sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(table)
    for name in (*made, *keeping):
        yield sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(name), table)


def _grantees(connection: psycopg.Connection[Any], catalog: Catalog) -> Iterator[_Grantee]:
    for name in (catalog.reader_role, catalog.directory_role):
        with pinned(connection) as cursor:
            row = cursor.execute(_ROLE, {"role": name, "mark": ROLE_COMMENT}).fetchone()
        if row is not None:
            yield _Grantee(name=name, oid=row["oid"], ours=row["ours"], used_in=tuple(row["used_in"]))


def _rights(connection: psycopg.Connection[Any], catalog: Catalog, role: _Grantee) -> Iterator[sql.Composed]:
    """Of a role that is not ours, the rights on tables of the catalog alone."""
    grantee = sql.Identifier(role.name)
    of_catalog = {tenant_place(catalog), *(catalog.relation_name(name) for name in catalog.tables)}
    with pinned(connection) as cursor:
        relations = cursor.execute(_RELATIONS, {"oid": role.oid}).fetchall()
        schemas = cursor.execute(_SCHEMAS, {"oid": role.oid}).fetchall() if role.ours else []
    for row in relations:
        place = (row["schema"], row["name"])
        if role.ours or place in of_catalog:
            yield sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(*place), grantee)
    for row in schemas:
        yield sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(sql.Identifier(row["schema"]), grantee)
