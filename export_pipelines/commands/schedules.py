"""``schedules create|update|list|show|pause|resume|run|delete``: recurring exports, as an operator."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer
from rich.table import Column
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work, record, shell_user
from export_pipelines.commands.expanding import expanded
from export_pipelines.commands.ordering import (
    AsJson,
    OrderOptions,
    Tenant,
    changed_order,
    new_order,
    require_tenant_id,
)
from export_pipelines.commands.recurring import RecurrenceOptions, schedule_order
from export_pipelines.core.access import Action, Role
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.model import TenantScope
from export_pipelines.core.recurrence import Frequency
from export_pipelines.core.scheduling import ScheduleDraft, ScheduleOrder
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.planning.orders import Order
from export_pipelines.pipeline.planning.scheduling import Preset, check_schedule, preset_config
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.control import Control
from export_pipelines.stores.schedules import Schedule, ScheduleStore

app = typer.Typer(
    no_args_is_help=True, help="Exports that recur: save, change, look at, pause, resume, run and delete them."
)

ScheduleId = Annotated[str, typer.Argument(help="ID of the schedule.")]


_PERIOD = ("from_", "to")  # a schedule has a window instead
_NAME = ("name",)  # the schedule's


@app.command()
@expanded(without=(*_PERIOD, *_NAME), defaults={"format_": "csv"})
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="Name of the schedule and title of its exports.")],
    recurrence: RecurrenceOptions,
    options: OrderOptions,
    preset: Annotated[Preset | None, typer.Option(help="In place of tables; needs --encrypt.")] = None,
    as_json: AsJson = False,
) -> None:
    """Save a schedule; the daemon of `up` makes an export each time it fires."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        require_tenant_id(tenant)
        if preset is not None and recurrence.cron is None and recurrence.frequency is None:
            recurrence = replace(recurrence, frequency=Frequency.DAILY)
        order = schedule_order(recurrence, name=name)
        if preset is not None:
            sealing = options.product.encryption.given(settings).get("encryption")
            config = preset_config(preset, sealing, open_catalog(settings), None)
        else:
            config = {"format": "csv", **new_order(options, settings), "name": name}
        _say(_save(order, config, tenant, settings), as_json=as_json)


@app.command()
@expanded(without=(*_PERIOD, *_NAME), changes=True)
def update(
    schedule_id: ScheduleId,
    recurrence: RecurrenceOptions,
    options: OrderOptions,
    name: Annotated[str | None, typer.Option(help="Name of the schedule.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a schedule. What is not given stays as it is, and so does its owner.

    Tables, columns and rows are one choice: to change some of it, give --tables or --module and all the rest.
    """
    with output.reported(as_json=as_json), at_work(load_settings()) as services, services.control.transaction():
        store = _store(services)
        current = store.get(schedule_id, lock=True)
        order = schedule_order(recurrence, name=name, saved=current)
        role = Role(current.owner_role) if current.owner_role else None
        config = changed_order(current.config, options, services.settings)
        draft = _checked(order, config, current.tenant_id, services, role)
        saved = store.update(schedule_id, draft, owner=current.owner, owner_role=role)
        _record(services.control, Action.UPDATE_SCHEDULE, saved)
        _say(saved, as_json=as_json)


@app.command("list")
def list_schedules(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    with output.reported(as_json=as_json), at_work(load_settings()) as services:
        found, _ = _store(services).page(tenant_id=tenant, limit=limit)
        if as_json:
            output.say_json([_payload(schedule) for schedule in found])
            return
        identity = Column("id", no_wrap=True, min_width=36)
        grid = Grid(identity, "tenant", "name", "cron", "timezone", "state", "next run", "last run", "last status")
        now = dt.datetime.now(dt.UTC)
        for schedule in found:
            state = f"{schedule.state}, late" if schedule.late else schedule.state
            words = (schedule.id, schedule.tenant_id, schedule.name, schedule.cron, schedule.timezone, state)
            runs = (_minute(next(iter(schedule.next_runs(now, 1)), None)), _minute(schedule.last_run_at))
            grid.add_row(*(output.plain(word) for word in (*words, *runs, schedule.last_status or "")))
        output.out.print(grid)


@app.command()
def show(schedule_id: ScheduleId, as_json: AsJson = False) -> None:
    """One schedule with its next five fires."""
    with output.reported(as_json=as_json), at_work(load_settings()) as services:
        payload = _payload(_store(services).get(schedule_id))
        if as_json:
            output.say_json(payload)
            return
        for name, value in payload.items():
            if value is not None:
                output.say(f"{name:16} {value}")


@app.command()
def pause(schedule_id: ScheduleId) -> None:
    """It fires no more until it is resumed."""
    with output.reported(), at_work(load_settings()) as services, services.control.transaction():
        paused = _store(services).pause(schedule_id, reason=f"paused by {shell_user()}")
        _record(services.control, Action.PAUSE_SCHEDULE, paused)
        output.say("paused")


@app.command()
def resume(
    schedule_id: ScheduleId,
    catch_up: Annotated[bool, typer.Option(help="Leave what was missed to its catch-up policy.")] = False,
) -> None:
    """Go on, from now unless said otherwise."""
    with output.reported(), at_work(load_settings()) as services, services.control.transaction():
        store = _store(services)
        resumed = store.resume(schedule_id, now=dt.datetime.now(dt.UTC), catch_up=catch_up)
        _record(services.control, Action.RESUME_SCHEDULE, resumed)
        output.say(f"active; fires {resumed.next_fire_at:%Y-%m-%d %H:%M} UTC")


@app.command()
def run(schedule_id: ScheduleId) -> None:
    """An export as if it fired now; the daemon of `up` runs it."""
    with output.reported(), at_work(load_settings()) as services, services.control.transaction():
        store = _store(services)
        request_id = store.run_now(
            schedule_id, now=dt.datetime.now(dt.UTC), requested_by=shell_user(), requested_role=None
        )
        _record(services.control, Action.RUN_SCHEDULE, store.get(schedule_id), {"job": request_id})
        output.say(request_id)


@app.command()
def delete(schedule_id: ScheduleId) -> None:
    """It fires no more; exports that it made stay."""
    with output.reported(), at_work(load_settings()) as services, services.control.transaction():
        _record(services.control, Action.DELETE_SCHEDULE, _store(services).delete(schedule_id))
        output.say("deleted")


def _checked(
    order: ScheduleOrder, config: dict[str, Any], tenant_id: str, services: ExportServices, role: Role | None
) -> ScheduleDraft:
    fired = Order(configuration=Configuration.of(config), scope=TenantScope(tenant_id=tenant_id), role=role)
    return check_schedule(
        order,
        fired,
        services.catalog,
        now=dt.datetime.now(dt.UTC),
        least_gap=services.settings.schedule_least_gap,
        longest_keep=services.settings.keep,
    )


def _save(order: ScheduleOrder, config: dict[str, Any], tenant: str, settings: Settings) -> Schedule:
    with open_services(settings) as unprepared:  # refused before an embedded server is started for it
        draft = _checked(order, config, tenant, unprepared, None)
    with at_work(settings) as services, services.control.transaction():
        made = _store(services).create(draft, tenant_id=tenant, owner=shell_user(), owner_role=None)
        _record(services.control, Action.CREATE_SCHEDULE, made)
    return made


def _say(schedule: Schedule, *, as_json: bool) -> None:
    if as_json:
        output.say_json(_payload(schedule))
        return
    output.say(schedule.id)
    for fire in schedule.next_runs(dt.datetime.now(dt.UTC)):
        output.err.print(output.plain(f"fires {fire:%Y-%m-%d %H:%M} UTC"))


def _store(services: ExportServices) -> ScheduleStore:
    return ScheduleStore(services.control, services.secrets, late_after=services.settings.schedule_late_after)


def _record(control: Control, action: Action, schedule: Schedule, detail: dict[str, Any] | None = None) -> None:
    record(control, action, target=(action.subject, schedule.id), tenant_id=schedule.tenant_id, detail=detail)


def _payload(schedule: Schedule) -> dict[str, Any]:
    return {**asdict(schedule), "next_runs": [fire.isoformat() for fire in schedule.next_runs(dt.datetime.now(dt.UTC))]}


def _minute(at: dt.datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
