"""Bulk orders: which requests belong together, and how far all of them are."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from uuid import UUID, uuid4

from export_pipelines.core.errors import NotFound
from export_pipelines.core.status import RequestStatus, status_of_all
from export_pipelines.stores.control import Control
from export_pipelines.stores.requests import COLUMNS, ExportRequest


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One bulk order with its requests, oldest first."""

    id: str
    tenant_id: str
    requested_by: str | None
    export_type: str
    total_tables: int
    created_at: dt.datetime
    requests: tuple[ExportRequest, ...]

    @property
    def status(self) -> RequestStatus:
        return status_of_all(request.status for request in self.requests)

    @property
    def percentage(self) -> float:
        """Of all requests alike, whatever their size: nobody knows that beforehand."""
        shares = [request.percentage for request in self.requests]
        return round(sum(shares) / len(shares), 2) if shares else 0.0


class BatchStore:
    """The table ``export_batches``."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def insert(self, *, tenant_id: str, requested_by: str | None, export_type: str, total_tables: int) -> str:
        """A new batch without requests; its id. In one transaction with the requests that join it."""
        batch_id = str(uuid4())
        self._control.rows(
            """
            INSERT INTO export_control.export_batches (id, tenant_id, requested_by, export_type, total_tables)
            VALUES (%(id)s, %(tenant_id)s, %(requested_by)s, %(export_type)s, %(total_tables)s)
            """,
            {
                "id": batch_id,
                "tenant_id": tenant_id,
                "requested_by": requested_by,
                "export_type": export_type,
                "total_tables": total_tables,
            },
        )
        return batch_id

    def get(self, batch_id: str) -> Batch:
        """`NotFound` for a batch that is not there, or not for whoever asks. Deleted requests still count."""
        try:
            UUID(batch_id)
        except ValueError as error:
            raise NotFound(f"{batch_id!r} is not the id of a batch", field="batch_id") from error
        rows = self._control.rows(
            """
            SELECT id::text, tenant_id, requested_by, export_type, total_tables, created_at
            FROM export_control.export_batches WHERE id = %(id)s
            """,
            {"id": batch_id},
        )
        if not rows:
            raise NotFound(f"there is no batch {batch_id}", field="batch_id")
        members = self._control.rows(
            f"SELECT {COLUMNS} FROM export_control.export_requests WHERE batch_id = %(id)s ORDER BY created_at, id",  # noqa: S608 - our own names
            {"id": batch_id},
        )
        return Batch(**rows[0], requests=tuple(map(ExportRequest.of, members)))
