"""What waits and runs, and what the last day was like: of a tenant for its admins, of all for operators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import STORED_TEXT, CurrentRequest
from export_pipelines.core.access import Action
from export_pipelines.core.errors import NotFound
from export_pipelines.stores.metrics import FigureStore, QueueFigures

router = APIRouter(prefix="/api/v1/exports/queue", tags=["operations"], responses=ANSWERS)


class Depth(BaseModel):
    queued: int = Field(description="Due, waiting for a run.")
    waiting: int = Field(description="Queued again, not yet due.")
    processing: int


class Seconds(BaseModel):
    median: float | None
    p95: float | None


class QueueStats(BaseModel):
    """Times and ends are those of the exports that ended within a day."""

    depth: Depth
    oldest_queued_seconds: float | None
    running_per_tenant: dict[str, int] = Field(description="The hundred busiest.")
    completed_last_hour: int
    completed_last_day: int
    failed_last_day: int
    cancelled_last_day: int
    wait_seconds: Seconds
    run_seconds: Seconds = Field(description="Of completed exports.")
    failures: dict[str, int] = Field(description="Failed exports by error type.")
    deliveries: dict[str, int] = Field(description="Deliveries not yet made or given up.")
    oldest_delivery_seconds: float | None
    quietest_run_seconds: float | None = Field(description="Since the run that is silent longest told that it lives.")


@router.get("/stats", summary="Get queue statistics", response_model=QueueStats)
def queue_stats(
    context: CurrentRequest,
    tenant: Annotated[str | None, Query(max_length=200, pattern=STORED_TEXT, description="For operators.")] = None,
) -> QueueStats:
    """Admins see their tenant, operators all of them or the one they name."""
    with context.unit_of_work(Action.SEE_QUEUE) as work:
        found = FigureStore(work.control).queue(tenant)
    if found is None:
        raise NotFound("there is no such tenant for you; leave it out", field="tenant")
    return _payload(found)


def _payload(found: QueueFigures) -> QueueStats:
    now, recent = found.now, found.recent
    ended = asdict(recent)
    return QueueStats(
        depth=Depth(queued=now.queued, waiting=now.waiting, processing=now.processing),
        oldest_queued_seconds=now.oldest_queued_seconds,
        running_per_tenant=now.running,
        **{name: ended[name] for name in ended if name.endswith(("_hour", "_day")) or name == "failures"},
        wait_seconds=Seconds(median=recent.wait_median, p95=recent.wait_p95),
        run_seconds=Seconds(median=recent.run_median, p95=recent.run_p95),
        deliveries=now.deliveries,
        oldest_delivery_seconds=now.oldest_delivery_seconds,
        quietest_run_seconds=now.silent_seconds,
    )
