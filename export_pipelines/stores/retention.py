"""Requests whose time is over, and small tables that only grow: what the cleanup asks of the control database.

For the owner it reaches all tenants; in a caller's name, what the caller's role may see.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from export_pipelines.core.retention import Holder
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import Control
from export_pipelines.stores.replies import KEPT
from export_pipelines.stores.requests import COLUMNS, ExportRequest

MOST_DAYS = 36_500  # that a cleanup looks back
LINKS_KEPT = dt.timedelta(days=30)  # after their end, for whoever made them to look at
_BUCKETS_KEPT = dt.timedelta(days=7)  # no rate has a longer interval, so such a bucket is full
_AT_ONCE = 1000

_SCHEDULED = "schedule_id IS NOT NULL"
_DUE = "status = 'completed' AND expires_at <= now()"
_OLDER = f"""
    status = 'completed' AND completed_at < %(before)s AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
    AND NOT (%(keep_scheduled)s AND {_SCHEDULED})
"""
_UNREMOVED = "objects_removed_at IS NULL AND (status = 'expired' OR deleted_at IS NOT NULL)"


@dataclass(frozen=True, kw_only=True)
class Older:
    """Completed exports that somebody wants to be rid of."""

    before: dt.datetime  # completed before that
    tenant_id: str | None = None  # None: of all tenants
    keep_scheduled: bool = True

    @classmethod
    def than(cls, days: int, *, tenant_id: str | None = None, keep_scheduled: bool = True) -> Self:
        """Counted back from now."""
        before = dt.datetime.now(dt.UTC) - dt.timedelta(days=days)
        return cls(before=before, tenant_id=tenant_id, keep_scheduled=keep_scheduled)


@dataclass(frozen=True, kw_only=True)
class Held:
    """Exports and what their packages hold; rows kept for conversions come on top."""

    exports: int = 0
    size_bytes: int = 0

    def __add__(self, other: Held) -> Held:
        return Held(exports=self.exports + other.exports, size_bytes=self.size_bytes + other.size_bytes)


class RetentionStore:
    """Guarded changes in batches: a completed export becomes expired, nothing else changes its status here."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def due(self) -> Held:
        """What `expire_due` would expire."""
        return self._held(_DUE, {})

    def expire_due(self, *, limit: int = _AT_ONCE) -> Held:
        """Completed exports past their time; what another cleanup has in hands is left to it."""
        return self._expire(_DUE, {"limit": limit})

    def older(self, wanted: Older) -> Held:
        """What `expire_older` would expire."""
        return self._held(_OLDER, _values(wanted))

    def expire_older(self, wanted: Older, *, limit: int = _AT_ONCE) -> Held:
        """Up to ``limit`` of them, oldest first; links end with them."""
        return self._expire(_OLDER, {**_values(wanted), "limit": limit})

    def unremoved(self, *, after: str | None = None, limit: int = 100) -> list[ExportRequest]:
        """Expired and deleted exports with objects in the store, by id; not those that a conversion is reading."""
        rows = self._control.rows(
            f"""
            SELECT {COLUMNS} FROM export_control.export_requests
            WHERE {_UNREMOVED} AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
              AND NOT export_control.is_being_read(id)
            ORDER BY id LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {"after": after, "limit": limit},
        )
        return [ExportRequest.of(row) for row in rows]

    def is_being_read(self, request_id: str) -> bool:
        """Whether an open conversion, of whomever, needs the rows kept of it."""
        rows = self._control.rows("SELECT export_control.is_being_read(%(id)s) AS is_read", {"id": request_id})
        return bool(rows[0]["is_read"])

    def holders(self, request_ids: Iterable[str]) -> dict[str, Holder]:
        """Those of the requests that are known."""
        rows = self._control.rows(
            f"""
            SELECT id::text, status::text, attempt, greatest(completed_at, deleted_at) AS ended_at,
                   {_UNREMOVED} AS awaits_removal
            FROM export_control.export_requests WHERE id = ANY(%(ids)s::uuid[])
            """,  # noqa: S608 - constants of this module
            {"ids": list(request_ids)},
        )
        return {
            row["id"]: Holder(
                status=RequestStatus(row["status"]),
                attempt=row["attempt"],
                ended_at=row["ended_at"],
                awaits_removal=row["awaits_removal"],
            )
            for row in rows
        }

    def forget(self, *, dry_run: bool = False) -> dict[str, int]:
        """Rows by table that are of no use any more: replies after a day, idle buckets, links long after their end."""
        return {
            "api_replies": self._forget("api_replies", f"created_at < now() - interval '{KEPT}'", dry_run=dry_run),
            "rate_limits": self._forget("rate_limits", "refilled_at < now() - %(buckets)s", dry_run=dry_run),
            "export_links": self._forget(
                "export_links", "least(expires_at, revoked_at) < now() - %(links)s", dry_run=dry_run
            ),
        }

    def _forget(self, table: str, old: str, *, dry_run: bool) -> int:
        """In batches, so that none of them holds locks for long."""
        values = {"links": LINKS_KEPT, "buckets": _BUCKETS_KEPT, "limit": _AT_ONCE}
        if dry_run:
            counted = f"SELECT count(*) AS rows FROM export_control.{table} WHERE {old}"  # noqa: S608
            return int(self._control.rows(counted, values)[0]["rows"])
        batch = f"""
            WITH gone AS (
                DELETE FROM export_control.{table} WHERE ctid = ANY(ARRAY(
                    SELECT ctid FROM export_control.{table} WHERE {old} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
                RETURNING 1
            )
            SELECT count(*) AS rows FROM gone
        """  # noqa: S608 - constants of this module
        total = 0
        while found := int(self._control.rows(batch, values)[0]["rows"]):
            total += found
        return total

    def _held(self, condition: str, values: dict[str, Any]) -> Held:
        rows = self._control.rows(
            f"""
            SELECT count(*) AS exports, coalesce(sum(package_bytes), 0)::bigint AS size_bytes
            FROM export_control.export_requests WHERE {condition}
            """,  # noqa: S608 - constants of this module
            values,
        )
        return Held(**rows[0])

    def _expire(self, condition: str, values: dict[str, Any]) -> Held:
        rows = self._control.rows(
            f"""
            WITH over AS (
                SELECT id FROM export_control.export_requests WHERE {condition}
                ORDER BY completed_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
            ), expired AS (
                UPDATE export_control.export_requests AS r SET status = 'expired' FROM over WHERE r.id = over.id
                RETURNING r.package_bytes
            )
            SELECT count(*) AS exports, coalesce(sum(package_bytes), 0)::bigint AS size_bytes FROM expired
            """,  # noqa: S608 - constants of this module
            values,
        )
        return Held(**rows[0])


def _values(wanted: Older) -> dict[str, Any]:
    return {"before": wanted.before, "tenant_id": wanted.tenant_id, "keep_scheduled": wanted.keep_scheduled}
