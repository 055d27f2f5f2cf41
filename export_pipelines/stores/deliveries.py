"""The outbox: what is still to be delivered to whom, and whether anybody still has to be told of a failed export."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from export_pipelines.core.destinations import DeliveryKind, Receipt
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import Control

BACKOFF_SECONDS = 30  # doubled with each attempt
SENDING_TIMEOUT = dt.timedelta(minutes=10)  # a sender that has not answered by then is taken for dead


@dataclass(frozen=True, kw_only=True)
class DueDelivery:
    """One delivery to one recipient, held by this process."""

    id: str
    kind: DeliveryKind
    request_id: str | None  # None: a notice about a schedule
    tenant_id: str
    method: str
    recipient: str
    message: dict[str, Any]  # of a package: what the configuration says beside; of a notice: what it tells
    attempts: int  # this one included
    doubtful: bool  # an earlier sender died without saying what it had done
    export_name: str | None
    rows: int
    size_bytes: int
    manifest_sha256: str | None
    request_status: RequestStatus | None
    requested_at: dt.datetime | None
    expires_at: dt.datetime | None


@dataclass(frozen=True, kw_only=True)
class FailedRequest:
    """A request that failed for good and of which nobody was told yet."""

    id: str
    requested_by: str | None
    config: dict[str, Any]  # as it was ordered; perhaps refused
    error_type: str | None
    error_message: str | None
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A new row of the outbox about a failed request."""

    method: str
    recipient: str
    message: dict[str, str]


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
                SET doubtful = doubtful OR status = 'sending', status = 'sending', attempts = attempts + 1,
                    due_at = now() + %(timeout)s
                FROM due WHERE d.id = due.id RETURNING d.*
            )
            SELECT taken.id::text, taken.kind, taken.request_id::text, taken.tenant_id, taken.method, taken.recipient,
                   taken.message, taken.attempts, taken.doubtful, r.config ->> 'name' AS export_name,
                   r.package_rows AS rows, r.package_bytes AS size_bytes, r.manifest_sha256,
                   r.status::text AS request_status, r.created_at AS requested_at, r.expires_at
            FROM taken LEFT JOIN export_control.export_requests r ON r.id = taken.request_id
            """,
            {"request_id": request_id, "timeout": SENDING_TIMEOUT},
        )
        return _due(rows[0]) if rows else None

    def renew(self, due: DueDelivery) -> bool:
        """Another `SENDING_TIMEOUT` for its sender; False when that was taken for dead meanwhile."""
        return bool(
            self._control.rows(
                """
                UPDATE export_control.export_deliveries SET due_at = now() + %(timeout)s
                WHERE id = %(id)s AND status = 'sending' AND attempts = %(attempts)s RETURNING id
                """,
                {"id": due.id, "attempts": due.attempts, "timeout": SENDING_TIMEOUT},
            )
        )

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
        """Whether there is something to deliver or to announce; a minute of grace lets the run that published a
        package go first.
        """
        rows = self._control.rows(
            """
            SELECT EXISTS (
                SELECT 1 FROM export_control.export_deliveries
                WHERE status IN ('pending', 'sending') AND due_at <= now()
                  AND (attempts > 0 OR kind <> 'package' OR created_at < now() - interval '1 minute')
            ) OR EXISTS (
                SELECT 1 FROM export_control.export_requests WHERE status = 'failed' AND NOT failure_announced
            ) AS due
            """
        )
        return bool(rows[0]["due"])

    def announce_failure(self, notices_of: Callable[[FailedRequest], Sequence[Notice]]) -> bool:
        """Write the notices of one failed request, whichever nobody else is at; False when there is none."""
        with self._control.transaction() as connection:
            found = (
                connection.cursor(row_factory=class_row(FailedRequest))
                .execute(
                    """
                    SELECT id::text, requested_by, config, error_type, error_message, created_at
                    FROM export_control.export_requests
                    WHERE status = 'failed' AND NOT failure_announced
                    ORDER BY completed_at LIMIT 1 FOR UPDATE SKIP LOCKED
                    """
                )
                .fetchone()
            )
            if found is None:
                return False
            for notice in notices_of(found):
                connection.execute(
                    """
                    INSERT INTO export_control.export_deliveries (request_id, kind, attempt, method, recipient, message)
                    SELECT id, 'export_failed', attempt, %(method)s, %(recipient)s, %(message)s
                    FROM export_control.export_requests WHERE id = %(id)s ON CONFLICT DO NOTHING
                    """,
                    {
                        "id": found.id,
                        "method": notice.method,
                        "recipient": notice.recipient,
                        "message": Jsonb(notice.message),
                    },
                )
            connection.execute(
                "UPDATE export_control.export_requests SET failure_announced = true WHERE id = %s", (found.id,)
            )
        return True

    def delivered(self, delivery_id: str, *, receipt: Receipt) -> None:
        """Whoever says so: it has happened, even if its sender was taken for dead."""
        self._control.rows(
            """
            UPDATE export_control.export_deliveries
            SET status = 'delivered', delivered_at = now(), receipt = %(receipt)s, error_message = NULL
            WHERE id = %(id)s AND status <> 'delivered'
            """,
            {"id": delivery_id, "receipt": Jsonb(asdict(receipt))},
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
                SELECT kind, method, recipient, status::text, attempts, error_message, receipt, delivered_at
                FROM export_control.export_deliveries WHERE request_id = %(id)s
                ORDER BY created_at, kind, method, recipient
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


def _due(row: dict[str, Any]) -> DueDelivery:
    status = row["request_status"]
    return DueDelivery(
        **{
            **row,
            "kind": DeliveryKind(row["kind"]),
            "request_status": None if status is None else RequestStatus(status),
        }
    )
