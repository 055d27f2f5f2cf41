"""The request table as orderers and operators use it: insert, look, cancel, retry, and what needs a run or a repair.

What a run does with the request it holds is in `export_pipelines.stores.attempts`, what schedules insert in
`export_pipelines.stores.dispatch`; no other module has SQL that changes requests.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from pydantic import SecretStr

from export_pipelines.core.access import Role
from export_pipelines.core.errors import Conflict, NotFound, RequestRejected
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import TenantScope
from export_pipelines.core.packing import check_password
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.attempts import OUTAGE_DEADLINE, Attempts
from export_pipelines.stores.control import Control
from export_pipelines.stores.passwords import is_sealed, sealed_config
from export_pipelines.stores.secrets import SecretBox

WAITING_RUNS_PER_TENANT = 25  # runs asked for ahead of time; the rest of a tenant's backlog stays in the table
ASK_AGAIN_AFTER = dt.timedelta(seconds=30)
_SILENT_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One row of ``export_requests``."""

    id: str
    tenant_id: str
    requested_by: str | None
    requested_role: str | None  # None: the host application or an operator
    config: dict[str, Any]
    status: RequestStatus
    launched_by: str
    priority: int
    attempt: int
    max_attempts: int
    not_before: dt.datetime
    asked_at: dt.datetime | None  # when a run was last asked for
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
    estimated_rows: int | None
    estimated_bytes: int | None
    estimated_seconds: float | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    completed_at: dt.datetime | None
    expires_at: dt.datetime | None
    deleted_at: dt.datetime | None
    schedule_id: str | None  # whose export it is
    scheduled_for: dt.datetime | None  # the fire; None when it was run by hand
    batch_id: str | None = None  # the bulk order that it is part of

    @property
    def scope(self) -> TenantScope:
        """Whose rows it may hold."""
        return TenantScope(tenant_id=self.tenant_id)

    @classmethod
    def of(cls, row: dict[str, Any]) -> Self:
        named = {field.name: row[field.name] for field in fields(cls)}
        return cls(
            **{
                **named,
                "id": str(row["id"]),
                "status": RequestStatus(row["status"]),
                "percentage": float(row["percentage"]),
                "schedule_id": str(row["schedule_id"]) if row["schedule_id"] else None,
                "batch_id": str(row["batch_id"]) if row["batch_id"] else None,
            }
        )


COLUMNS = ", ".join(field.name for field in fields(ExportRequest))  # the API may not read all of a row

Found = list[ExportRequest]  # the store's own `list` hides the type inside the class


def _canonical(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the id that it converts as the table writes ids, to be compared and joined with them."""
    origin = config.get("convert")
    if not isinstance(origin, str):
        return config
    try:
        return {**config, "convert": str(UUID(origin))}
    except ValueError:
        return config  # the plan refuses it


class RequestStore(Attempts):
    """Reads and guarded changes of the request table. Without a box it takes and tells no passwords."""

    def __init__(
        self,
        control: Control,
        secrets: SecretBox | None = None,
        *,
        outage_deadline: dt.timedelta = OUTAGE_DEADLINE,
    ) -> None:
        super().__init__(control, outage_deadline=outage_deadline)
        self._secrets = secrets

    # Orders ---------------------------------------------------------------------------------------------------------

    def insert(
        self,
        *,
        tenant_id: str,
        config: dict[str, Any],
        requested_by: str | None = None,
        requested_role: Role | None = None,
        launched_by: str = "sensor",
        idempotency_key: str | None = None,
        priority: int = 0,
        estimate: Estimate | None = None,
        schedule_id: str | None = None,
        window_end: dt.datetime | None = None,
        batch_id: str | None = None,
    ) -> str:
        """A new queued request; its id. The same idempotency key of a tenant answers the first id again.

        A password in the configuration is sealed; the configuration that is kept only says that there is one.
        `RequestRejected` when that key belongs to another configuration.
        """
        request_id = str(uuid4())
        config, password = sealed_config(_canonical(config))
        values = {
            "id": request_id,
            "sealed": self._sealed(password, request_id),
            "tenant_id": tenant_id,
            "config": Jsonb(config),
            "requested_by": requested_by,
            "requested_role": requested_role,
            "launched_by": launched_by,
            "idempotency_key": idempotency_key,
            "priority": priority,
            "rows": estimate and estimate.rows,
            "bytes": estimate and estimate.size_bytes,
            "seconds": estimate and estimate.seconds,
            "schedule_id": schedule_id,
            "window_end": window_end,
            "batch_id": batch_id,
        }
        rows = self._control.rows(
            """
            INSERT INTO export_control.export_requests
                (id, tenant_id, config, requested_by, requested_role, launched_by, idempotency_key, priority,
                 sealed_secrets, estimated_rows, estimated_bytes, estimated_seconds, schedule_id, window_end, batch_id)
            VALUES (%(id)s, %(tenant_id)s, %(config)s, %(requested_by)s, %(requested_role)s, %(launched_by)s,
                    %(idempotency_key)s, %(priority)s, %(sealed)s, %(rows)s, %(bytes)s,
                    %(seconds)s, %(schedule_id)s, %(window_end)s, %(batch_id)s)
            ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            RETURNING id, true AS same
            """,
            values,
        ) or self._control.rows(
            """
            SELECT id, config = %(config)s AS same FROM export_control.export_requests
            WHERE tenant_id = %(tenant_id)s AND idempotency_key = %(idempotency_key)s
            """,
            values,
        )
        if not rows[0]["same"]:
            raise RequestRejected(
                f"{idempotency_key!r} was used for request {rows[0]['id']} with another configuration; use a new key",
                field="idempotency_key",
            )
        return str(rows[0]["id"])

    def _sealed(self, password: SecretStr | None, request_id: str) -> bytes | None:
        if password is None:
            return None
        if self._secrets is None:
            raise RequestRejected("cannot be sealed here; order where the service's key is", field="EXPORT_SECRET_KEY")
        return self._secrets.seal(password.get_secret_value(), request_id)

    def password_of(self, request_id: str) -> SecretStr:
        """The password of an open request; `RequestRejected` when it was wiped, or sealed with another key."""
        rows = self._control.rows(
            """
            SELECT sealed_secrets, coalesce(secrets_sealed_for, id)::text AS sealed_for
            FROM export_control.export_requests WHERE id = %(id)s
            """,
            {"id": request_id},
        )
        if not rows or rows[0]["sealed_secrets"] is None or self._secrets is None:
            raise RequestRejected(
                "was wiped when the request ended; retry it with `export-pipelines requests retry`, which asks for it",
                field="encryption.password",
            )
        return SecretStr(self._secrets.open(bytes(rows[0]["sealed_secrets"]), rows[0]["sealed_for"]))

    def get(self, request_id: str) -> ExportRequest:
        """`RequestRejected` when there is no such request."""
        try:
            request_id = str(UUID(request_id))
        except ValueError as error:
            raise NotFound(f"{request_id!r} is not a request id", field="request_id") from error
        rows = self._control.rows(
            f"SELECT {COLUMNS} FROM export_control.export_requests WHERE id = %(id)s",  # noqa: S608 - our own names
            {"id": request_id},
        )
        if not rows:
            raise NotFound(f"there is no request {request_id}", field="request_id")
        return ExportRequest.of(rows[0])

    def list(self, *, tenant_id: str | None = None, status: RequestStatus | None = None, limit: int = 50) -> Found:
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

    def launchable(self, limit: int = 100, *, conversions: bool = False) -> Found:
        """Queued requests, of tables or to convert an export, that are due and need a run asked for.

        Never asked ones first, then those asked longest ago: one that waits long cannot keep the next from being
        asked. Tenants take turns and have a window each, so that one tenant's backlog neither delays another's first
        request nor fills Dagster's queue.
        """
        rows = self._control.rows(
            """
            WITH waiting AS (
                SELECT *, row_number() OVER (PARTITION BY tenant_id ORDER BY priority DESC, created_at, id) AS place
                FROM export_control.export_requests
                WHERE status = 'queued' AND launched_by = 'sensor' AND not_before <= now()
                  AND (config ? 'convert') = %(conversions)s
            )
            SELECT * FROM waiting
            WHERE place <= %(window)s AND (asked_at IS NULL OR asked_at < now() - %(again)s)
            ORDER BY asked_at NULLS FIRST, priority DESC, place, created_at, id LIMIT %(limit)s
            """,
            {
                "limit": limit,
                "window": WAITING_RUNS_PER_TENANT,
                "again": ASK_AGAIN_AFTER,
                "conversions": conversions,
            },
        )
        return [ExportRequest.of(row) for row in rows]

    def asked(self, requests: Iterable[ExportRequest]) -> None:
        """Remember that a run was asked for. A hint for the order of asking; the request stays queued."""
        self._control.rows(
            """
            UPDATE export_control.export_requests SET asked_at = now()
            WHERE id = ANY(%(ids)s::uuid[]) AND status = 'queued'
            """,
            {"ids": [request.id for request in requests]},
        )

    def not_asked(self, request_id: str) -> None:
        """Take the remembering back: the asking came to nothing, and the sensor need not wait."""
        self._control.rows(
            "UPDATE export_control.export_requests SET asked_at = NULL WHERE id = %(id)s AND status = 'queued'",
            {"id": request_id},
        )

    def events(self, request_id: str) -> Sequence[dict[str, Any]]:
        """Transitions, oldest first."""
        return self._control.rows(
            """
            SELECT at, old_status::text, new_status::text, attempt, run_id, detail
            FROM export_control.export_request_events WHERE request_id = %(id)s ORDER BY id
            """,
            {"id": request_id},
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
            raise Conflict(f"is already {self.get(request_id).status}; nothing to cancel", field="request_id")
        return RequestStatus(rows[0]["status"])

    def retry(self, request_id: str, *, password: SecretStr | None = None) -> int:
        """Queue a failed or cancelled request again, for the sensor; the new attempt's number.

        One that is encrypted with a password needs it again: it was wiped when the request ended.
        """
        if not is_sealed(self.get(request_id).config):
            password = None
        elif password is None:
            raise RequestRejected(
                "was wiped when the request ended; give it again: --password-file, EXPORT_PASSWORD, or at a terminal",
                field="encryption.password",
            )
        else:
            check_password(password.get_secret_value())
        rows = self._control.rows(
            """
            UPDATE export_control.export_requests
            SET status = 'queued', attempt = attempt + 1, max_attempts = greatest(max_attempts, attempt + 1),
                run_id = NULL, asked_at = NULL, cancel_requested = false, launched_by = 'sensor', not_before = now(),
                error_type = NULL, error_message = NULL, completed_at = NULL, unavailable_since = NULL, outages = 0,
                sealed_secrets = %(sealed)s
            WHERE id = %(id)s AND status IN ('failed', 'cancelled') AND deleted_at IS NULL
            RETURNING attempt
            """,
            {"id": request_id, "sealed": self._sealed(password, request_id)},
        )
        if not rows:
            raise Conflict(
                f"is {self.get(request_id).status}; only failed or cancelled requests can be retried",
                field="request_id",
            )
        return int(rows[0]["attempt"])

    def mark_deleted(self, request_id: str) -> ExportRequest:
        """Gone for people from now on; its links stop working. `Conflict` while a run could still publish it."""
        rows = self._control.rows(
            f"""
            UPDATE export_control.export_requests
            SET status = CASE status WHEN 'completed' THEN 'expired' ELSE status END, deleted_at = now()
            WHERE id = %(id)s AND status NOT IN ('queued', 'processing') AND deleted_at IS NULL
            RETURNING {COLUMNS}
            """,  # noqa: S608 - our own names
            {"id": request_id},
        )
        if not rows:
            raise Conflict(f"is {self.get(request_id).status}; cancel it first", field="request_id")
        return ExportRequest.of(rows[0])

    def objects_removed(self, request_id: str) -> None:
        """Remember that nothing of it is left in the object store."""
        self._control.rows(
            "UPDATE export_control.export_requests SET objects_removed_at = now() WHERE id = %(id)s",
            {"id": request_id},
        )

    def silent(self, *, older_than: dt.timedelta) -> Found:
        """Processing requests whose heartbeat stopped, and queued ones whose command line never began.

        Other queued requests are not silent, they wait: `launchable` brings them up again and again.
        """
        rows = self._control.rows(
            """
            (SELECT * FROM export_control.export_requests
             WHERE status = 'processing' AND heartbeat_at < now() - %(older_than)s
             ORDER BY heartbeat_at LIMIT %(limit)s)
            UNION ALL
            (SELECT * FROM export_control.export_requests
             WHERE status = 'queued' AND launched_by = 'cli' AND created_at < now() - %(older_than)s
             ORDER BY created_at LIMIT %(limit)s)
            """,
            {"older_than": older_than, "limit": _SILENT_AT_ONCE},
        )
        return [ExportRequest.of(row) for row in rows]
