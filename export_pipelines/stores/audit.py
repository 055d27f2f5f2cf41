"""The audit log: append, look, hand out. `export_pipelines.stores.audit_chain` proves that nobody changed it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from export_pipelines.core.access import Caller
from export_pipelines.core.addresses import client_address
from export_pipelines.core.audit import Origin, Outcome, clean_text, detail_text
from export_pipelines.core.escaping import neutralise
from export_pipelines.stores.control import Control

_STREAM_ROWS = 1000
_INSTANT = """to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_COLUMNS = f"""
    id, {_INSTANT} AS at, tenant_id, user_id, role, credential, action, target_type, target_id, outcome,
    host(ip) AS ip, user_agent, http_request_id, detail::text AS detail,
    encode(previous_hash, 'hex') AS previous_hash, encode(hash, 'hex') AS hash
"""


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One line of the log, every field as the text that was hashed."""

    id: int
    at: str  # UTC, to the microsecond
    tenant_id: str | None
    user_id: str | None
    role: str | None
    credential: str | None
    action: str
    target_type: str | None
    target_id: str | None
    outcome: str
    ip: str | None
    user_agent: str | None
    http_request_id: str | None
    detail: str  # a JSON object
    previous_hash: str  # hex
    hash: str  # hex

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(**row)


@dataclass(frozen=True, kw_only=True)
class AuditFilter:
    """What to show; times are half-open ``[since, until)``. Policies narrow it further."""

    tenant_id: str | None = None
    user_id: str | None = None
    action: str | None = None
    target_id: str | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Head:
    """The newest entry. Noted elsewhere, it proves later that nothing before it was changed or cut off."""

    id: int
    hash: str  # hex

    def __str__(self) -> str:
        return f"{self.id}:{self.hash}"


Entries = list[AuditEntry]  # the store's own `list` hides the type inside the class


class AuditLog:
    """The table ``audit_log``."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def append(
        self,
        action: str,
        *,
        caller: Caller | None,
        tenant_id: str | None = None,
        target: tuple[str, str] | None = None,
        outcome: Outcome = Outcome.OK,
        origin: Origin | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Head:
        """Add an entry about ``target``, a type and an id. The last thing in a transaction: it holds all others up.

        ``tenant_id`` is whose data it is about, and whose admins see it; the caller's own unless given.
        """
        kind, identity = target or (None, None)
        origin = origin or Origin()
        (row,) = self._control.rows(
            """
            SELECT id, encode(hash, 'hex') AS hash FROM export_control.audit(
                tenant_id => %(tenant_id)s, user_id => %(user_id)s, role => %(role)s, credential => %(credential)s,
                action => %(action)s, target_type => %(target_type)s, target_id => %(target_id)s,
                outcome => %(outcome)s, ip => %(ip)s, user_agent => %(user_agent)s,
                http_request_id => %(http_request_id)s, detail => %(detail)s)
            """,
            {
                "tenant_id": clean_text(tenant_id or (caller.tenant_id if caller else None)),
                "user_id": clean_text(caller.user_id) if caller else None,
                "role": caller.role.value if caller else None,
                "credential": caller.credential if caller else None,
                "action": action,
                "target_type": kind,
                "target_id": clean_text(identity),
                "outcome": outcome.value,
                "ip": client_address(origin.ip),
                "user_agent": clean_text(origin.user_agent),
                "http_request_id": clean_text(origin.http_request_id),
                "detail": detail_text(detail),
            },
        )
        return Head(**row)

    def list(self, wanted: AuditFilter | None = None, *, before: int | None = None, limit: int = 50) -> Entries:
        """Newest first; ``before`` is the id that the page before ended with."""
        return self._page(wanted, "id < %(edge)s", "DESC", before, limit)

    def stream(self, wanted: AuditFilter | None = None) -> Iterator[AuditEntry]:
        """All of it, oldest first, some at a time; what is appended meanwhile comes too."""
        last: int | None = None
        while page := self.after(last, wanted):
            yield from page
            last = page[-1].id

    def after(self, last: int | None, wanted: AuditFilter | None = None) -> Entries:
        """The next of all, oldest first, some at a time; none at the end."""
        return self._page(wanted, "id > %(edge)s", "ASC", last, _STREAM_ROWS)

    def head(self) -> Head | None:
        """The newest entry's id and hash, None of an empty log. Among the entries the role may see."""
        rows = self._control.rows(
            "SELECT id, encode(hash, 'hex') AS hash FROM export_control.audit_log ORDER BY id DESC LIMIT 1"
        )
        return Head(**rows[0]) if rows else None

    def _page(self, wanted: AuditFilter | None, edge_rule: str, order: str, edge: int | None, limit: int) -> Entries:
        rows = self._control.rows(
            f"""
            SELECT {_COLUMNS} FROM export_control.audit_log
            WHERE (%(edge)s::bigint IS NULL OR {edge_rule})
              AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
              AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
              AND (%(action)s::text IS NULL OR action = %(action)s)
              AND (%(target_id)s::text IS NULL OR target_id = %(target_id)s)
              AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
              AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
            ORDER BY id {order} LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {**asdict(wanted or AuditFilter()), "edge": edge, "limit": limit},
        )
        return [AuditEntry.of(row) for row in rows]


def as_ndjson(entries: Iterator[AuditEntry]) -> Iterator[str]:
    """A JSON object a line. ``detail`` is the text that was hashed, so that a reader can compute the hash again."""
    for entry in entries:
        yield json.dumps(asdict(entry), ensure_ascii=False, separators=(",", ":")) + "\n"


def as_csv(entries: Iterator[AuditEntry]) -> Iterator[str]:
    """For spreadsheets: texts that would run as formulas are neutralised, since a user agent says what it likes."""
    names = list(AuditEntry.__dataclass_fields__)
    yield _csv_line(names)
    for entry in entries:
        values = asdict(entry)
        yield _csv_line([neutralise(value) if isinstance(value, str) else value for value in values.values()])


def _csv_line(values: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue()
