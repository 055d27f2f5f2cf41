"""Recurring exports: save, look, pause, resume, run now, delete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from export_pipelines.api.idempotency import Answer, once
from export_pipelines.api.orders import accepted, launched, order_of
from export_pipelines.api.paging import DEFAULT_LIMIT, Cursor, Limit, link_next
from export_pipelines.api.payloads import JobCreated, created_of, tracking_url
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.rate_limits import ORDERS, enforce_rate_limit
from export_pipelines.api.request_context import CurrentRequest, IdempotencyKey, RequestContext, UnitOfWork
from export_pipelines.core.access import Action
from export_pipelines.core.configuration import Configuration, Encryption, with_clear_password
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.recurrence import CatchUp
from export_pipelines.core.scheduling import ScheduleDraft, ScheduleOrder
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.planning.orders import plan_order
from export_pipelines.pipeline.planning.scheduling import Preset, check_schedule, preset_config
from export_pipelines.stores.requests import ExportRequest
from export_pipelines.stores.schedules import Schedule

SCHEDULES = "/api/v1/exports/schedules"
router = APIRouter(prefix=SCHEDULES, tags=["schedules"], responses=ANSWERS)


class ScheduleWanted(ScheduleOrder):
    """A schedule to save. What it exports: a configuration, a template to copy one from, or a preset."""

    model_config = ConfigDict(hide_input_in_errors=True)

    config: Configuration | None = Field(default=None, description="What `POST /jobs` takes; no `convert`.")
    template_id: UUID | None = Field(default=None, description="Its configuration is copied; later changes are not.")
    preset: Preset | None = Field(
        default=None, description="private_backup: all tables you may export, encrypted; daily unless said otherwise."
    )
    encryption: Encryption | None = Field(default=None, description="With a template or preset; else in config.")
    version: int | None = Field(default=None, description="With PUT: refuse the change when this is not its version.")

    @model_validator(mode="before")
    @classmethod
    def _preset_times(cls, raw: Any) -> Any:
        timed = isinstance(raw, dict) and (raw.get("cron") is not None or raw.get("frequency") is not None)
        preset = isinstance(raw, dict) and raw.get("preset") is not None
        return {**raw, "frequency": "daily"} if preset and not timed else raw


class Resumption(BaseModel):
    """How to go on."""

    model_config = ConfigDict(extra="forbid")

    catch_up: bool = Field(default=False, description="What was missed while it was paused is for its catch-up policy.")


class LastRun(BaseModel):
    at: dt.datetime
    job_id: str
    status: RequestStatus
    tracking_url: str


class ScheduleOut(BaseModel):
    id: str
    name: str
    state: str = Field(description="active or paused.")
    paused_reason: str | None
    cron: str
    timezone: str
    window: dict[str, Any]
    catch_up: CatchUp
    jitter_seconds: int
    keep_days: int | None
    pause_after_failures: int | None
    config: dict[str, Any] = Field(description="Of a password it only says that there is one.")
    owner: str = Field(description="Who saved it last; its exports are this user's.")
    owner_role: str | None = Field(description="The role in which its exports run; None is an operator's.")
    next_run: dt.datetime | None = Field(description="None while it is paused.")
    next_runs: list[dt.datetime] = Field(description="The next five.")
    last_run: LastRun | None
    last_status: RequestStatus | None
    late: bool = Field(
        description="A fire since its last completed export is none although EXPORT_SCHEDULE_LATE_SECONDS are over."
    )
    failures: int = Field(description="In a row.")
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


class SchedulePage(BaseModel):
    schedules: list[ScheduleOut]
    next_cursor: str | None = Field(description="Goes into `cursor` for the next page; also in the Link field.")


class ScheduleDeleted(BaseModel):
    deleted: bool


@router.post("", status_code=HTTPStatus.CREATED, summary="Create a schedule", response_model=ScheduleOut)
def create_schedule(
    context: CurrentRequest,
    wanted: ScheduleWanted,
    key: IdempotencyKey = None,
) -> Response:
    """Refused is what the export of its next fire would be refused for."""
    with context.unit_of_work(Action.CREATE_SCHEDULE) as work:

        def create() -> Answer:
            made = work.schedules.create(
                _draft(context, work, wanted),
                tenant_id=context.tenant_id,
                owner=context.caller.name,
                owner_role=context.caller.role,
            )
            work.target = made.id
            headers = {"Location": f"{context.services.base_url}{SCHEDULES}/{made.id}"}
            return Answer(status=HTTPStatus.CREATED, body=_response(made, context), headers=headers)

        return once(context, work, key, create)


@router.get("", summary="List schedules", response_model=SchedulePage)
def list_schedules(
    context: CurrentRequest,
    response: Response,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> SchedulePage:
    """Newest first. Members see their own, admins all of their tenant."""
    with context.unit_of_work(Action.SEE_SCHEDULES) as work:
        found, following = work.schedules.page(limit=limit, cursor=cursor)
    link_next(context, response, following)
    return SchedulePage(schedules=[_response(schedule, context) for schedule in found], next_cursor=following)


@router.get("/{schedule_id}", summary="Get a schedule", response_model=ScheduleOut)
def get_schedule(context: CurrentRequest, schedule_id: UUID) -> ScheduleOut:
    with context.unit_of_work(Action.SEE_SCHEDULES, str(schedule_id)) as work:
        return _response(work.schedules.get(str(schedule_id)), context)


@router.put("/{schedule_id}", summary="Replace a schedule", response_model=ScheduleOut)
def update_schedule(
    context: CurrentRequest,
    schedule_id: UUID,
    wanted: ScheduleWanted,
    key: IdempotencyKey = None,
) -> Response:
    """All of it. Whoever saves it owns it from now on; so an admin takes over. A password stays where the configuration
    says `{"sealed": true}`."""
    with context.unit_of_work(Action.UPDATE_SCHEDULE, str(schedule_id)) as work:

        def update() -> Answer:
            saved = work.schedules.update(
                work.schedules.get(str(schedule_id)).id,  # 404 comes before anything that is wrong with the rest
                _draft(context, work, wanted),
                owner=context.caller.name,
                owner_role=context.caller.role,
                version=wanted.version,
            )
            return Answer(status=HTTPStatus.OK, body=_response(saved, context))

        return once(context, work, key, update)


@router.post("/{schedule_id}/pause", summary="Pause a schedule", response_model=ScheduleOut)
def pause_schedule(context: CurrentRequest, schedule_id: UUID, key: IdempotencyKey = None) -> Response:
    """It fires no more until it is resumed; an export at work goes on. 409 when it is paused."""
    with context.unit_of_work(Action.PAUSE_SCHEDULE, str(schedule_id)) as work:

        def pause() -> Answer:
            paused = work.schedules.pause(str(schedule_id), reason=f"paused by {context.caller.name}")
            return Answer(status=HTTPStatus.OK, body=_response(paused, context))

        return once(context, work, key, pause)


@router.post("/{schedule_id}/resume", summary="Resume a schedule", response_model=ScheduleOut)
def resume_schedule(
    context: CurrentRequest, schedule_id: UUID, how: Resumption | None = None, key: IdempotencyKey = None
) -> Response:
    """From now on, or with what was missed. 409 when it is active."""
    with context.unit_of_work(Action.RESUME_SCHEDULE, str(schedule_id)) as work:

        def resume() -> Answer:
            catch_up = how is not None and how.catch_up
            resumed = work.schedules.resume(str(schedule_id), now=dt.datetime.now(dt.UTC), catch_up=catch_up)
            return Answer(status=HTTPStatus.OK, body=_response(resumed, context))

        return once(context, work, key, resume)


@router.post(
    "/{schedule_id}/run", status_code=HTTPStatus.ACCEPTED, summary="Run a schedule now", response_model=JobCreated
)
def run_schedule(
    context: CurrentRequest, schedule_id: UUID, background: BackgroundTasks, key: IdempotencyKey = None
) -> Response:
    """An export as if it fired now, in your name and role; its next fire stays."""
    made: list[ExportRequest] = []
    limits: dict[str, str] = {}
    with context.unit_of_work(Action.RUN_SCHEDULE, str(schedule_id)) as work:

        def run() -> Answer:
            schedule = work.schedules.get(str(schedule_id))
            limits.update(enforce_rate_limit(context, work, ORDERS))
            job_id = work.schedules.run_now(
                schedule.id,
                now=dt.datetime.now(dt.UTC),
                requested_by=context.caller.name,
                requested_role=context.caller.role,
            )
            request = work.requests.get(job_id)
            planned = plan_order(order_of(context, request.config), context.services.catalog)
            work.requests.asked([request])  # the sensor leaves it to us for a while
            work.detail["job"] = job_id
            made.append(request)
            created = created_of(
                request, planned.plan, context.services.base_url, timezone=context.services.catalog.timezone
            )
            return accepted(created, created.tracking_url)

        response = once(context, work, key, run)
    response.headers.update(limits)
    return launched(context, made, response, background)


@router.delete("/{schedule_id}", summary="Delete a schedule", response_model=ScheduleDeleted)
def delete_schedule(context: CurrentRequest, schedule_id: UUID) -> ScheduleDeleted:
    """It fires no more; exports that it made stay."""
    with context.unit_of_work(Action.DELETE_SCHEDULE, str(schedule_id)) as work:
        work.schedules.delete(str(schedule_id))
    return ScheduleDeleted(deleted=True)


def _draft(context: RequestContext, work: UnitOfWork, wanted: ScheduleWanted) -> ScheduleDraft:
    return check_schedule(
        wanted,
        order_of(context, _configuration(context, work, wanted)),
        context.services.catalog,
        now=dt.datetime.now(dt.UTC),
        least_gap=context.services.settings.schedule_least_gap,
        longest_keep=context.services.settings.keep,
    )


def _configuration(
    context: RequestContext, work: UnitOfWork, wanted: ScheduleWanted
) -> Configuration | Mapping[str, Any]:
    """What it exports; a password is still in it."""
    if [wanted.config, wanted.template_id, wanted.preset].count(None) != 2:  # noqa: PLR2004 - of three
        raise RequestRejected("give a config, a template_id or a preset", field="config")
    if wanted.config is not None:
        if wanted.encryption is not None:
            raise RequestRejected("goes into config, which is given", field="encryption")
        return wanted.config
    encryption = with_clear_password(wanted.encryption) if wanted.encryption else None
    if wanted.preset is not None:
        return dict(preset_config(wanted.preset, encryption, context.services.catalog, context.caller.role))
    saved = work.templates.get(str(wanted.template_id)).config
    return {**saved, "encryption": encryption} if encryption is not None else saved


def _response(schedule: Schedule, context: RequestContext) -> ScheduleOut:
    upcoming = schedule.next_runs(dt.datetime.now(dt.UTC))
    return ScheduleOut(
        id=schedule.id,
        name=schedule.name,
        state=schedule.state,
        paused_reason=schedule.paused_reason,
        cron=schedule.cron,
        timezone=schedule.timezone,
        window=schedule.data_window or {"type": "none"},
        catch_up=CatchUp(schedule.catch_up),
        jitter_seconds=schedule.jitter_seconds,
        keep_days=schedule.keep_days,
        pause_after_failures=schedule.pause_after,
        config=schedule.config,
        owner=schedule.owner,
        owner_role=schedule.owner_role,
        next_run=upcoming[0] if upcoming else None,
        next_runs=upcoming,
        last_run=_last(schedule, context.services.base_url),
        last_status=schedule.last_status,
        late=schedule.late,
        failures=schedule.failures,
        version=schedule.version,
        created_at=schedule.created_at,
        updated_at=schedule.updated_at,
    )


def _last(schedule: Schedule, base: str) -> LastRun | None:
    if schedule.last_request_id is None or schedule.last_status is None or schedule.last_run_at is None:
        return None
    return LastRun(
        at=schedule.last_run_at,
        job_id=schedule.last_request_id,
        status=schedule.last_status,
        tracking_url=tracking_url(schedule.last_request_id, base),
    )
