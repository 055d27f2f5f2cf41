"""Which export a caller may see, and in which state it has to be for what is asked of it."""

from __future__ import annotations

import datetime as dt
from uuid import UUID

from export_pipelines.api.payloads import JobStatus, status_of
from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.access import Action
from export_pipelines.core.errors import Conflict, NotFound
from export_pipelines.core.status import TERMINAL, RequestStatus
from export_pipelines.stores.requests import ExportRequest


def visible(work: UnitOfWork, job_id: UUID) -> ExportRequest:
    """The request, if the caller may see it. `NotFound` for foreign, unknown and deleted ones alike."""
    request = work.requests.get(str(job_id))
    if request.deleted_at is not None:
        raise NotFound(f"there is no request {job_id}", field="job_id")
    return request


def completed(work: UnitOfWork, job_id: UUID) -> ExportRequest:
    """An export that has files and may still be read: the sweep may come a while after it has expired."""
    export = visible(work, job_id)
    if export.status is not RequestStatus.COMPLETED:
        raise Conflict(f"is {export.status}; only a completed export has files", field="job_id")
    if export.expires_at is not None and export.expires_at <= dt.datetime.now(dt.UTC):
        raise Conflict(f"has expired at {export.expires_at:%Y-%m-%d %H:%M} UTC; export again", field="job_id")
    return export


def read_status(context: RequestContext, job_id: UUID) -> JobStatus:
    """What polling and events tell."""
    with context.unit_of_work(Action.READ, str(job_id)) as work:
        return status_in(context, work, job_id)


def status_in(context: RequestContext, work: UnitOfWork, job_id: UUID) -> JobStatus:
    """The same within a transaction that does more."""
    request = visible(work, job_id)
    done = request.status is RequestStatus.COMPLETED
    files = work.deliveries.files_of(request.id) if done else []
    deliveries = work.deliveries.of_request(request.id) if request.status in TERMINAL else []
    return JobStatus(**status_of(request, files, deliveries, context.services.base_url))
