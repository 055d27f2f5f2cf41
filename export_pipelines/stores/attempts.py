"""What a run may change in the request it holds: take it, report, complete it, end it or hand it back.

Every change names the attempt or the run it expects; a change that finds another state does nothing and says so.
That is what makes late, repeated and competing callers harmless.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from psycopg.types.json import Jsonb

from export_pipelines.core.errors import Unavailable
from export_pipelines.core.model import Package, PlannedDelivery
from export_pipelines.stores.control import Control

BACKOFF_SECONDS = 15  # doubled with each attempt
LONGEST_PAUSE_SECONDS = 300  # of one that waits for an outage to end; that is noticed sooner (`release`)
OUTAGE_DEADLINE = dt.timedelta(hours=4)
_OUTAGES, _LOST_RUNS = (
    10_000,
    5,
)  # attempts that may meet one: the deadline ends it, unless runs vanish with the service

# The change is meant for this attempt, and no other run has it meanwhile.
_OF_ATTEMPT = """
    id = %(id)s AND attempt = %(attempt)s
    AND (status = 'queued' OR (status = 'processing' AND run_id = %(run_id)s))
"""
_PAUSE = "make_interval(secs => least(%(first)s * power(2, least(outages, 10)), %(longest)s))"
_INSTANT = "to_char(({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')"
_SLACK = dt.timedelta(seconds=30)  # a run and the look after it need not end in the same second


class Attempts:
    """Guarded changes of one attempt at one request."""

    def __init__(self, control: Control, *, outage_deadline: dt.timedelta = OUTAGE_DEADLINE) -> None:
        self._control = control
        self._outage_deadline = outage_deadline

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
            id=request_id,
            attempt=attempt,
            run_id=run_id,
            parent_run_id=parent_run_id,
        )

    def reopen(self, request_id: str, *, parent_run_id: str | None) -> bool:
        """A re-execution from Dagster of a run that failed: queue the request once more."""
        return parent_run_id is not None and self._changed(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, run_id = NULL, asked_at = now(), cancel_requested = false,
                error_type = NULL, error_message = NULL, completed_at = NULL, unavailable_since = NULL, outages = 0
            WHERE id = %(id)s AND status IN ('failed', 'cancelled') AND run_id = %(parent_run_id)s
            RETURNING id
            """,
            id=request_id,
            parent_run_id=parent_run_id,
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
        self,
        request_id: str,
        *,
        run_id: str,
        package: Package,
        deliveries: tuple[PlannedDelivery, ...],
        keep: dt.timedelta,
    ) -> bool:
        """The package is public: status, files and outbox in one transaction.

        False when the run lost the request, or somebody was told meanwhile that it is cancelled.
        """
        with self._control.transaction() as connection:
            done = connection.execute(
                """
                UPDATE export_control.export_requests
                SET status = 'completed', completed_at = now(), expires_at = now() + %(keep)s, percentage = 100,
                    heartbeat_at = now(), current_table = NULL, files_created = %(files)s,
                    package_prefix = %(prefix)s, package_rows = %(rows)s, package_bytes = %(bytes)s,
                    manifest_sha256 = %(manifest)s
                WHERE id = %(id)s AND run_id = %(run_id)s AND status = 'processing' AND NOT cancel_requested
                RETURNING id
                """,
                {
                    "id": request_id,
                    "run_id": run_id,
                    "keep": keep,
                    "prefix": package.prefix,
                    "rows": package.rows,
                    "bytes": package.size_bytes,
                    "manifest": package.manifest_sha256,
                    "files": len(package.files),
                },
            ).fetchone()
            if done is None:
                return False
            for position, file in enumerate(package.files):
                connection.execute(
                    """
                    INSERT INTO export_control.export_files
                        (request_id, position, key, path, media_type, rows, size_bytes, sha256, crc32)
                    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
                    """,
                    (
                        request_id,
                        position,
                        file.key,
                        file.path,
                        file.media_type,
                        file.rows,
                        file.size_bytes,
                        file.sha256,
                        file.crc32,
                    ),
                )
            for delivery in deliveries:
                connection.execute(
                    """
                    INSERT INTO export_control.export_deliveries (request_id, method, recipient, message)
                    VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING
                    """,
                    (request_id, delivery.method, delivery.recipient, Jsonb(delivery.options)),
                )
        return True

    def fail(self, request_id: str, *, attempt: int, run_id: str | None, error_type: str, message: str) -> bool:
        """End an attempt as failed; only its run may, or anyone while it is still queued."""
        return self._end("failed", request_id, attempt=attempt, run_id=run_id, error_type=error_type, message=message)

    def end_cancelled(self, request_id: str, *, attempt: int, run_id: str | None, message: str) -> bool:
        """End an attempt as cancelled; same rule as `fail`."""
        return self._end(
            "cancelled", request_id, attempt=attempt, run_id=run_id, error_type="cancelled", message=message
        )

    def _end(
        self, status: str, request_id: str, *, attempt: int, run_id: str | None, error_type: str, message: str
    ) -> bool:
        return self._changed(
            f"""
            UPDATE export_control.export_requests
            SET status = %(status)s::export_control.request_status, completed_at = now(), current_table = NULL,
                error_type = %(error_type)s, error_message = left(%(message)s, 4000)
            WHERE {_OF_ATTEMPT}
            RETURNING id
            """,  # noqa: S608 - a constant of this module
            id=request_id,
            attempt=attempt,
            run_id=run_id,
            status=status,
            error_type=error_type,
            message=message,
        )

    def requeue(self, request_id: str, *, attempt: int, run_id: str | None, error_type: str, message: str) -> bool:
        """Another attempt after a pause that doubles each time; False when attempts are used up.

        For faults of the export itself; `postpone` is for those of what it needs.
        """
        return self._changed(
            f"""
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, run_id = NULL, asked_at = NULL, current_table = NULL,
                not_before = now() + make_interval(secs => %(pause)s * power(2, attempt - 1 - outages)),
                unavailable_since = NULL,
                error_type = %(error_type)s, error_message = left(%(message)s, 4000)
            WHERE {_OF_ATTEMPT} AND attempt < max_attempts AND launched_by = 'sensor' AND NOT cancel_requested
            RETURNING id
            """,  # noqa: S608 - a constant of this module
            id=request_id,
            attempt=attempt,
            run_id=run_id,
            pause=BACKOFF_SECONDS,
            error_type=error_type,
            message=message,
        )

    def postpone(
        self, request_id: str, *, attempt: int, run_id: str | None, error_type: str, message: str, lost: bool = False
    ) -> bool:
        """Something that the export needs does not answer: try again later, with one more attempt than before.

        The pause doubles up to `LONGEST_PAUSE_SECONDS`; the message says when it is over. False when it has lasted
        until the deadline. ``lost``: the run vanished together with the service, which may be the export's own doing,
        so that happens a few times only.
        """
        return self._changed(
            f"""
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, max_attempts = max_attempts + 1, run_id = NULL,
                asked_at = NULL, current_table = NULL, outages = outages + 1,
                unavailable_since = coalesce(unavailable_since, now()),
                not_before = now() + {_PAUSE},
                error_type = %(error_type)s,
                error_message = left(%(message)s, 3800) || format(
                    '; this uses up no attempt: the next one is due at %%s, the last one before %%s',
                    {_INSTANT.format(f"now() + {_PAUSE}")},
                    {_INSTANT.format("coalesce(unavailable_since, now()) + %(deadline)s")})
            WHERE {_OF_ATTEMPT} AND launched_by = 'sensor' AND NOT cancel_requested AND outages < %(most)s
              AND coalesce(unavailable_since, now()) + %(deadline)s > now()
            RETURNING id
            """,  # noqa: S608 - constants of this module
            id=request_id,
            attempt=attempt,
            run_id=run_id,
            first=BACKOFF_SECONDS,
            longest=LONGEST_PAUSE_SECONDS,
            deadline=self._outage_deadline,
            most=_LOST_RUNS if lost else _OUTAGES,
            error_type=error_type,
            message=message,
        )

    def lost_in_outage(self, request_id: str) -> bool:
        """Whether a silent run fell silent while the control database was restarted, or nobody looked after runs."""
        rows = self._control.rows(
            """
            SELECT r.heartbeat_at < pg_postmaster_start_time() OR coalesce(
                       r.heartbeat_at BETWEEN s.silent_from - %(slack)s AND s.silent_until, false) AS lost
            FROM export_control.export_requests AS r LEFT JOIN export_control.service_state AS s ON true
            WHERE r.id = %(id)s AND r.status = 'processing'
            """,
            {"id": request_id, "slack": _SLACK},
        )
        return bool(rows and rows[0]["lost"])

    def awaiting(self) -> int:
        """Requests that wait for an outage to end."""
        rows = self._control.rows(
            """
            SELECT count(*) AS waiting FROM export_control.export_requests
            WHERE status = 'queued' AND unavailable_since IS NOT NULL AND not_before > now()
            """
        )
        return int(rows[0]["waiting"])

    def release(self) -> int:
        """What they wait for answers again: all are due at once, so that they go on in their order. How many."""
        return len(
            self._control.rows(
                """
                UPDATE export_control.export_requests SET not_before = now()
                WHERE status = 'queued' AND unavailable_since IS NOT NULL AND error_type = %(kind)s
                  AND not_before > now()
                RETURNING id
                """,
                {"kind": Unavailable.error_type},
            )
        )

    def give_back(self, request_id: str, *, run_id: str, message: str) -> bool:
        """The service stops under a run: queue the request again at once. That is no fault of the request, so it has
        one more attempt than before."""
        return self._changed(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, max_attempts = max_attempts + 1, run_id = NULL,
                asked_at = NULL, current_table = NULL, not_before = now(),
                error_type = 'interrupted', error_message = left(%(message)s, 4000)
            WHERE id = %(id)s AND run_id = %(run_id)s AND status = 'processing' AND launched_by = 'sensor'
              AND NOT cancel_requested
            RETURNING id
            """,
            id=request_id,
            run_id=run_id,
            message=message,
        )

    def _changed(self, query: str, **values: Any) -> bool:
        return bool(self._control.rows(query, values))
