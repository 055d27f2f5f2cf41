"""A tenant's admins get rid of old exports, before their time is over."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.api.idempotency import Answer, once
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, RequestContext
from export_pipelines.core.access import Action
from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.publish.removal import remove_unremoved
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.retention import MOST_DAYS, Held, Older, RetentionStore
from export_pipelines.stores.tenant_session import TenantSession

EXPIRED_AT_ONCE = 10_000
REMOVED_AT_ONCE = 500  # after the answer; the nightly cleanup removes the rest
router = APIRouter(prefix="/api/v1/exports", tags=["exports"], responses=ANSWERS)


class Cleanup(BaseModel):
    """Which exports are to go."""

    model_config = ConfigDict(extra="forbid", strict=True)  # `true` would be one day, and what is gone is gone

    older_than_days: Annotated[int, Field(ge=1, le=MOST_DAYS, description="Since they completed.")]
    keep_scheduled: bool = Field(default=True, description="Exports that a schedule made stay.")
    dry_run: bool = Field(default=False, description="Only say what would go.")


class CleanedUp(BaseModel):
    exports_deleted: int
    space_freed_gb: float = Field(description="Of their packages; rows kept for conversions come on top.")
    dry_run: bool
    remaining: int = Field(description="More than one call takes; call again while this is not 0.")


@router.post("/cleanup", summary="Delete old exports", response_model=CleanedUp)
def clean_up(
    context: CurrentRequest, wanted: Cleanup, background: BackgroundTasks, key: IdempotencyKey = None
) -> Response:
    """Completed exports of the tenant expire: links and downloads end at once, files are gone within moments, at the
    latest with the nightly cleanup. The history keeps a line of each."""
    with context.unit_of_work(Action.CLEAN_UP) as work:

        def expire() -> Answer:
            answer = _cleaned_up(RetentionStore(work.control), wanted, context.tenant_id)
            work.detail.update(wanted.model_dump(), exports_deleted=answer.exports_deleted)
            return Answer(status=200, body=answer)

        response = once(context, work, key, expire)
    if not wanted.dry_run:
        background.add_task(_remove, context)
        response.background = background
    return response


def _cleaned_up(retention: RetentionStore, wanted: Cleanup, tenant_id: str) -> CleanedUp:
    older = Older.than(wanted.older_than_days, tenant_id=tenant_id, keep_scheduled=wanted.keep_scheduled)
    gone = retention.older(older) if wanted.dry_run else retention.expire_older(older, limit=EXPIRED_AT_ONCE)
    left = Held() if wanted.dry_run else retention.older(older)
    return CleanedUp(
        exports_deleted=gone.exports,
        space_freed_gb=round(gone.size_bytes / 1e9, 6),
        dry_run=wanted.dry_run,
        remaining=left.exports,
    )


def _remove(context: RequestContext) -> None:
    """In the caller's name, so that no policy is left out. What does not answer now is removed in the night."""
    control = TenantSession(context.services.pool, context.caller)
    with suppress(Unavailable):
        remove_unremoved(RetentionStore(control), RequestStore(control), context.services.store, most=REMOVED_AT_ONCE)
