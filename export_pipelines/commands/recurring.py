"""The options that say when and how an export recurs, and as a `ScheduleOrder`, new or as a change of a saved one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer
from pydantic import ValidationError

from export_pipelines.commands.expanding import OptionGroup
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.recurrence import CatchUp, Frequency
from export_pipelines.core.rejection import rejected
from export_pipelines.core.scheduling import ScheduleOrder
from export_pipelines.core.whole_tables import WholeTable
from export_pipelines.stores.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class RecurrenceOptions(OptionGroup):
    """When it recurs, which rows each time, and what becomes of failures."""

    panel: ClassVar[str] = "Schedule"

    cron: Annotated[str | None, typer.Option(help="Five fields, such as '0 2 * * 1-5'.")] = None
    frequency: Annotated[Frequency | None, typer.Option(help="In place of --cron.")] = None
    day: Annotated[
        str | None, typer.Option(help="Day of a weekly or monthly --frequency: monday to sunday, 1 to 28, or last.")
    ] = None
    time: Annotated[str | None, typer.Option(help="Time of day of a --frequency: HH:MM.")] = None
    timezone: Annotated[str | None, typer.Option(help="IANA name, such as Europe/Berlin.", show_default="UTC")] = None
    window: Annotated[
        str | None,
        typer.Option(
            help="Rows of each export: none, previous_day, previous_week, previous_month, last_N_days, "
            "since_last_success or fixed."
        ),
    ] = None
    since: Annotated[
        str | None, typer.Option(help="Start of a fixed window, and of the first one of since_last_success.")
    ] = None
    until: Annotated[str | None, typer.Option(help="End of a fixed window, exclusive.")] = None
    whole: Annotated[
        list[str] | None,
        typer.Option(
            help="What becomes of tables that no window limits: include, refuse or leave_out; or a table that comes "
            "whole, repeatable."
        ),
    ] = None
    catch_up: Annotated[CatchUp | None, typer.Option(help="What to do about missed fires.", show_default="latest")] = (
        None
    )
    jitter_seconds: Annotated[int | None, typer.Option(help="Start up to this many seconds later.")] = None
    keep_days: Annotated[int | None, typer.Option(help="How many days to keep its exports.")] = None
    pause_after: Annotated[
        int | None,
        typer.Option(help="Pause after this many failures in a row; 0 for never.", show_default="5"),
    ] = None


def schedule_order(options: RecurrenceOptions, *, name: str | None, saved: Schedule | None = None) -> ScheduleOrder:
    """What the options describe; what is not given stays as saved, or as it is by itself."""
    given = {word: value for word, value in {"name": name, **vars(options)}.items() if value is not None}
    window = _window(saved, given)
    if "pause_after" in given:
        given["pause_after_failures"] = given.pop("pause_after") or None
    try:
        return ScheduleOrder.model_validate({**_as_saved(saved, given), **given, **window})
    except ValidationError as error:
        raise rejected(error, model=ScheduleOrder, whole="schedule") from error


def _window(saved: Schedule | None, options: dict[str, Any]) -> dict[str, Any]:
    """Another word begins a new window; the tables that are exported whole go with either."""
    names = {"window": "type", "since": "start", "until": "end", "whole": "whole_tables"}
    asked = {name: options.pop(option, None) for option, name in names.items()}
    given = {name: value for name, value in asked.items() if value not in (None, [])}
    before = saved.data_window if saved else {}
    if given.get("whole_tables", [None])[0] in set(WholeTable):
        [given["whole_tables"], *rest] = given["whole_tables"]
        if rest:
            raise RequestRejected("is either a word or a list of tables", field="whole")
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
