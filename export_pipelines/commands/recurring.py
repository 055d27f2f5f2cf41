"""The options that say when and how an export recurs, and as a `ScheduleOrder`, new or as a change of a kept one."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from pydantic import ValidationError

from export_pipelines.core.recurrence import CatchUp, Frequency
from export_pipelines.core.rejection import rejected
from export_pipelines.core.scheduling import ScheduleOrder
from export_pipelines.stores.schedules import Schedule

CronText = Annotated[str | None, typer.Option("--cron", help="Five fields, such as '0 2 * * 1-5'.")]
Often = Annotated[Frequency | None, typer.Option("--frequency", help="Instead of cron.")]
Day = Annotated[str | None, typer.Option(help="monday to sunday, or 1 to 28, or last.")]
Time = Annotated[str | None, typer.Option(help="HH:MM.")]
Timezone = Annotated[str | None, typer.Option(help="Of IANA, such as Europe/Berlin; UTC unless said.")]
WindowWord = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="none, previous_day, previous_week, previous_month, last_N_days, since_last_success, fixed.",
    ),
]
Since = Annotated[str | None, typer.Option(help="Where fixed begins, and since_last_success at first.")]
Until = Annotated[str | None, typer.Option(help="Where fixed ends, not included.")]
Whole = Annotated[list[str] | None, typer.Option(help="Table that no window limits; repeatable.")]
MakeUp = Annotated[CatchUp | None, typer.Option("--catch-up", help="What becomes of missed fires; latest unless said.")]
Jitter = Annotated[int | None, typer.Option("--jitter-seconds", help="Begin up to this much later.")]
KeepDays = Annotated[int | None, typer.Option(help="How long its exports are kept.")]
PauseAfter = Annotated[
    int | None, typer.Option(help="Pause it after so many failures in a row, 0 for never; 5 unless said.")
]


def schedule_order(saved: Schedule | None = None, **given: Any) -> ScheduleOrder:
    """What the options describe; what is not given stays as kept, or as it is by itself."""
    options = {name: value for name, value in given.items() if value is not None}
    window = _window(saved, options)
    if "pause_after" in options:
        options["pause_after_failures"] = options.pop("pause_after") or None
    try:
        return ScheduleOrder.model_validate({**_as_saved(saved, options), **options, **window})
    except ValidationError as error:
        raise rejected(error, whole="schedule") from error


def _window(saved: Schedule | None, options: dict[str, Any]) -> dict[str, Any]:
    """Another word begins a new window; the tables that are exported whole go with either."""
    names = {"window": "type", "since": "start", "until": "end", "whole": "whole_tables"}
    asked = {name: options.pop(option, None) for option, name in names.items()}
    given = {name: value for name, value in asked.items() if value not in (None, [])}
    before = saved.data_window if saved else {}
    if "type" in given:
        before = {name: value for name, value in before.items() if name == "whole_tables"}
    return {"window": {**before, **given}} if before or given else {}


def _as_saved(saved: Schedule | None, options: dict[str, Any]) -> dict[str, Any]:
    if saved is None:
        return {}
    before = {
        "name": saved.name,
        "cron": saved.cron,
        "timezone": saved.timezone,
        "catch_up": saved.catch_up,
        "jitter_seconds": saved.jitter_seconds,
        "keep_days": saved.keep_days,
        "pause_after_failures": saved.pause_after,
    }
    if "frequency" in options:
        del before["cron"]
    return before
