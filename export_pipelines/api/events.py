"""Progress as server-sent events: a `status` event whenever something has changed, until the export has ended."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, cast
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from export_pipelines.api.paths import JOBS
from export_pipelines.api.payloads import JobStatus
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, RequestContext
from export_pipelines.api.visibility import read_status
from export_pipelines.core.errors import NotFound, TooMany, Unavailable
from export_pipelines.core.status import TERMINAL
from export_pipelines.stores.rate_limits import subject_of

POLL_SECONDS = 0.5  # progress is written once a second
POLLS_A_SECOND = 60  # of this process, whoever watches: with many, each is told less often
POLLS_AT_ONCE = 2  # threads and connections that watching may take from the other calls
RETRY_SECONDS = 10
STREAMS_PER_USER = 100  # in this process; each keeps a connection
LONGEST_SECONDS = 600  # then the client connects again, and shows its credential again
router = APIRouter(prefix=JOBS, tags=["exports"], responses=ANSWERS)


class Watchers:
    """All who watch an export in this process; they take turns, so that watching cannot starve the other calls."""

    def __init__(self) -> None:
        self._watching: Counter[str] = Counter()  # by user
        self._turns = CapacityLimiter(POLLS_AT_ONCE)

    @contextmanager
    def watching(self, context: RequestContext) -> Iterator[None]:
        user = subject_of(context.caller, "streams")
        self._watching[user] += 1
        try:
            yield
        finally:
            self._watching[user] -= 1
            if not self._watching[user]:
                del self._watching[user]

    def require_stream(self, context: RequestContext) -> None:
        """`TooMany` when the caller has as many as a user may."""
        if self._watching[subject_of(context.caller, "streams")] >= STREAMS_PER_USER:
            raise TooMany(
                f"a user may watch {STREAMS_PER_USER} exports at once; ask for their status instead",
                retry_after_seconds=RETRY_SECONDS,
            )

    async def next_status(self, context: RequestContext, job_id: UUID) -> JobStatus:
        """After a pause, longer the more there are. `NotFound` when the export was deleted."""
        while True:
            await asyncio.sleep(max(POLL_SECONDS, self._watching.total() / POLLS_A_SECOND))
            try:
                return await to_thread.run_sync(read_status, context, job_id, limiter=self._turns)
            except Unavailable:
                continue  # it comes back, and the stream need not end for it


def watchers_of(request: Request) -> Watchers:
    return cast("Watchers", request.app.state.watchers)


def first_status(
    context: CurrentRequest, job_id: UUID, watchers: Annotated[Watchers, Depends(watchers_of)]
) -> JobStatus:
    """Before the stream begins, so that a foreign id is a 404 like elsewhere."""
    watchers.require_stream(context)
    return read_status(context, job_id)


@router.get("/{job_id}/events", response_class=EventSourceResponse, summary="Stream progress")
async def watch_job(
    context: CurrentRequest,
    job_id: UUID,
    status: Annotated[JobStatus, Depends(first_status)],
    watchers: Annotated[Watchers, Depends(watchers_of)],
) -> AsyncIterator[ServerSentEvent]:
    """`event: status` with the same body as `/status`. The stream ends with the export; a client that loses it
    connects again, as `EventSource` does by itself.
    """
    ends_at = time.monotonic() + LONGEST_SECONDS
    sent = status
    yield ServerSentEvent(data=sent, event="status", retry=1000)
    with watchers.watching(context), suppress(NotFound):  # deleted: nothing more to tell
        while sent.status not in TERMINAL and time.monotonic() < ends_at:
            status = await watchers.next_status(context, job_id)
            if status != sent:
                sent = status
                yield ServerSentEvent(data=sent, event="status")
