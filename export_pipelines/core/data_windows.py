"""Which rows a recurring export reads: windows bound to the instant it was scheduled for, never to when it ran.

A window is worked out once, when a fire becomes a request, and stands in that request's configuration; a retry reads
the same one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import ExportConfig
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rejection import rejected
from export_pipelines.core.whole_tables import WholeTable, WholeTables, as_whole, refusal, require_named
from export_pipelines.core.windows import Window, midnight, parse_instant, parse_window

MAX_DAYS = 3660
_FORM = "must be a word such as previous_day or last_7_days, or an object with a type"
_DAYS = re.compile(r"last_([1-9][0-9]{0,4})_days")


class WindowKind(StrEnum):
    """What a window is counted from."""

    NONE = "none"
    PREVIOUS_DAY = "previous_day"
    PREVIOUS_WEEK = "previous_week"
    PREVIOUS_MONTH = "previous_month"
    LAST_N_DAYS = "last_n_days"
    SINCE_LAST_SUCCESS = "since_last_success"
    FIXED = "fixed"


class DataWindow(BaseModel):
    """The rows of each export of a schedule; a plain text such as ``previous_day`` or ``last_7_days`` is enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: WindowKind = Field(
        default=WindowKind.NONE,
        description="Days, weeks (of ISO 8601) and months are those of the schedule's timezone.",
    )
    days: int | None = Field(default=None, ge=1, le=MAX_DAYS, description="Of last_n_days: whole days before the fire.")
    start: str | None = Field(
        default=None, max_length=64, description="Of fixed, and of since_last_success until an export has succeeded."
    )
    end: str | None = Field(default=None, max_length=64, description="Of fixed; not included.")
    whole_tables: WholeTables = Field(
        default=None,
        description="Tables without a time column: include, refuse or leave_out, or a list of tables that come whole; "
        "as `filters.whole_tables` of a configuration.",
    )

    @model_validator(mode="before")
    @classmethod
    def _in_a_word(cls, raw: Any) -> Any:
        if not isinstance(raw, str | dict | DataWindow):
            raise ValueError(_FORM)  # noqa: TRY004 - pydantic answers for ValueError alone
        given: Any = {"type": raw} if isinstance(raw, str) else raw
        kind = given.get("type") if isinstance(given, dict) else None
        counted = _DAYS.fullmatch(kind) if isinstance(kind, str) else None
        return {**given, "type": WindowKind.LAST_N_DAYS, "days": int(counted[1])} if counted else given

    @model_validator(mode="after")
    def _complete(self) -> Self:
        counts, fixed = self.type is WindowKind.LAST_N_DAYS, self.type is WindowKind.FIXED
        if counts != (self.days is not None):
            raise ValueError("last_n_days and days go together, for example last_7_days")
        if self.type is WindowKind.SINCE_LAST_SUCCESS and self.start is None:
            raise ValueError("since_last_success needs a start for the first export")
        if fixed and (self.start is None or self.end is None):
            raise ValueError("fixed needs start and end")
        if (self.start is not None and not fixed and self.type is not WindowKind.SINCE_LAST_SUCCESS) or (
            self.end is not None and not fixed
        ):
            raise ValueError(f"{self.type} is counted from the time of the schedule and takes neither start nor end")
        return self


def window_at(
    wanted: DataWindow, scheduled_for: dt.datetime, *, timezone: str, covered_until: dt.datetime | None = None
) -> Window:
    """The window of the export scheduled for an instant; `RequestRejected` when nothing can be in it.

    ``covered_until`` is up to where exports of this schedule have succeeded.
    """
    today = scheduled_for.astimezone(ZoneInfo(timezone)).date()
    match wanted.type:
        case WindowKind.NONE:
            return Window()
        case WindowKind.FIXED:
            return _fixed(wanted, timezone)
        case WindowKind.SINCE_LAST_SUCCESS:
            return _since(wanted, scheduled_for, timezone, covered_until)
        case WindowKind.PREVIOUS_DAY:
            first, last = today - dt.timedelta(days=1), today
        case WindowKind.LAST_N_DAYS:
            first, last = today - dt.timedelta(days=wanted.days or 1), today
        case WindowKind.PREVIOUS_WEEK:
            last = today - dt.timedelta(days=today.weekday())
            first = last - dt.timedelta(days=7)
        case WindowKind.PREVIOUS_MONTH:
            last = today.replace(day=1)
            first = (last - dt.timedelta(days=1)).replace(day=1)
    return Window(start_at=midnight(first, timezone), end_at=midnight(last, timezone))


def is_covered(wanted: DataWindow, scheduled_for: dt.datetime, covered_until: dt.datetime | None) -> bool:
    """Whether an export that succeeded has read the rows of this fire already, as one by hand may have."""
    since = wanted.type is WindowKind.SINCE_LAST_SUCCESS
    return since and covered_until is not None and covered_until >= scheduled_for


def stored_window(given: Mapping[str, Any]) -> DataWindow:
    """A window out of the table of schedules; `RequestRejected` for one that this version does not know."""
    try:
        return DataWindow.model_validate(given)
    except ValidationError as error:
        raise rejected(error, model=DataWindow, within="window") from error


def _fixed(wanted: DataWindow, timezone: str) -> Window:
    """Both ends, never an open one: rows that nobody dated would be all rows."""
    for name, text in (("start", wanted.start), ("end", wanted.end)):
        if not text:
            raise RequestRejected("is empty; give a date or an instant", field=f"window.{name}")
    return parse_window(wanted.start, wanted.end, timezone=timezone, field="window")


def _since(wanted: DataWindow, scheduled_for: dt.datetime, timezone: str, covered_until: dt.datetime | None) -> Window:
    start_at = covered_until or parse_instant(str(wanted.start), timezone=timezone, field="window.start")
    if start_at >= scheduled_for:
        raise RequestRejected(
            f"{start_at.isoformat()} is not before {scheduled_for.isoformat()}, when the export is due; "
            "there is nothing between them",
            field="window.start",
        )
    return Window(start_at=start_at, end_at=scheduled_for.astimezone(dt.UTC))


def windowed(
    config: Mapping[str, Any], window: Window, whole_tables: WholeTable | tuple[str, ...] | None = None
) -> dict[str, Any]:
    """The configuration with the window as the range of every table, and what becomes of those it cannot limit."""
    if window.unbounded:
        return dict(config)
    _no_modules(config.get("modules"))
    bounds = {"start": window.start_at, "end": window.end_at}
    limits: dict[str, Any] = {"date_range": {name: at.isoformat() for name, at in bounds.items() if at is not None}}
    if whole_tables is not None:
        limits["whole_tables"] = whole_tables if isinstance(whole_tables, str) else list(whole_tables)
    if not config.get("data_sources"):
        return {**config, "filters": {**(config.get("filters") or {}), **limits}}
    limited = [{**source, "filters": {**(source.get("filters") or {}), **limits}} for source in config["data_sources"]]
    return {**config, "data_sources": limited}


def check_window(wanted: DataWindow, order: ExportConfig, catalog: Catalog) -> None:
    """`RequestRejected` when the window and the tables do not go together."""
    if order.convert is not None:
        raise RequestRejected("is for a single export; a schedule names tables", field="convert")
    if order.point_in_time is not None:
        raise RequestRejected(
            "is one moment of the past, the same at every fire; leave it out, or order that backup once",
            field="point_in_time",
        )
    if order.export_type != "selective" and wanted != DataWindow():
        raise RequestRejected(
            f"goes with tables of a selective export; {order.export_type} takes all there is: leave one of them out",
            field="window",
        )
    require_named(wanted.whole_tables, (source.type for source in order.sources()), field="window.whole_tables")
    if wanted.type is WindowKind.NONE:
        return
    _no_modules(order.modules)
    _no_second_range(order)
    for source in order.sources():
        own = source.filters.whole_tables if source.filters else None
        whole = as_whole(
            source.type,
            own if wanted.whole_tables is None else wanted.whole_tables,
            has_time_column=catalog.table(source.type).time_column is not None,
            named_alone=order.data_sources is not None,
        )
        if whole is WholeTable.REFUSE:
            raise refusal(source.type, whole_tables="window.whole_tables", field="window")


def _no_modules(modules: Collection[str] | None) -> None:
    """A window limits the tables that are named; what a module comes to mean later it would leave whole."""
    if modules:
        raise RequestRejected("go without a window; name the tables", field="config.modules")


def _no_second_range(order: ExportConfig) -> None:
    for source in order.sources():
        if source.filters is not None and source.filters.date_range is not None:
            raise RequestRejected(
                "is set by the schedule's window; leave one of them out", field="config.filters.date_range"
            )
