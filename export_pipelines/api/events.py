"""Progress as server-sent events: a `status` event whenever something has changed, until the export has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from export_pipelines.api.calls import Calling
from export_pipelines.api.jobs import read_status
from export_pipelines.api.payloads import JOBS, JobStatus
from export_pipelines.api.problems import ANSWERS
from export_pipelines.core.status import TERMINAL

POLL_SECONDS = 0.5  # progress is written once a second
LONGEST_SECONDS = 600  # then the client connects again, and shows its credential again
router = APIRouter(prefix=JOBS, tags=["exports"], responses=ANSWERS)


def first_status(call: Calling, job_id: UUID) -> JobStatus:
    """Before the stream begins, so that a foreign id is a 404 like elsewhere."""
    return read_status(call, job_id)


@router.get("/{job_id}/events", response_class=EventSourceResponse, summary="Progress as it happens")
async def watch_job(
    call: Calling, job_id: UUID, status: Annotated[JobStatus, Depends(first_status)]
) -> AsyncIterator[ServerSentEvent]:
    """`event: status` with the same body as `/status`. The stream ends with the export; a client that loses it
    connects again, as `EventSource` does by itself.
    """
    ends_at = time.monotonic() + LONGEST_SECONDS
    told = status
    yield ServerSentEvent(data=told, event="status", retry=1000)
    while told.status not in TERMINAL and time.monotonic() < ends_at:
        await asyncio.sleep(POLL_SECONDS)
        status = await run_in_threadpool(read_status, call, job_id)
        if status != told:
            told = status
            yield ServerSentEvent(data=told, event="status")
