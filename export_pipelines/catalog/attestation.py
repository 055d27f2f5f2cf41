"""The facts about isolation that an export attests, read from the session that reads the rows.

Judging them is `isolation`, which refuses the export before any of this is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from export_pipelines.catalog.inventory import Kind, pinned
from export_pipelines.catalog.isolation import Evidence, gather_evidence
from export_pipelines.catalog.policies import protection_hash, read_role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.isolation import ReaderRole, RowSecurityState, SessionIsolation

_SESSION = """
SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypasses_rls, r.rolinherit AS inherits
FROM pg_roles r WHERE r.rolname = current_user
"""


def attest_session(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> SessionIsolation:
    """Role, rules and row security as they are for this session; leaves no trace in its transaction."""
    names = sorted(tables)
    with pinned(connection) as cursor:
        session = cursor.execute(_SESSION).fetchone()
    assert session is not None
    evidence = gather_evidence(connection, catalog, names, session["name"])
    missing = [name for name in names if catalog.relation_name(name) not in evidence.protection]
    if missing:
        raise RequestRejected(f"{', '.join(missing)} is gone from the source; run `export-pipelines catalog check`")
    role = read_role(connection, session["name"])
    return SessionIsolation(
        role=ReaderRole(**session),
        policies_sha256=protection_hash(role, catalog.tenant.setting, evidence.protection),
        row_security={name: _state(catalog, name, evidence) for name in names},
    )


def _state(catalog: Catalog, name: str, evidence: Evidence) -> RowSecurityState:
    if catalog.tables[name].tenant.shared is not None:
        return RowSecurityState.SHARED
    row = evidence.protection[catalog.relation_name(name)]
    if row.kind is Kind.VIEW:
        bases = [evidence.protection.get(place) for place in evidence.beneath.get(row.oid, [])]
        isolated = any(base is not None and base.oid in evidence.active for base in bases)
        return RowSecurityState.BENEATH_VIEW if row.security_invoker and isolated else RowSecurityState.OFF
    return RowSecurityState.ENFORCED if row.oid in evidence.active else RowSecurityState.OFF
