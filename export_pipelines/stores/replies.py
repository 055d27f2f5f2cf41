"""The first answers to writes that carry an idempotency key, kept for a day, sealed: one may hold a link's address."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Json

from export_pipelines.core.access import Caller
from export_pipelines.stores.control import Control
from export_pipelines.stores.secrets import SecretBox

KEPT = "1 day"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer as it went out."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]


class ReplyStore:
    """Replies of one caller's keys."""

    def __init__(self, control: Control, secrets: SecretBox) -> None:
        self._control = control
        self._secrets = secrets

    def begin(self, caller: Caller, key: str, fingerprint: str) -> bool:
        """Take a key for this transaction. False when it was used within a day; waits for one in use right now."""
        names = _names(caller, key)
        self._control.rows(
            f"""
            DELETE FROM export_control.api_replies
            WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s
              AND created_at < now() - interval '{KEPT}'
            """,  # noqa: S608 - a constant of this module
            names,
        )
        return bool(
            self._control.rows(
                """
                INSERT INTO export_control.api_replies (tenant_id, user_id, key, fingerprint)
                VALUES (%(tenant_id)s, %(user_id)s, %(key)s, %(fingerprint)s)
                ON CONFLICT DO NOTHING RETURNING key
                """,
                {**names, "fingerprint": fingerprint},
            )
        )

    def finish(self, caller: Caller, key: str, reply: Reply) -> None:
        self._control.rows(
            """
            UPDATE export_control.api_replies SET status = %(status)s, headers = %(headers)s, body = %(body)s
            WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s
            """,
            {
                **_names(caller, key),
                "status": reply.status,
                "headers": Json(reply.headers),
                "body": Json(
                    base64.b64encode(self._secrets.seal(json.dumps(reply.body), _owner(caller, key))).decode()
                ),
            },
        )

    def find(self, caller: Caller, key: str) -> tuple[str, Reply] | None:
        """Fingerprint and reply of a key that was used within a day."""
        rows = self._control.rows(
            f"""
            SELECT fingerprint, status, headers, body FROM export_control.api_replies
            WHERE tenant_id = %(tenant_id)s AND user_id = %(user_id)s AND key = %(key)s
              AND created_at >= now() - interval '{KEPT}'
            """,  # noqa: S608 - a constant of this module
            _names(caller, key),
        )
        if not rows:
            return None
        row = rows[0]
        body = json.loads(self._secrets.open(base64.b64decode(row["body"]), _owner(caller, key)))
        return row["fingerprint"], Reply(status=row["status"], headers=row["headers"], body=body)


def _names(caller: Caller, key: str) -> dict[str, str]:
    return {"tenant_id": caller.tenant_id or "", "user_id": caller.name, "key": key}


def _owner(caller: Caller, key: str) -> str:
    """What a sealed reply is bound to."""
    return json.dumps(["reply", caller.tenant_id, caller.name, key])
