"""``schedules create|update|list|show|pause|resume|run|delete``: recurring exports, as an operator."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Column
from rich.table import Table as Grid

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work, record, shell_user
from export_pipelines.commands.ordering import (
    Aggregates,
    AsJson,
    Compression,
    Email,
    Encrypt,
    Fields,
    Filters,
    Format,
    IncludeDeleted,
    ManyFiles,
    MaxSize,
    Modules,
    Options,
    Recipients,
    Split,
    Tables,
    Tenant,
    encryption,
    export_order,
    require_tenant_id,
)
from export_pipelines.commands.passwords import PasswordFile
from export_pipelines.commands.recurring import (
    CronText,
    Day,
    Jitter,
    KeepDays,
    MakeUp,
    Often,
    PauseAfter,
    Since,
    Time,
    Timezone,
    Until,
    Whole,
    WindowWord,
    schedule_order,
)
from export_pipelines.core.access import Action, Role
from export_pipelines.core.model import TenantScope
from export_pipelines.core.recurrence import Frequency
from export_pipelines.core.scheduling import ScheduleDraft, ScheduleOrder
from export_pipelines.pipeline.assembly import open_box, open_catalog
from export_pipelines.pipeline.planning.scheduling import Preset, check_schedule, preset_config
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.control import Control
from export_pipelines.stores.schedules import Schedule, ScheduleStore

app = typer.Typer(
    no_args_is_help=True, help="Exports that recur: save, change, look at, pause, resume, run and delete them."
)

ScheduleId = Annotated[str, typer.Argument(help="Id of the schedule.")]


@app.command()
def create(
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="What it is called.")],
    tables: Tables = "",
    format_: Format = "csv",
    cron: CronText = None,
    frequency: Often = None,
    day: Day = None,
    time: Time = None,
    timezone: Timezone = None,
    window: WindowWord = None,
    since: Since = None,
    until: Until = None,
    whole: Whole = None,
    catch_up: MakeUp = None,
    jitter_seconds: Jitter = None,
    keep_days: KeepDays = None,
    pause_after: PauseAfter = None,
    preset: Annotated[Preset | None, typer.Option(help="Instead of tables; needs --encrypt.")] = None,
    module: Modules = None,
    fields: Fields = None,
    filter_: Filters = None,
    aggregate: Aggregates = None,
    compression: Compression = "none",
    split: Split = None,
    max_size_mb: MaxSize = None,
    many_files: ManyFiles = False,
    encrypt: Encrypt = None,
    recipient: Recipients = None,
    password_file: PasswordFile = None,
    option: Options = None,
    email: Email = None,
    include_deleted: IncludeDeleted = False,
    as_json: AsJson = False,
) -> None:
    """Save a schedule; the daemon of `up` makes an export of each of its fires."""
    with output.reported(as_json=as_json):
        settings = load_settings()
        require_tenant_id(tenant)
        order = schedule_order(
            name=name,
            cron=cron,
            frequency=frequency or (Frequency.DAILY if preset and not cron else None),
            day=day,
            time=time,
            timezone=timezone,
            window=window,
            since=since,
            until=until,
            whole=whole,
            catch_up=catch_up,
            jitter_seconds=jitter_seconds,
            keep_days=keep_days,
            pause_after=pause_after,
        )
        sealing = encryption(encrypt, recipient or [], password_file, settings)
        if preset is not None:
            config = preset_config(preset, sealing, open_catalog(settings), None)
        else:
            config = export_order(
                tables=tables,
                modules=module,
                format_=format_,
                dates=(None, None),
                fields=fields,
                filters=filter_,
                aggregates=aggregate,
                compression=compression,
                split=split,
                max_size_mb=max_size_mb,
                many_files=many_files,
                encryption=sealing,
                option=option,
                name=name,
                email=email,
                include_deleted=include_deleted,
            )
        _say(_save(order, config, tenant, settings), as_json=as_json)


@app.command()
def update(
    schedule_id: ScheduleId,
    name: Annotated[str | None, typer.Option(help="What it is called.")] = None,
    cron: CronText = None,
    frequency: Often = None,
    day: Day = None,
    time: Time = None,
    timezone: Timezone = None,
    window: WindowWord = None,
    since: Since = None,
    until: Until = None,
    whole: Whole = None,
    catch_up: MakeUp = None,
    jitter_seconds: Jitter = None,
    keep_days: KeepDays = None,
    pause_after: PauseAfter = None,
    as_json: AsJson = False,
) -> None:
    """Change when and how it recurs. What is not given stays, and so do its owner and what it exports."""
    with output.reported(as_json=as_json), at_work(load_settings()) as (settings, control), control.transaction():
        store = _store(settings, control)
        current = store.get(schedule_id, lock=True)
        order = schedule_order(
            current,
            name=name,
            cron=cron,
            frequency=frequency,
            day=day,
            time=time,
            timezone=timezone,
            window=window,
            since=since,
            until=until,
            whole=whole,
            catch_up=catch_up,
            jitter_seconds=jitter_seconds,
            keep_days=keep_days,
            pause_after=pause_after,
        )
        role = Role(current.owner_role) if current.owner_role else None
        draft = _checked(order, current.config, current.tenant_id, settings, role)
        saved = store.update(schedule_id, draft, owner=current.owner, owner_role=role)
        _record(control, Action.UPDATE_SCHEDULE, saved)
        _say(saved, as_json=as_json)


@app.command("list")
def list_schedules(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    with output.reported(as_json=as_json), at_work(load_settings()) as (settings, control):
        found, _ = _store(settings, control).page(tenant_id=tenant, limit=limit)
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
    with output.reported(as_json=as_json), at_work(load_settings()) as (settings, control):
        payload = _payload(_store(settings, control).get(schedule_id))
        if as_json:
            output.say_json(payload)
            return
        for name, value in payload.items():
            if value is not None:
                output.say(f"{name:16} {value}")


@app.command()
def pause(schedule_id: ScheduleId) -> None:
    """It fires no more until it is resumed."""
    with output.reported(), at_work(load_settings()) as (settings, control), control.transaction():
        paused = _store(settings, control).pause(schedule_id, reason=f"paused by {shell_user()}")
        _record(control, Action.PAUSE_SCHEDULE, paused)
        output.say("paused")


@app.command()
def resume(
    schedule_id: ScheduleId,
    catch_up: Annotated[bool, typer.Option(help="Leave what was missed to its catch-up policy.")] = False,
) -> None:
    """Go on, from now unless said otherwise."""
    with output.reported(), at_work(load_settings()) as (settings, control), control.transaction():
        store = _store(settings, control)
        resumed = store.resume(schedule_id, now=dt.datetime.now(dt.UTC), catch_up=catch_up)
        _record(control, Action.RESUME_SCHEDULE, resumed)
        output.say(f"active; fires {resumed.next_fire_at:%Y-%m-%d %H:%M} UTC")


@app.command()
def run(schedule_id: ScheduleId) -> None:
    """An export as if it fired now; the daemon of `up` runs it."""
    with output.reported(), at_work(load_settings()) as (settings, control), control.transaction():
        store = _store(settings, control)
        request_id = store.run_now(
            schedule_id, now=dt.datetime.now(dt.UTC), requested_by=shell_user(), requested_role=None
        )
        _record(control, Action.RUN_SCHEDULE, store.get(schedule_id), {"job": request_id})
        output.say(request_id)


@app.command()
def delete(schedule_id: ScheduleId) -> None:
    """It fires no more; exports that it made stay."""
    with output.reported(), at_work(load_settings()) as (settings, control), control.transaction():
        _record(control, Action.DELETE_SCHEDULE, _store(settings, control).delete(schedule_id))
        output.say("deleted")


def _checked(
    order: ScheduleOrder, config: dict[str, Any], tenant_id: str, settings: Settings, role: Role | None
) -> ScheduleDraft:
    return check_schedule(
        order,
        config,
        TenantScope(tenant_id=tenant_id),
        open_catalog(settings),
        role=role,
        now=dt.datetime.now(dt.UTC),
        least_gap=settings.schedule_least_gap,
    )


def _save(order: ScheduleOrder, config: dict[str, Any], tenant: str, settings: Settings) -> Schedule:
    draft = _checked(order, config, tenant, settings, None)
    with at_work(settings) as (workplace, control), control.transaction():
        made = _store(workplace, control).create(draft, tenant_id=tenant, owner=shell_user(), owner_role=None)
        _record(control, Action.CREATE_SCHEDULE, made)
    return made


def _say(schedule: Schedule, *, as_json: bool) -> None:
    if as_json:
        output.say_json(_payload(schedule))
        return
    output.say(schedule.id)
    for fire in schedule.next_runs(dt.datetime.now(dt.UTC)):
        output.err.print(output.plain(f"fires {fire:%Y-%m-%d %H:%M} UTC"))


def _store(settings: Settings, control: Control) -> ScheduleStore:
    return ScheduleStore(control, open_box(settings), late_after=settings.schedule_late_after)


def _record(control: Control, action: Action, schedule: Schedule, detail: dict[str, Any] | None = None) -> None:
    record(control, action, target=(action.subject, schedule.id), tenant_id=schedule.tenant_id, detail=detail)


def _payload(schedule: Schedule) -> dict[str, Any]:
    return {**asdict(schedule), "next_runs": [fire.isoformat() for fire in schedule.next_runs(dt.datetime.now(dt.UTC))]}


def _minute(at: dt.datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
