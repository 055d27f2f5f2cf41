"""Exports as jobs: ask for one, see it and the others, cancel, retry, convert, delete."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Body, Query, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.idempotency import Answer, once
from export_pipelines.api.orders import RETRY_AFTER_SECONDS, launched, place_order
from export_pipelines.api.paging import DEFAULT_LIMIT, Cursor, Limit, link_next
from export_pipelines.api.paths import JOBS
from export_pipelines.api.payloads import (
    Job,
    JobCreated,
    JobPage,
    JobStatus,
    details_of,
    megabytes,
    status_of,
    summary_of,
)
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import STORED_TEXT, CurrentRequest, IdempotencyKey, Instant
from export_pipelines.api.visibility import read_status, status_in, visible
from export_pipelines.core.access import Action, Role
from export_pipelines.core.configuration import MAX_DESCRIPTION, Configuration
from export_pipelines.core.errors import NotAllowed
from export_pipelines.core.omissions import Omissions
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.publish.removal import remove_objects
from export_pipelines.pipeline.verification.published import published_omissions
from export_pipelines.stores.request_history import HistoryFilter
from export_pipelines.stores.requests import ExportRequest
from export_pipelines.stores.retention import RetentionStore

router = APIRouter(prefix=JOBS, tags=["exports"], responses=ANSWERS)


class Conversion(BaseModel):
    """A finished export in another format."""

    model_config = ConfigDict(extra="forbid")

    foreign_names: ClassVar[Mapping[str, str]] = {"format": "target_format"}

    target_format: str = Field(min_length=1, max_length=40)
    options: dict[str, Any] = Field(default_factory=dict)
    compression: str = Field(default="none", min_length=1, max_length=40)
    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=MAX_DESCRIPTION)


class Again(BaseModel):
    """What a retry needs: nothing, or the password of an encrypted export, which was wiped when it ended."""

    model_config = ConfigDict(extra="forbid")

    password: SecretStr | None = None


class Deleted(BaseModel):
    deleted: bool
    files_removed: int
    space_freed_mb: float


@router.post("", status_code=HTTPStatus.ACCEPTED, summary="Request an export", response_model=JobCreated)
def create_job(
    context: CurrentRequest,
    configuration: Annotated[Configuration, Body()],
    background: BackgroundTasks,
    key: IdempotencyKey = None,
) -> Response:
    """Answers at once; `tracking_url` tells how far it is, `/events` tells it as it happens."""
    return place_order(context, Action.CREATE, configuration, background, key)


@router.post(
    "/{job_id}/convert",
    status_code=HTTPStatus.ACCEPTED,
    summary="Convert an export",
    response_model=JobCreated,
)
def convert_job(
    context: CurrentRequest,
    job_id: UUID,
    conversion: Conversion,
    background: BackgroundTasks,
    key: IdempotencyKey = None,
) -> Response:
    """A new export from what a finished one has read; the source is not asked again."""
    wanted = conversion.model_dump(exclude={"target_format"})
    raw = {**wanted, "convert": str(job_id), "format": conversion.target_format}
    return place_order(context, Action.CONVERT, raw, background, key)


@router.get("", summary="List exports", response_model=JobPage, response_model_exclude_none=False)
def list_jobs(
    context: CurrentRequest,
    response: Response,
    status: RequestStatus | None = None,
    table: Annotated[str | None, Query(max_length=63, pattern=STORED_TEXT)] = None,
    format_: Annotated[str | None, Query(alias="format", max_length=40, pattern=STORED_TEXT)] = None,
    user: Annotated[str | None, Query(max_length=200, pattern=STORED_TEXT)] = None,
    schedule: UUID | None = None,
    created_from: Instant | None = None,
    created_to: Annotated[Instant | None, Query(description="Not included.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> JobPage:
    """Newest first. Members see their own exports, admins all of their tenant."""
    known = context.services.catalog.tables.get(table or "")
    wanted = HistoryFilter(
        status=status,
        table=table,
        module=known.module if known else None,
        format=format_,
        user=user,
        schedule=str(schedule) if schedule else None,
        created_from=created_from,
        created_to=created_to,
    )
    with context.unit_of_work(Action.LIST) as work:
        found, following = work.history.page(wanted, limit=limit, cursor=cursor)
    link_next(context, response, following)
    return JobPage(jobs=[summary_of(request, context.services.base_url) for request in found], next_cursor=following)


@router.get("/{job_id}", summary="Get an export", response_model=Job)
def get_job(context: CurrentRequest, job_id: UUID) -> Job:
    with context.unit_of_work(Action.READ, str(job_id)) as work:
        request = visible(work, job_id)
        files, deliveries = work.deliveries.files_of(request.id), work.deliveries.of_request(request.id)
        events = work.requests.events(request.id)
    base = context.services.base_url
    stated = _left_out(request, context.services.store)
    return Job(**status_of(request, files, deliveries, base), **details_of(request, events, base, stated=stated))


def _left_out(request: ExportRequest, store: ObjectStore) -> Omissions | str:
    if request.status is RequestStatus.COMPLETED:
        return published_omissions(request, store)
    return "The export is not completed."


@router.get("/{job_id}/status", summary="Get status", response_model=JobStatus)
def get_status(context: CurrentRequest, job_id: UUID, response: Response) -> JobStatus:
    status = read_status(context, job_id)
    if status.status in (RequestStatus.QUEUED, RequestStatus.PROCESSING):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return status


@router.post("/{job_id}/cancel", status_code=HTTPStatus.ACCEPTED, summary="Cancel an export", response_model=JobStatus)
def cancel_job(context: CurrentRequest, job_id: UUID, key: IdempotencyKey = None) -> Response:
    """At once when queued; a run stops with its next heartbeat and publishes nothing. 409 when it has ended."""
    with context.unit_of_work(Action.CANCEL, str(job_id)) as work:

        def cancel() -> Answer:
            work.requests.request_cancel(visible(work, job_id).id)
            return Answer(status=HTTPStatus.ACCEPTED, body=status_in(context, work, job_id))

        return once(context, work, key, cancel)


@router.post("/{job_id}/retry", status_code=HTTPStatus.ACCEPTED, summary="Retry an export", response_model=JobStatus)
def retry_job(
    context: CurrentRequest,
    job_id: UUID,
    background: BackgroundTasks,
    again: Again | None = None,
    key: IdempotencyKey = None,
) -> Response:
    """A failed or cancelled export is queued again. 409 in any other state."""
    queued: list[ExportRequest] = []
    with context.unit_of_work(Action.RETRY, str(job_id)) as work:

        def retry() -> Answer:
            request = visible(work, job_id)
            if request.requested_role == Role.ADMIN and context.caller.role is not Role.ADMIN:
                raise NotAllowed("was asked for as an admin; an admin may retry it", field="job_id")
            work.requests.retry(request.id, password=again.password if again else None)
            queued.append(visible(work, job_id))
            work.requests.asked(queued)
            return Answer(status=HTTPStatus.ACCEPTED, body=status_in(context, work, job_id))

        response = once(context, work, key, retry)
    return launched(context, queued, response, background)


@router.delete("/{job_id}", summary="Delete an export", response_model=Deleted)
def delete_job(context: CurrentRequest, job_id: UUID) -> Deleted:
    """Package, kept rows and links are gone; the history keeps a line for auditors. 409 while it is at work.

    While a conversion reads the export's rows, only the links end at once; the nightly cleanup removes the files.
    """
    with context.unit_of_work(Action.DELETE, str(job_id)) as work:
        request = work.requests.mark_deleted(visible(work, job_id).id)
        being_read = RetentionStore(work.control).is_being_read(request.id)
    if being_read:
        return Deleted(deleted=True, files_removed=0, space_freed_mb=0)
    removed = remove_objects(request, context.services.store)
    with context.transaction() as work:
        work.requests.objects_removed(request.id)
    return Deleted(deleted=True, files_removed=removed.items, space_freed_mb=megabytes(removed.size_bytes))
