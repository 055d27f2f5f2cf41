"""The audit log for admins, of their tenant, and for operators, of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from export_pipelines.api.paging import DEFAULT_LIMIT, Limit, link_next
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import STORED_TEXT, CurrentRequest, Instant, RequestContext
from export_pipelines.core.access import Action
from export_pipelines.stores.audit import AuditEntry, AuditFilter, AuditLog, as_csv, as_ndjson

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], responses=ANSWERS)
_WRITERS = {"ndjson": (as_ndjson, "application/x-ndjson"), "csv": (as_csv, "text/csv")}
_Text = Annotated[str | None, Query(max_length=200, pattern=STORED_TEXT)]


class Entry(BaseModel):
    """What somebody did."""

    id: int
    at: AwareDatetime
    tenant_id: str | None
    user_id: str | None
    role: str | None
    credential: str | None = Field(description="`key:` and its id, `jwt:` and the token's id, or `cli`.")
    action: str = Field(examples=["export.create"])
    target_type: str | None
    target_id: str | None
    outcome: Literal["ok", "refused", "failed"]
    ip: str | None
    user_agent: str | None
    http_request_id: str | None
    detail: dict[str, Any]
    hash: str = Field(description="SHA-256 over this entry and the hash of the one before it, hex.")


class Entries(BaseModel):
    entries: list[Entry]
    next_cursor: int | None = Field(description="`cursor` of the next page; null at the end.")


@router.get(
    "",
    summary="List audit entries",
    response_model=Entries,
    responses={200: {"content": {"application/x-ndjson": {}, "text/csv": {}}}},
)
def list_audit(
    context: CurrentRequest,
    response: Response,
    tenant: _Text = None,
    user: _Text = None,
    action: _Text = None,
    target: Annotated[
        str | None, Query(max_length=200, pattern=STORED_TEXT, description="Id of an export or a key.")
    ] = None,
    from_: Annotated[Instant | None, Query(alias="from")] = None,
    to: Annotated[Instant | None, Query(description="Not included.")] = None,
    format_: Annotated[
        Literal["json", "ndjson", "csv"],
        Query(alias="format", description="ndjson and csv answer everything, oldest first."),
    ] = "json",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
) -> Any:
    """Newest first. Looking at the log is in the log as well."""
    wanted = AuditFilter(tenant_id=tenant, user_id=user, action=action, target_id=target, since=from_, until=to)
    with context.unit_of_work(Action.SEE_AUDIT) as work:
        found = AuditLog(work.control).list(wanted, before=cursor, limit=limit) if format_ == "json" else []
    if format_ != "json":
        write, media_type = _WRITERS[format_]
        headers = {"Content-Disposition": f'attachment; filename="audit.{format_}"'}
        return StreamingResponse(write(_all(context, wanted)), media_type=media_type, headers=headers)
    following = found[-1].id if len(found) == limit else None
    link_next(context, response, str(following) if following else None)
    return Entries(entries=[_entry(entry) for entry in found], next_cursor=following)


def _all(context: RequestContext, wanted: AuditFilter) -> Iterator[AuditEntry]:
    """A transaction for each page: a slow reader holds none open."""
    last: int | None = None
    while True:
        with context.services.pool.tenant_session(context.caller) as control:
            page = AuditLog(control).after(last, wanted)
        if not page:
            return
        yield from page
        last = page[-1].id


def _entry(entry: AuditEntry) -> Entry:
    fields = {name: value for name, value in vars(entry).items() if name in Entry.model_fields}
    return Entry(**{**fields, "detail": json.loads(entry.detail)})
