"""Links to a finished export for people without a login: make, list, revoke."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.idempotency import Answer, is_answered, once
from export_pipelines.api.link_passwords import HASHING, MAX_PASSWORD, MIN_PASSWORD, hash_password
from export_pipelines.api.paths import JOBS
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.rate_limits import LINKS, enforce_rate_limit, is_within_rate_limit
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, RequestContext, UnitOfWork
from export_pipelines.api.visibility import visible
from export_pipelines.core.access import Action, require
from export_pipelines.core.configuration import MAX_HOURS
from export_pipelines.core.errors import Conflict, NotFound, TooMany
from export_pipelines.core.status import RequestStatus
from export_pipelines.destinations.download import download_hours
from export_pipelines.stores.rate_limits import subject_of
from export_pipelines.stores.requests import ExportRequest

router = APIRouter(prefix=JOBS, tags=["links"], responses=ANSWERS)


class LinkWanted(BaseModel):
    """A new link."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ttl_hours: float | None = Field(
        default=None,
        gt=0,
        le=MAX_HOURS,
        description="Never longer than the export is kept. Default: what the export's delivery says of downloads, else "
        "EXPORT_LINK_TTL.",
    )
    password: Annotated[SecretStr, Field(min_length=MIN_PASSWORD, max_length=MAX_PASSWORD)] | None = None
    max_uses: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Downloads of files, all together. Each call for a file is one, also for a part of it.",
    )
    label: str | None = Field(default=None, max_length=200)


class LinkOut(BaseModel):
    id: str
    label: str | None
    created_by: str | None
    created_at: dt.datetime
    expires_at: dt.datetime
    revoked_at: dt.datetime | None
    has_password: bool
    max_uses: int | None
    uses: int
    last_used_at: dt.datetime | None


class LinkCreated(LinkOut):
    url: str = Field(description="Told once; only a hash of its token is kept.")


class Links(BaseModel):
    links: list[LinkOut]


@router.post(
    "/{job_id}/share", status_code=HTTPStatus.CREATED, summary="Create a share link", response_model=LinkCreated
)
def make_link(context: CurrentRequest, job_id: UUID, wanted: LinkWanted, key: IdempotencyKey = None) -> Response:
    """Whoever has the link, and its password where it has one, can download without a login until it expires."""
    password_hash = _hashed(context, job_id, wanted.password, key)
    limits: dict[str, str] = {}
    with context.unit_of_work(Action.SHARE, str(job_id)) as work:

        def make() -> Answer:
            export, expires_at = _shareable(work, job_id)
            limits.update(enforce_rate_limit(context, work, LINKS))
            if wanted.password is not None and password_hash is None:  # there was none before this transaction
                raise TooMany("the limit allows a link again since a moment ago; try again", retry_after_seconds=1)
            hours = wanted.ttl_hours or download_hours(export.config) or context.services.settings.link_ttl / 3600
            token, link = work.links.make(
                export.id,
                expires_at=min(expires_at, dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)),
                password_hash=password_hash,
                max_uses=wanted.max_uses,
                label=wanted.label,
                created_by=context.caller.name,
            )
            body = LinkCreated(**asdict(link), url=f"{context.services.base_url}/d/{token}")
            return Answer(status=HTTPStatus.CREATED, body=body)

        response = once(context, work, key, make)
    response.headers.update(limits)
    return response


def _shareable(work: UnitOfWork, job_id: UUID) -> tuple[ExportRequest, dt.datetime]:
    """The export and its end."""
    export = visible(work, job_id)
    if export.status is not RequestStatus.COMPLETED or export.expires_at is None:
        raise Conflict(f"is {export.status}; only a completed export can be shared", field="job_id")
    return export, export.expires_at


def _hashed(context: RequestContext, job_id: UUID, password: SecretStr | None, key: str | None) -> str | None:
    """Outside of transactions, and for nobody who would get no link: a hash costs more than all the rest."""
    if password is None:
        return None
    require(context.caller, Action.SHARE)
    with context.transaction() as work:
        allowed = (
            not is_answered(context, work, key)
            and is_within_rate_limit(context, work, LINKS)
            and _is_shareable(work, job_id)
        )
    if not allowed:
        return None  # the link's transaction makes none and says why, or repeats what an earlier call was answered
    with HASHING.held(subject_of(context.caller, "passwords")):
        return hash_password(password.get_secret_value())


def _is_shareable(work: UnitOfWork, job_id: UUID) -> bool:
    try:
        _shareable(work, job_id)
    except (NotFound, Conflict):
        return False
    return True


@router.get("/{job_id}/share", summary="List share links", response_model=Links)
def list_links(context: CurrentRequest, job_id: UUID) -> Links:
    """Expired and revoked ones too; never their addresses."""
    with context.unit_of_work(Action.READ, str(job_id)) as work:
        links = work.links.of_request(visible(work, job_id).id)
    return Links(links=[LinkOut(**asdict(link)) for link in links])


@router.delete("/{job_id}/share/{link_id}", summary="Revoke a share link", response_model=LinkOut)
def revoke_link(context: CurrentRequest, job_id: UUID, link_id: UUID) -> LinkOut:
    """From now on it does not work, downloads that go on excepted."""
    with context.unit_of_work(Action.REVOKE, str(job_id)) as work:
        return LinkOut(**asdict(work.links.revoke(visible(work, job_id).id, str(link_id))))
