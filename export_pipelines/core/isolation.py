"""What an export says of its isolation: who read, by which rules, and how often a stranger's marker turned up."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RowSecurityState(StrEnum):
    """Whether the database itself kept other tenants' rows of a table away from the session that read it."""

    ENFORCED = "enforced"
    BENEATH_VIEW = "enforced beneath the view"
    SHARED = "shared by all tenants"  # there is nothing to keep away
    OFF = "not enforced"


@dataclass(frozen=True, kw_only=True)
class ReaderRole:
    """The role of the session, as the server has it."""

    name: str
    superuser: bool
    bypasses_rls: bool
    inherits: bool


@dataclass(frozen=True, kw_only=True)
class SessionIsolation:
    """What held in the session that read the rows."""

    role: ReaderRole
    policies_sha256: str  # over the rules of the tables read; changes with any of them
    row_security: dict[str, RowSecurityState]  # by table


@dataclass(frozen=True, kw_only=True)
class IsolationAccount:
    """All that the source can tell; what was seen in the files is for validation to say."""

    session: SessionIsolation
    rows_by_policy: dict[str, int]  # by table: counted without the tenant filter in the SQL
    canary_rows: dict[str, int] | None  # by table: rows with the marker that a leak would bring along; None: no canary
    marker_sha256: str | None
