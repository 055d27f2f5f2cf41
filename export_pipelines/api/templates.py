"""Configurations that are kept: save, list, run, delete."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.estimates import foresee
from export_pipelines.api.idempotency import Answer, once
from export_pipelines.api.jobs import ordered
from export_pipelines.api.payloads import JobCreated, megabytes
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, RequestContext, UnitOfWork, body_of
from export_pipelines.core.access import Action, Role, require
from export_pipelines.core.configuration import ExportConfig, Title, keepable
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import TenantScope
from export_pipelines.pipeline.planning.plan import check_order
from export_pipelines.stores.passwords import SEALED, with_password
from export_pipelines.stores.templates import Template, TemplateDraft

TEMPLATES = "/api/v1/exports/templates"
router = APIRouter(prefix=TEMPLATES, tags=["templates"], responses=ANSWERS)


class TemplateWanted(BaseModel):
    """A template to save."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Title
    description: Annotated[str, AfterValidator(keepable)] = Field(default="", max_length=2000)
    shared: bool = Field(default=False, description="With everybody of the tenant; for admins.")
    config: ExportConfig = Field(description="What `POST /jobs` takes; a password is given with each run.")
    version: int | None = Field(default=None, description="With PUT: refuse the change when this is not its version.")


class TemplateRun(BaseModel):
    """What is different this time."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: str | None = Field(default=None, max_length=200)
    password: SecretStr | None = Field(default=None, description="Where the template encrypts with one.")


class TemplateOut(BaseModel):
    id: str
    name: str
    description: str
    shared: bool
    owner: str
    config: dict[str, Any]
    problem: str | None = Field(description="Why it cannot be run now, by this caller.")
    estimated_rows: int | None = Field(description="As of when it was saved.")
    estimated_size_mb: float | None
    estimated_time_seconds: float | None
    times_used: int
    last_used: dt.datetime | None
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


class TemplatePage(BaseModel):
    templates: list[TemplateOut]
    next_cursor: str | None = Field(description="Goes into `cursor` for the next page; also in the Link field.")


class TemplateDeleted(BaseModel):
    deleted: bool


@router.post("", status_code=HTTPStatus.CREATED, summary="Create a template", response_model=TemplateOut)
def create_template(
    context: CurrentRequest,
    wanted: TemplateWanted,
    body: Annotated[bytes, Depends(body_of)],
    key: IdempotencyKey = None,
) -> Response:
    """Refused is what the export would be refused for."""
    config = dict(json.loads(body)["config"])
    foreseen = foresee(
        context, Action.CREATE_TEMPLATE, _checkable(config), saved=True
    )  # the source is asked outside of a transaction
    with context.unit_of_work(Action.CREATE_TEMPLATE) as work:

        def create() -> Answer:
            draft = _draft(context, wanted, config, foreseen)
            made = work.templates.create(draft, tenant_id=context.tenant_id, owner=context.caller.name)
            work.target = made.id
            headers = {"Location": f"{context.services.base_url}{TEMPLATES}/{made.id}"}
            return Answer(status=HTTPStatus.CREATED, body=_response(made, context), headers=headers)

        return once(context, work, key, create)


@router.get("", summary="List templates", response_model=TemplatePage)
def list_templates(
    context: CurrentRequest,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> TemplatePage:
    """Newest first: your own and those shared in the tenant; admins see all of them."""
    with context.unit_of_work(Action.SEE_TEMPLATES) as work:
        found, following = work.templates.page(limit=limit, cursor=cursor)
    if following:
        response.headers["Link"] = f'<{context.services.base_url}{context.following(following)}>; rel="next"'
    return TemplatePage(templates=[_response(template, context) for template in found], next_cursor=following)


@router.get("/{template_id}", summary="Get a template", response_model=TemplateOut)
def get_template(context: CurrentRequest, template_id: UUID) -> TemplateOut:
    with context.unit_of_work(Action.SEE_TEMPLATES, str(template_id)) as work:
        return _response(work.templates.get(str(template_id)), context)


@router.put("/{template_id}", summary="Replace a template", response_model=TemplateOut)
def update_template(
    context: CurrentRequest,
    template_id: UUID,
    wanted: TemplateWanted,
    body: Annotated[bytes, Depends(body_of)],
    key: IdempotencyKey = None,
) -> Response:
    """All of it, by its owner or an admin. Schedules made from it keep what they have."""
    config = dict(json.loads(body)["config"])
    foreseen = foresee(context, Action.UPDATE_TEMPLATE, _checkable(config), saved=True)
    with context.unit_of_work(Action.UPDATE_TEMPLATE, str(template_id)) as work:

        def update() -> Answer:
            current = work.templates.get(str(template_id))  # 404 comes before anything that is wrong with the rest
            draft = _draft(context, wanted, config, foreseen)
            saved = work.templates.update(current.id, draft, version=wanted.version)
            return Answer(status=HTTPStatus.OK, body=_response(saved, context))

        return once(context, work, key, update)


@router.post("/{template_id}/run", status_code=HTTPStatus.ACCEPTED, summary="Run a template", response_model=JobCreated)
def run_template(
    context: CurrentRequest,
    template_id: UUID,
    background: BackgroundTasks,
    run: TemplateRun | None = None,
    key: IdempotencyKey = None,
) -> Response:
    """An export like any other, in your name and role."""
    require(context.caller, Action.CREATE)
    with context.unit_of_work(Action.SEE_TEMPLATES, str(template_id)) as work:
        template = work.templates.get(str(template_id))

    def used(work: UnitOfWork) -> None:
        work.templates.used(template.id)
        work.detail["template"] = template.id

    raw = _of_this_run(template, run or TemplateRun())
    return ordered(context, Action.CREATE, raw, background, key, also=used)


@router.delete("/{template_id}", summary="Delete a template", response_model=TemplateDeleted)
def delete_template(context: CurrentRequest, template_id: UUID) -> TemplateDeleted:
    """Exports and schedules made from it stay."""
    with context.unit_of_work(Action.DELETE_TEMPLATE, str(template_id)) as work:
        work.templates.delete(str(template_id))
    return TemplateDeleted(deleted=True)


def _of_this_run(template: Template, run: TemplateRun) -> dict[str, Any]:
    named = {"name": run.name if run.name is not None else template.config.get("name") or template.name}
    raw = {**template.config, **named}
    if not _takes_password(raw):
        if run.password is not None:
            raise RequestRejected("is not what this template encrypts with; leave it out", field="password")
        return raw
    if run.password is None:
        raise RequestRejected("is needed; templates keep none", field="password")
    return with_password(raw, run.password.get_secret_value())


def _draft(
    context: RequestContext, wanted: TemplateWanted, config: dict[str, Any], foreseen: Estimate | RequestRejected | None
) -> TemplateDraft:
    """What is to be kept; `RequestRejected` for what no template may be."""
    if wanted.shared and context.caller.role is not Role.ADMIN:
        raise NotAllowed("only an admin shares templates; save it without", field="shared")
    if wanted.config.convert is not None:
        raise RequestRejected("is for a single export; a template names tables", field="convert")
    if wanted.config.encryption is not None and wanted.config.encryption.password is not None:
        raise RequestRejected("is kept by no template; leave it out and give it with each run", field="password")
    if isinstance(foreseen, RequestRejected):
        raise foreseen
    return TemplateDraft(
        name=wanted.name, description=wanted.description, shared=wanted.shared, config=config, estimate=foreseen
    )


def _takes_password(config: Mapping[str, Any]) -> bool:
    encryption = config.get("encryption")
    return isinstance(encryption, dict) and encryption.get("enabled") is not False and not encryption.get("recipients")


def _checkable(config: dict[str, Any]) -> dict[str, Any]:
    """As if the password were there, which comes with the run."""
    if not _takes_password(config):
        return config
    return {**config, "encryption": {**config["encryption"], "password": SEALED}}


def _problem(template: Template, context: RequestContext) -> str | None:
    scope, catalog = TenantScope(tenant_id=context.tenant_id), context.services.catalog
    try:
        check_order(_checkable(template.config), scope, catalog, role=context.caller.role)
    except RequestRejected as error:
        return str(error)
    return None


def _response(template: Template, context: RequestContext) -> TemplateOut:
    size = template.estimated_bytes
    return TemplateOut(
        id=template.id,
        name=template.name,
        description=template.description,
        shared=template.shared,
        owner=template.owner,
        config=template.config,
        problem=_problem(template, context),
        estimated_rows=template.estimated_rows,
        estimated_size_mb=None if size is None else megabytes(size),
        estimated_time_seconds=template.estimated_seconds,
        times_used=template.times_used,
        last_used=template.last_used_at,
        version=template.version,
        created_at=template.created_at,
        updated_at=template.updated_at,
    )
