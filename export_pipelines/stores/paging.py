"""Cursors of lists that run from the newest to the oldest: where a page ended, as text for the next one."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from uuid import UUID

from export_pipelines.core.errors import RequestRejected


def cursor_of(created_at: dt.datetime, last_id: str) -> str:
    """Keyset paging: a page costs the same however deep, and rows that come in meanwhile shift nothing."""
    return base64.urlsafe_b64encode(json.dumps([created_at.isoformat(), last_id]).encode()).decode().rstrip("=")


def position_of(cursor: str) -> tuple[dt.datetime, str]:
    """`RequestRejected` for what `cursor_of` did not make."""
    try:
        at, last = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return dt.datetime.fromisoformat(at), str(UUID(last))
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise RequestRejected("is not a cursor of this list; begin without one", field="cursor") from error
