"""Past and present requests, page by page, for those who may see them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import Control
from export_pipelines.stores.paging import cursor_of, position_of
from export_pipelines.stores.requests import COLUMNS, ExportRequest


@dataclass(frozen=True, kw_only=True)
class HistoryFilter:
    """What a page is limited to; None is any."""

    status: RequestStatus | None = None
    table: str | None = None
    module: str | None = None  # of that table: asking for its module is asking for it
    format: str | None = None
    user: str | None = None
    schedule: str | None = None  # id of one whose exports they are
    created_from: dt.datetime | None = None
    created_to: dt.datetime | None = None  # not included


class History:
    """Reads requests newest first. Deleted ones are not shown."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def page(
        self, wanted: HistoryFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[list[ExportRequest], str | None]:
        """Up to ``limit`` requests and the cursor of the next page, None at the end."""
        after_at, after_id = position_of(cursor) if cursor else (None, None)
        rows = self._control.rows(
            f"""
            SELECT {COLUMNS} FROM export_control.export_requests
            WHERE deleted_at IS NULL
              AND (%(status)s::text IS NULL OR status = %(status)s::export_control.request_status)
              AND (%(table)s::text IS NULL OR config -> 'tables' ? %(table)s
                   OR config @> jsonb_build_object('data_sources',
                                                   jsonb_build_array(jsonb_build_object('type', %(table)s::text)))
                   OR config -> 'modules' ? %(module)s)
              AND (%(format)s::text IS NULL OR lower(config ->> 'format') = lower(%(format)s))
              AND (%(user)s::text IS NULL OR requested_by = %(user)s)
              AND (%(schedule)s::uuid IS NULL OR schedule_id = %(schedule)s::uuid)
              AND (%(created_from)s::timestamptz IS NULL OR created_at >= %(created_from)s)
              AND (%(created_to)s::timestamptz IS NULL OR created_at < %(created_to)s)
              AND (%(after_at)s::timestamptz IS NULL OR (created_at, id) < (%(after_at)s, %(after_id)s::uuid))
            ORDER BY created_at DESC, id DESC LIMIT %(limit)s + 1
            """,  # noqa: S608 - our own names
            {
                "status": wanted.status,
                "table": wanted.table,
                "module": wanted.module,
                "format": wanted.format,
                "user": wanted.user,
                "schedule": wanted.schedule,
                "created_from": wanted.created_from,
                "created_to": wanted.created_to,
                "after_at": after_at,
                "after_id": after_id,
                "limit": limit,
            },
        )
        found = [ExportRequest.of(row) for row in rows[:limit]]
        return found, cursor_of(found[-1].created_at, found[-1].id) if len(rows) > limit else None
