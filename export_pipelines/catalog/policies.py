"""Roles and row-level security as a live PostgreSQL has them, as plain records.

Judging them is `isolation`, changing them is `rls`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from export_pipelines.catalog.inventory import Kind, pinned
from export_pipelines.core.catalog import Catalog

PUBLIC = "public"
_INHERIT_BY_GRANT = 160000  # PostgreSQL 16 decides about inheritance for each grant, before that the member decides
_READING = ("r", "*")  # policies FOR SELECT and FOR ALL


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role's attributes that decide what row-level security means to it."""

    name: str
    superuser: bool
    bypasses: bool
    inherits: bool
    member_of: tuple[str, ...]
    privileged_through: tuple[str, ...]  # roles it may become that are superuser or bypass row-level security


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One policy, with its expressions as PostgreSQL prints them."""

    name: str
    command: str  # pg_policy.polcmd: r, a, w, d or *
    permissive: bool
    roles: tuple[str, ...]  # ``public`` for everybody
    applies: bool  # to the role that was asked about, itself or by inheritance
    using: str | None
    check: str | None
    comment: str | None = None

    @property
    def filters_reads(self) -> bool:
        """Whether it takes part when the role that was asked about SELECTs."""
        return self.applies and self.command in _READING


@dataclass(frozen=True, kw_only=True)
class RowSecurity:
    """One relation's protection, seen from one role."""

    oid: int
    kind: Kind
    owner: str
    owner_superuser: bool
    owns: bool  # the role is, or is a member of, the owner
    enabled: bool
    forced: bool
    security_invoker: bool
    policies: tuple[Policy, ...] = field(default=())

    def policy(self, name: str) -> Policy | None:
        """The policy of that name, if there is one."""
        return next((policy for policy in self.policies if policy.name == name), None)


_ROLE = """
SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypasses, r.rolinherit AS inherits,
       array(SELECT g.rolname::text FROM pg_roles g
             WHERE g.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER') ORDER BY 1) AS member_of,
       array(SELECT g.rolname::text FROM pg_roles g WHERE g.oid <> r.oid AND (g.rolsuper OR g.rolbypassrls)
             AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER') ORDER BY 1) AS privileged_through
FROM pg_roles r WHERE r.rolname = %(role)s
"""

_PROTECTION = """
SELECT n.nspname AS schema, c.relname AS name, c.oid::bigint AS oid, c.relkind::text AS kind,
       o.rolname AS owner, o.rolsuper AS owner_superuser,
       coalesce(NOT r.rolsuper AND pg_has_role(r.oid, o.oid, 'MEMBER'), false) AS owns,
       c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
       coalesce((SELECT lower(option_value) IN ('true', 'on', 'yes', '1') FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'security_invoker'), false) AS security_invoker
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS asked(schema, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
JOIN pg_roles o ON o.oid = c.relowner
LEFT JOIN pg_roles r ON r.rolname = %(role)s
"""

_POLICIES = """
SELECT p.polrelid::bigint AS relation, p.polname AS name, p.polcmd::text AS command, p.polpermissive AS permissive,
       array(SELECT coalesce(g.rolname::text, 'public') FROM unnest(p.polroles) AS m(oid)
             LEFT JOIN pg_roles g ON g.oid = m.oid ORDER BY 1) AS roles,
       0 = ANY(p.polroles) OR coalesce((SELECT bool_or(pg_has_role(r.oid, m.oid, 'USAGE'))
            FROM unnest(p.polroles) AS m(oid) JOIN pg_roles g ON g.oid = m.oid), false) AS applies,
       pg_get_expr(p.polqual, p.polrelid) AS "using", pg_get_expr(p.polwithcheck, p.polrelid) AS "check",
       obj_description(p.oid, 'pg_policy') AS comment
FROM pg_policy p
LEFT JOIN pg_roles r ON r.rolname = %(role)s
WHERE p.polrelid = ANY(%(oids)s::oid[])
ORDER BY p.polrelid, p.polname
"""


def membership(connection: psycopg.Connection[Any], role: str, member: str) -> str:
    """The step that lets ``member`` become a role without being narrowed by its policies.

    Before PostgreSQL 16 a role inherits of all its roles or of none. One that inherits gets a login beside it, which
    does not and acts as it: ``SET ROLE`` asks the login, policies the role.
    """
    granted, to = sql.Identifier(role).as_string(None), sql.Identifier(member).as_string(None)
    facts = read_role(connection, member)
    if facts is None or not facts.inherits:
        return f"GRANT {granted} TO {to}"
    if connection.info.server_version >= _INHERIT_BY_GRANT:
        return f"GRANT {granted} TO {to} WITH INHERIT FALSE, SET TRUE"
    return (
        f"CREATE ROLE export_admin LOGIN NOINHERIT IN ROLE {to}, {granted}, give it a password and connect as it with "
        f"?options=-crole%3D{quote(member)}"
    )


def read_role(connection: psycopg.Connection[Any], role: str) -> Role | None:
    """The role, or None where the server has none of that name."""
    with pinned(connection) as cursor:
        row = cursor.execute(_ROLE, {"role": role}).fetchone()
    if row is None:
        return None
    return Role(**{**row, "member_of": tuple(row["member_of"]), "privileged_through": tuple(row["privileged_through"])})


def read_row_security(
    connection: psycopg.Connection[Any], places: Iterable[tuple[str, str]], role: str
) -> dict[tuple[str, str], RowSecurity]:
    """Protection of relations given as (schema, name), as it concerns ``role``; missing ones are left out."""
    asked = sorted(set(places))
    parameters = {"schemas": [schema for schema, _ in asked], "names": [name for _, name in asked], "role": role}
    with pinned(connection) as cursor:
        rows = cursor.execute(_PROTECTION, parameters).fetchall()
        oids = [row["oid"] for row in rows]
        policies: dict[int, list[Policy]] = {oid: [] for oid in oids}
        for row in cursor.execute(_POLICIES, {"oids": oids, "role": role}).fetchall():
            policies[row.pop("relation")].append(Policy(**{**row, "roles": tuple(row["roles"])}))
    return {
        (row.pop("schema"), row.pop("name")): RowSecurity(
            **{**row, "kind": Kind(row["kind"])}, policies=tuple(policies[row["oid"]])
        )
        for row in rows
    }


def policies_hash(connection: psycopg.Connection[Any], catalog: Catalog) -> str:
    """SHA-256, hex, over everything that isolates the catalog's tables: the reader role, owners, switches, policies.

    The same text for the same rules, whatever the order they were made in.
    """
    role = read_role(connection, catalog.reader_role)
    found = read_row_security(connection, map(catalog.relation_name, catalog.tables), catalog.reader_role)
    return protection_hash(role, catalog.tenant.setting, found)


def protection_hash(role: Role | None, setting: str, protection: Mapping[tuple[str, str], RowSecurity]) -> str:
    """`policies_hash` of relations that were read already."""
    account = {
        "role": asdict(role) if role else None,
        "setting": setting,
        "tables": {
            ".".join(place): {key: value for key, value in asdict(row).items() if key != "oid"}
            | {"policies": [_without_comment(policy) for policy in row.policies]}
            for place, row in protection.items()
        },
    }
    canonical = json.dumps(account, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_comment(policy: Policy) -> dict[str, Any]:
    """What isolates; a comment does not."""
    return {key: value for key, value in asdict(policy).items() if key != "comment"}
