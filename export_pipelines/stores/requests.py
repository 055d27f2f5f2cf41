"""The request table: orders in, statuses and progress out. All SQL about requests is here.

Every change names the state it expects; a change that finds another state does nothing and says so. That is what
makes late, repeated and competing callers harmless.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import Any, Self
from uuid import UUID

from psycopg.types.json import Jsonb

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import EmailDelivery, Package
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import ControlDatabase

BACKOFF_SECONDS = 15  # doubled with each attempt


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One row of ``export_requests``."""

    id: str
    tenant_id: str
    requested_by: str | None
    config: dict[str, Any]
    status: RequestStatus
    launched_by: str
    priority: int
    attempt: int
    max_attempts: int
    not_before: dt.datetime
    run_id: str | None
    percentage: float
    rows_processed: int
    total_rows: int | None
    current_table: str | None
    files_created: int
    heartbeat_at: dt.datetime | None
    cancel_requested: bool
    error_type: str | None
    error_message: str | None
    package_prefix: str | None
    package_rows: int | None
    package_bytes: int | None
    manifest_sha256: str | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    completed_at: dt.datetime | None
    expires_at: dt.datetime | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        named = {field.name: row[field.name] for field in fields(cls)}
        return cls(
            **{**named, "id": str(row["id"]), "status": RequestStatus(row["status"]), "percentage": float(row["percentage"])}
        )


class RequestStore:
    """Reads and guarded changes of the request table."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control

    # Orders ---------------------------------------------------------------------------------------------------------

    def insert(
        self,
        *,
        tenant_id: str,
        config: dict[str, Any],
        requested_by: str | None = None,
        launched_by: str = "sensor",
        idempotency_key: str | None = None,
    ) -> str:
        """A new queued request; its id. The same idempotency key of a tenant answers the first id again."""
        values = {
            "tenant_id": tenant_id,
            "config": Jsonb(config),
            "requested_by": requested_by,
            "launched_by": launched_by,
            "idempotency_key": idempotency_key,
        }
        rows = self._control.rows(
            """
            INSERT INTO export_control.export_requests (tenant_id, config, requested_by, launched_by, idempotency_key)
            VALUES (%(tenant_id)s, %(config)s, %(requested_by)s, %(launched_by)s, %(idempotency_key)s)
            ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING id
            """,
            values,
        ) or self._control.rows(
            """
            SELECT id FROM export_control.export_requests
            WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s
            """,
            {"tenant_id": tenant_id, "idempotency_key": idempotency_key},
        )
        return str(rows[0]["id"])

    def get(self, request_id: str) -> ExportRequest:
        """`RequestRejected` when there is no such request."""
        try:
            UUID(request_id)
        except ValueError as error:
            raise RequestRejected(f"{request_id!r} is not a request id", field="request_id") from error
        rows = self._control.rows("SELECT * FROM export_control.export_requests WHERE id = %(id)s", {"id": request_id})
        if not rows:
            raise RequestRejected(f"there is no request {request_id}", field="request_id")
        return ExportRequest.of(rows[0])

    def list(
        self, *, tenant_id: str | None = None, status: RequestStatus | None = None, limit: int = 50
    ) -> list[ExportRequest]:
        """Newest first."""
        rows = self._control.rows(
            """
            SELECT * FROM export_control.export_requests
            WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
              AND (%(status)s::text IS NULL OR status = %(status)s::export_control.request_status)
            ORDER BY created_at DESC, id LIMIT %(limit)s
            """,
            {"tenant_id": tenant_id, "status": status.value if status else None, "limit": limit},
        )
        return [ExportRequest.of(row) for row in rows]

    def launchable(self, limit: int = 100) -> list[ExportRequest]:
        """Queued requests that are due, the ones the sensor asks runs for; highest priority, then oldest."""
        rows = self._control.rows(
            """
            SELECT * FROM export_control.export_requests
            WHERE status = 'queued' AND launched_by = 'sensor' AND not_before <= now()
            ORDER BY priority DESC, created_at, id LIMIT %(limit)s
            """,
            {"limit": limit},
        )
        return [ExportRequest.of(row) for row in rows]

    def events(self, request_id: str) -> list[dict[str, Any]]:
        """Transitions, oldest first."""
        return list(
            self._control.rows(
                """
                SELECT at, old_status::text, new_status::text, attempt, run_id, detail
                FROM export_control.export_request_events WHERE request_id = %(id)s ORDER BY id
                """,
                {"id": request_id},
            )
        )

    # A run's life ---------------------------------------------------------------------------------------------------

    def claim(self, request_id: str, *, attempt: int, run_id: str, parent_run_id: str | None = None) -> bool:
        """Give the request to a run. False when another run has it, or it is no longer queued for this attempt.

        The run that already holds it, and a re-execution of that run, may claim again.
        """
        return self._changed(
            """
            UPDATE export_control.export_requests
            SET status = 'processing', run_id = %(run_id)s, started_at = now(), heartbeat_at = now(),
                error_type = NULL, error_message = NULL, percentage = 0, rows_processed = 0, files_created = 0
            WHERE id = %(id)s AND attempt = %(attempt)s AND NOT cancel_requested
              AND (status = 'queued' OR (status = 'processing' AND run_id IN (%(run_id)s, %(parent_run_id)s)))
            RETURNING id
            """,
            id=request_id, attempt=attempt, run_id=run_id, parent_run_id=parent_run_id,
        )

    def reopen(self, request_id: str, *, parent_run_id: str | None) -> bool:
        """A re-execution from Dagster of a run that failed: queue the request once more."""
        return parent_run_id is not None and self._changed(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, error_type = NULL, cancel_requested = false
            WHERE id = %(id)s AND status IN ('failed', 'cancelled') AND run_id = %(parent_run_id)s
            RETURNING id
            """,
            id=request_id, parent_run_id=parent_run_id,
        )

    def record_progress(self, request_id: str, *, run_id: str, **progress: Any) -> bool | None:
        """Heartbeat and figures. None when the run no longer holds the request, else whether it should stop."""
        rows = self._control.rows(
            """
            UPDATE export_control.export_requests
            SET heartbeat_at = now(),
                rows_processed = coalesce(%(rows_processed)s, rows_processed),
                total_rows = coalesce(%(total_rows)s, total_rows),
                current_table = coalesce(%(current_table)s, current_table),
                files_created = coalesce(%(files_created)s, files_created),
                percentage = greatest(percentage, coalesce(%(percentage)s, percentage))
            WHERE id = %(id)s AND run_id = %(run_id)s AND status = 'processing'
            RETURNING cancel_requested
            """,
            {
                "id": request_id,
                "run_id": run_id,
                **{
                    name: progress.get(name)
                    for name in ("rows_processed", "total_rows", "current_table", "files_created", "percentage")
                },
            },
        )
        return rows[0]["cancel_requested"] if rows else None

    def complete(
        self, request_id: str, *, run_id: str, package: Package, emails: tuple[EmailDelivery, ...], keep: dt.timedelta
    ) -> bool:
        """The package is public: status, files and outbox in one transaction. False when the run lost the request."""
        with self._control.transaction() as connection:
            done = connection.execute(
                """
                UPDATE export_control.export_requests
                SET status = 'completed', completed_at = now(), expires_at = now() + %(keep)s, percentage = 100,
                    heartbeat_at = now(), current_table = NULL, files_created = %(files)s,
                    package_prefix = %(prefix)s, package_rows = %(rows)s, package_bytes = %(bytes)s,
                    manifest_sha256 = %(manifest)s
                WHERE id = %(id)s AND run_id = %(run_id)s AND status = 'processing'
                RETURNING id
                """,
                {
                    "id": request_id, "run_id": run_id, "keep": keep, "prefix": package.prefix, "rows": package.rows,
                    "bytes": package.size_bytes, "manifest": package.manifest_sha256, "files": len(package.files),
                },
            ).fetchone()
            if done is None:
                return False
            for position, file in enumerate(package.files):
                connection.execute(
                    """
                    INSERT INTO export_control.export_files
                        (request_id, position, key, path, media_type, rows, size_bytes, sha256)
                    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
                    """,
                    (request_id, position, file.key, file.path, file.media_type, file.rows, file.size_bytes, file.sha256),
                )
            for email in emails:
                for recipient in email.recipients:
                    connection.execute(
                        """
                        INSERT INTO export_control.export_deliveries (request_id, method, recipient, message)
                        VALUES (%s, 'email', %s, %s) ON CONFLICT DO NOTHING
                        """,
                        (request_id, recipient, Jsonb({"subject": email.subject, "body": email.body})),
                    )
        return True

    def fail(self, request_id: str, *, run_id: str | None, error_type: str, message: str) -> bool:
        """End as failed; only the holder may, or anyone while the request is still queued without one."""
        return self._end(request_id, run_id, "failed", error_type, message)

    def end_cancelled(self, request_id: str, *, run_id: str | None, message: str) -> bool:
        """End as cancelled; same rule as `fail`."""
        return self._end(request_id, run_id, "cancelled", "cancelled", message)

    def _end(self, request_id: str, run_id: str | None, status: str, error_type: str, message: str) -> bool:
        return self._changed(
            """
            UPDATE export_control.export_requests
            SET status = %(status)s::export_control.request_status, completed_at = now(), current_table = NULL,
                error_type = %(error_type)s, error_message = left(%(message)s, 4000)
            WHERE id = %(id)s AND ((status = 'processing' AND run_id = %(run_id)s) OR status = 'queued')
            RETURNING id
            """,
            id=request_id, run_id=run_id, status=status, error_type=error_type, message=message,
        )

    def requeue(self, request_id: str, *, attempt: int, error_type: str, message: str) -> bool:
        """Another attempt after a pause that doubles each time; False when attempts are used up."""
        return self._changed(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, run_id = NULL, current_table = NULL,
                not_before = now() + make_interval(secs => %(pause)s * power(2, attempt - 1)),
                error_type = %(error_type)s, error_message = left(%(message)s, 4000)
            WHERE id = %(id)s AND attempt = %(attempt)s AND attempt < max_attempts AND launched_by = 'sensor'
              AND status IN ('processing', 'queued')
            RETURNING id
            """,
            id=request_id, attempt=attempt, pause=BACKOFF_SECONDS, error_type=error_type, message=message,
        )

    # People ---------------------------------------------------------------------------------------------------------

    def request_cancel(self, request_id: str) -> RequestStatus:
        """Cancel now when queued; ask the run to stop when processing. The status after it."""
        self.get(request_id)
        rows = self._control.rows(
            """
            UPDATE export_control.export_requests
            SET status = CASE status WHEN 'queued' THEN 'cancelled' ELSE status END,
                completed_at = CASE status WHEN 'queued' THEN now() ELSE completed_at END,
                cancel_requested = true
            WHERE id = %(id)s AND status IN ('queued', 'processing')
            RETURNING status::text
            """,
            {"id": request_id},
        )
        if not rows:
            raise RequestRejected(f"is already {self.get(request_id).status}; nothing to cancel", field="request_id")
        return RequestStatus(rows[0]["status"])

    def retry(self, request_id: str) -> int:
        """Queue a failed or cancelled request again, for the sensor; the new attempt's number."""
        rows = self._control.rows(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, max_attempts = greatest(max_attempts, attempt + 1),
                run_id = NULL, cancel_requested = false, launched_by = 'sensor', not_before = now(),
                error_type = NULL, error_message = NULL, completed_at = NULL
            WHERE id = %(id)s AND status IN ('failed', 'cancelled')
            RETURNING attempt
            """,
            {"id": request_id},
        )
        if not rows:
            raise RequestRejected(
                f"is {self.get(request_id).status}; only failed or cancelled requests can be retried", field="request_id"
            )
        return int(rows[0]["attempt"])

    def silent(self, *, older_than: dt.timedelta) -> list[ExportRequest]:
        """Processing requests whose heartbeat stopped, and queued ones that have waited that long for their run."""
        rows = self._control.rows(
            """
            SELECT * FROM export_control.export_requests
            WHERE (status = 'processing' AND heartbeat_at < now() - %(older_than)s)
               OR (status = 'queued' AND greatest(created_at, not_before) < now() - %(older_than)s)
            ORDER BY created_at LIMIT 200
            """,
            {"older_than": older_than},
        )
        return [ExportRequest.of(row) for row in rows]

    def _changed(self, query: str, **values: Any) -> bool:
        return bool(self._control.rows(query, values))
