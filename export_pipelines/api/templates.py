"""Configurations that are kept: save, list, run, delete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, ClassVar
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.idempotency import Answer, once, replayed
from export_pipelines.api.orders import estimated_if_possible, order_of, place_order, planned_order
from export_pipelines.api.paging import DEFAULT_LIMIT, Cursor, Limit, link_next
from export_pipelines.api.payloads import JobCreated, megabytes
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, RequestContext, UnitOfWork
from export_pipelines.core.access import Action, Role, require
from export_pipelines.core.configuration import Configuration, Title, keepable
from export_pipelines.core.errors import NotAllowed, RequestRejected
from export_pipelines.pipeline.planning.orders import plan_order
from export_pipelines.stores.passwords import SEALED, with_password
from export_pipelines.stores.templates import Template, TemplateDraft

TEMPLATES = "/api/v1/exports/templates"
router = APIRouter(prefix=TEMPLATES, tags=["templates"], responses=ANSWERS)


class TemplateWanted(BaseModel):
    """A template to save."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    foreign_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("configuration", "export_config"), "config"),
        **dict.fromkeys(("tables", "data_sources", "format", "filters", "delivery"), "config"),
        "is_public": "shared",
    }

    name: Title
    description: Annotated[str, AfterValidator(keepable)] = Field(default="", max_length=2000)
    shared: bool = Field(default=False, description="With everybody of the tenant; for admins.")
    config: Configuration = Field(description="What `POST /jobs` takes; a password is given with each run.")
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
def create_template(context: CurrentRequest, wanted: TemplateWanted, key: IdempotencyKey = None) -> Response:
    """Refused is what the export would be refused for."""
    with context.attempting(Action.CREATE_TEMPLATE):
        with context.transaction() as work:
            answered = replayed(context, work, Action.CREATE_TEMPLATE, key)
        if answered is not None:
            return answered
        draft = _draft(context, wanted)
        with context.transaction() as work:

            def create() -> Answer:
                made = work.templates.create(draft, tenant_id=context.tenant_id, owner=context.caller.name)
                work.target = made.id
                headers = {"Location": f"{context.services.base_url}{TEMPLATES}/{made.id}"}
                return Answer(status=HTTPStatus.CREATED, body=_response(made, problem=None), headers=headers)

            response = once(context, work, key, create)
            context.note(work, Action.CREATE_TEMPLATE)
    return response


@router.get("", summary="List templates", response_model=TemplatePage)
def list_templates(
    context: CurrentRequest,
    response: Response,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> TemplatePage:
    """Newest first: your own and those shared in the tenant; admins see all of them."""
    with context.unit_of_work(Action.SEE_TEMPLATES) as work:
        found, following = work.templates.page(limit=limit, cursor=cursor)
    link_next(context, response, following)
    return TemplatePage(templates=[_listed(template, context) for template in found], next_cursor=following)


@router.get("/{template_id}", summary="Get a template", response_model=TemplateOut)
def get_template(context: CurrentRequest, template_id: UUID) -> TemplateOut:
    with context.unit_of_work(Action.SEE_TEMPLATES, str(template_id)) as work:
        return _listed(work.templates.get(str(template_id)), context)


@router.put("/{template_id}", summary="Replace a template", response_model=TemplateOut)
def update_template(
    context: CurrentRequest,
    template_id: UUID,
    wanted: TemplateWanted,
    key: IdempotencyKey = None,
) -> Response:
    """All of it, by its owner or an admin. Schedules made from it keep what they have."""
    target = str(template_id)
    with context.attempting(Action.UPDATE_TEMPLATE, target):
        with context.transaction(target) as work:
            answered = replayed(context, work, Action.UPDATE_TEMPLATE, key)
            if answered is None:
                work.templates.get(target)  # 404 comes before anything that is wrong with the rest
        if answered is not None:
            return answered
        draft = _draft(context, wanted)
        with context.transaction(target) as work:

            def update() -> Answer:
                saved = work.templates.update(work.templates.get(target).id, draft, version=wanted.version)
                return Answer(status=HTTPStatus.OK, body=_response(saved, problem=None))

            response = once(context, work, key, update)
            context.note(work, Action.UPDATE_TEMPLATE)
    return response


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
    return place_order(context, Action.CREATE, raw, background, key, also=used)


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


def _draft(context: RequestContext, wanted: TemplateWanted) -> TemplateDraft:
    """What is to be kept, with its estimate, which counts as one; `RequestRejected` for what no template may be.

    To be called outside of transactions: the source is asked.
    """
    config = wanted.config.config
    if wanted.shared and context.caller.role is not Role.ADMIN:
        raise NotAllowed("only an admin shares templates; save it without", field="shared")
    if config.convert is not None:
        raise RequestRejected("is for a single export; a template names tables", field="convert")
    if config.encryption is not None and config.encryption.password is not None:
        raise RequestRejected("is kept by no template; leave it out and give it with each run", field="password")
    planned = planned_order(context, _with_password_to_come(wanted.config), stored=True)
    [estimate] = estimated_if_possible(context, [planned], counted=True)
    return TemplateDraft(
        name=wanted.name,
        description=wanted.description,
        shared=wanted.shared,
        config=wanted.config.written,
        estimate=estimate,
    )


def _takes_password(config: Mapping[str, Any]) -> bool:
    encryption = config.get("encryption")
    return isinstance(encryption, dict) and encryption.get("enabled") is not False and not encryption.get("recipients")


def _with_password_to_come(configuration: Configuration) -> Configuration:
    """As if the password were there, which comes with the run."""
    written = configuration.written
    if not _takes_password(written):
        return configuration
    return Configuration.of({**written, "encryption": {**written["encryption"], "password": SEALED}})


def _problem(template: Template, context: RequestContext) -> str | None:
    try:
        configuration = _with_password_to_come(Configuration.of(template.config))
        keep = context.services.settings.keep
        plan_order(order_of(context, configuration), context.services.catalog, longest_keep=keep)
    except RequestRejected as error:
        return str(error)
    return None


def _listed(template: Template, context: RequestContext) -> TemplateOut:
    """With why it cannot be run, which the catalog or the caller's role may have changed since it was saved."""
    return _response(template, problem=_problem(template, context))


def _response(template: Template, *, problem: str | None) -> TemplateOut:
    size = template.estimated_bytes
    return TemplateOut(
        id=template.id,
        name=template.name,
        description=template.description,
        shared=template.shared,
        owner=template.owner,
        config=template.config,
        problem=problem,
        estimated_rows=template.estimated_rows,
        estimated_size_mb=None if size is None else megabytes(size),
        estimated_time_seconds=template.estimated_seconds,
        times_used=template.times_used,
        last_used=template.last_used_at,
        version=template.version,
        created_at=template.created_at,
        updated_at=template.updated_at,
    )
