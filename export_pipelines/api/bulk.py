"""Bulk exports: whole tables or the account of the service, as batches of jobs."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, Field

from export_pipelines.api.idempotency import Answer
from export_pipelines.api.orders import RETRY_AFTER_SECONDS, accepted, insert_estimated, place_orders
from export_pipelines.api.payloads import (
    JobSummary,
    LeftOut,
    Progress,
    left_out_of,
    note_on_total,
    summary_of,
    total_is_estimated,
)
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, UnitOfWork
from export_pipelines.core.access import Action
from export_pipelines.core.bulk import BulkOrder
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.planning.orders import EstimatedOrder
from export_pipelines.stores.batches import Batch, BatchStore
from export_pipelines.stores.requests import ExportRequest

BATCHES = "/api/v1/exports/batches"
_GB = 1_000_000_000
router = APIRouter(prefix="/api/v1/exports", tags=["bulk"], responses=ANSWERS)


class BulkCreated(BaseModel):
    batch_id: str
    name: str = Field(description="Of each job: as given, or what kind of export it is; also in file names.")
    job_ids: list[str] = Field(description="One for each format asked for.")
    total_tables: int
    estimated_total_size_gb: float | None = Field(description="Of all jobs; 1 GB is 1,000,000,000 bytes.")
    tracking_url: str
    left_out: LeftOut | None = Field(
        description="What each job will leave out, as estimated; None where the source was not asked."
    )


class BatchOut(BaseModel):
    """A bulk order with its jobs."""

    batch_id: str
    export_type: str
    status: RequestStatus = Field(description="processing while any job waits or runs, failed when one has failed.")
    progress: Progress
    total_tables: int
    requested_by: str | None
    created_at: dt.datetime
    jobs: list[JobSummary]


@router.post("/bulk", status_code=HTTPStatus.ACCEPTED, summary="Request a bulk export", response_model=BulkCreated)
def create_bulk(
    context: CurrentRequest, wanted: BulkOrder, background: BackgroundTasks, key: IdempotencyKey = None
) -> Response:
    """For admins. Each job reads its tables in a snapshot of its own; all of them count once against the limit."""

    def insert(work: UnitOfWork, orders: Sequence[EstimatedOrder]) -> tuple[Sequence[ExportRequest], Answer]:
        total_tables = len(orders[0].planned.plan.selections)
        batch_id = BatchStore(work.control).insert(
            tenant_id=context.tenant_id,
            requested_by=context.caller.name,
            export_type=wanted.export_type,
            total_tables=total_tables,
        )
        requests = [insert_estimated(work, order, batch_id=batch_id) for order in orders]
        work.target = batch_id
        work.detail.update(export_type=wanted.export_type, jobs=[request.id for request in requests])
        estimates = [order.estimate for order in orders if order.estimate]
        sizes = [estimate.size_bytes for estimate in estimates]
        created = BulkCreated(
            batch_id=batch_id,
            name=orders[0].planned.plan.name,
            job_ids=[request.id for request in requests],
            total_tables=total_tables,
            estimated_total_size_gb=round(sum(sizes) / _GB, 9) if len(sizes) == len(orders) else None,
            tracking_url=f"{context.services.base_url}{BATCHES}/{batch_id}",
            left_out=left_out_of(estimates[0].omissions) if estimates else None,
        )
        return requests, accepted(created, created.tracking_url)

    return place_orders(context, Action.BULK, wanted.configurations(), background, key, insert)


@router.get("/batches/{batch_id}", summary="Get status of a bulk export", response_model=BatchOut)
def get_batch(context: CurrentRequest, batch_id: UUID, response: Response) -> BatchOut:
    with context.unit_of_work(Action.SEE_BATCH, str(batch_id)) as work:
        batch = BatchStore(work.control).get(str(batch_id))
    if batch.status in (RequestStatus.QUEUED, RequestStatus.PROCESSING):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return _payload(batch, context.services.base_url)


def _payload(batch: Batch, base: str) -> BatchOut:
    totals = [request.total_rows for request in batch.requests]
    return BatchOut(
        batch_id=batch.id,
        export_type=batch.export_type,
        status=batch.status,
        progress=Progress(
            percentage=batch.percentage,
            rows_processed=sum(request.rows_processed for request in batch.requests),
            total_rows=None if None in totals else sum(total or 0 for total in totals),
            total_rows_estimated=any(total_is_estimated(request) for request in batch.requests),
            note=next((note for request in batch.requests if (note := note_on_total(request))), None),
            current_table=next((request.current_table for request in batch.requests if request.current_table), None),
            files_created=sum(request.files_created for request in batch.requests),
        ),
        total_tables=batch.total_tables,
        requested_by=batch.requested_by,
        created_at=batch.created_at,
        jobs=[summary_of(request, base) for request in batch.requests],
    )
