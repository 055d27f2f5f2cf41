"""The outbox: what is still to be told to whom."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from export_pipelines.stores.control import Control

BACKOFF_SECONDS = 30  # doubled with each attempt
SENDING_TIMEOUT = dt.timedelta(minutes=10)  # a sender that has not answered by then is taken for dead


@dataclass(frozen=True, kw_only=True)
class DueDelivery:
    """One message to one recipient, held by this process."""

    id: str
    request_id: str | None  # None: a notice about a schedule
    tenant_id: str
    method: str
    recipient: str
    message: dict[str, Any]
    attempts: int
    export_name: str | None
    rows: int
    size_bytes: int
    expires_at: dt.datetime | None


class DeliveryStore:
    """Takes due deliveries one at a time and records their outcome."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def take_due(self, request_id: str | None = None) -> DueDelivery | None:
        """The next due delivery, marked ``sending`` so that no other process takes it; None when all is quiet."""
        self._give_up_on_killers()
        rows = self._control.rows(
            """
            WITH due AS (
                SELECT id FROM export_control.export_deliveries
                WHERE status IN ('pending', 'sending') AND due_at <= now()
                  AND (%(request_id)s::uuid IS NULL OR request_id = %(request_id)s::uuid)
                ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
            ), taken AS (
                UPDATE export_control.export_deliveries d
                SET status = 'sending', attempts = attempts + 1, due_at = now() + %(timeout)s
                FROM due WHERE d.id = due.id RETURNING d.*
            )
            SELECT taken.id::text, taken.request_id::text, taken.tenant_id, taken.method, taken.recipient,
                   taken.message, taken.attempts, r.config ->> 'name' AS export_name, r.package_rows AS rows,
                   r.package_bytes AS size_bytes, r.expires_at
            FROM taken LEFT JOIN export_control.export_requests r ON r.id = taken.request_id
            """,
            {"request_id": request_id, "timeout": SENDING_TIMEOUT},
        )
        return DueDelivery(**rows[0]) if rows else None

    def _give_up_on_killers(self) -> None:
        """A delivery whose every sender died would take one process after another with it."""
        self._control.rows(
            """
            UPDATE export_control.export_deliveries
            SET status = 'failed', error_message = 'no sender lived to say what happened, attempts are used up'
            WHERE status = 'sending' AND due_at <= now() AND attempts >= max_attempts
            """
        )

    def any_due(self) -> bool:
        """Whether `take_due` would find something; a minute of grace lets the run that published go first."""
        rows = self._control.rows(
            """
            SELECT EXISTS (
                SELECT 1 FROM export_control.export_deliveries
                WHERE status IN ('pending', 'sending') AND due_at <= now()
                  AND (attempts > 0 OR created_at < now() - interval '1 minute')
            ) AS due
            """
        )
        return bool(rows[0]["due"])

    def delivered(self, delivery_id: str, *, receipt: str) -> None:
        self._control.rows(
            """
            UPDATE export_control.export_deliveries
            SET status = 'delivered', delivered_at = now(), receipt = %(receipt)s, error_message = NULL
            WHERE id = %(id)s
            """,
            {"id": delivery_id, "receipt": receipt},
        )

    def not_delivered(self, due: DueDelivery, *, message: str, final: bool) -> None:
        """Due again after a pause that doubles; ``failed`` when final or when attempts are used up.

        A sender that was taken for dead meanwhile changes nothing any more.
        """
        self._control.rows(
            """
            UPDATE export_control.export_deliveries
            SET status = CASE WHEN %(final)s OR attempts >= max_attempts THEN 'failed' ELSE 'pending' END
                         ::export_control.delivery_status,
                due_at = now() + make_interval(secs => %(pause)s * power(2, least(attempts, 8) - 1)),
                error_message = left(%(message)s, 2000)
            WHERE id = %(id)s AND status = 'sending' AND attempts = %(attempts)s
            """,
            {"id": due.id, "attempts": due.attempts, "final": final, "pause": BACKOFF_SECONDS, "message": message},
        )

    def of_request(self, request_id: str) -> list[dict[str, Any]]:
        return list(
            self._control.rows(
                """
                SELECT method, recipient, status::text, attempts, error_message, delivered_at
                FROM export_control.export_deliveries WHERE request_id = %(id)s ORDER BY method, recipient
                """,
                {"id": request_id},
            )
        )

    def files_of(self, request_id: str) -> list[dict[str, Any]]:
        """The published files of a request, in package order."""
        return list(
            self._control.rows(
                """
                SELECT position, key, path, media_type, rows, size_bytes, sha256, crc32
                FROM export_control.export_files WHERE request_id = %(id)s ORDER BY position
                """,
                {"id": request_id},
            )
        )
