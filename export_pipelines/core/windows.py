"""Half-open time windows and the periods of partitions."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.grains import Grain
from export_pipelines.core.types import Kind

EARLIEST = dt.date(1, 1, 2)  # one day inside what every zone offset can still express
LATEST = dt.date(9999, 12, 30)


UNDATED = "undated"  # the period of rows without a time


class Period(StrEnum):
    """What files are split by."""

    MONTH = "month"
    WEEK = "week"  # of ISO 8601: from Monday


def period_label(period: Period, year: int, number: int) -> str:
    """``2024-03`` for a month, ``2024-W09`` for a week of an ISO year; they sort as time does."""
    return f"{year:04d}-{number:02d}" if period is Period.MONTH else f"{year:04d}-W{number:02d}"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Instants from ``start_at`` up to, not including, ``end_at``; None is unbounded. Aware UTC."""

    start_at: dt.datetime | None = None
    end_at: dt.datetime | None = None
    with_unset: bool = False  # also rows whose time is NULL

    @property
    def unbounded(self) -> bool:
        return self.start_at is None and self.end_at is None


def parse_instant(value: str, *, timezone: str, field: str) -> dt.datetime:
    """An ISO 8601 date (start of that day in ``timezone``) or date and time, as aware UTC."""
    try:
        if len(value) == len("2024-01-01"):
            day = dt.date.fromisoformat(value)
            _check_range(day, field)
            return dt.datetime.combine(day, dt.time(), ZoneInfo(timezone)).astimezone(dt.UTC)
        instant = dt.datetime.fromisoformat(value)
    except ValueError as error:
        raise RequestRejected(
            f"{value!r} is not a date such as 2024-01-31 or an instant such as 2024-01-31T12:00:00Z", field=field
        ) from error
    return in_utc(instant, timezone=timezone, field=field)


def in_utc(instant: dt.datetime, *, timezone: str, field: str) -> dt.datetime:
    """An instant, or a time of ``timezone``, that the clocks of every zone can show; `RequestRejected` for others."""
    _check_range(instant.date(), field)
    aware = instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(timezone))
    found = aware.astimezone(dt.UTC)
    _check_range(found.date(), field)
    return found


def _check_range(day: dt.date, field: str) -> None:
    if not EARLIEST <= day <= LATEST:
        raise RequestRejected(f"{day} is outside {EARLIEST} to {LATEST}", field=field)


def as_compared(instant: dt.datetime, kind: Kind, timezone: str) -> dt.date | dt.datetime:
    """An edge of a window in the terms of a column: an instant, a local time, or a local day (rounded up)."""
    if kind is Kind.INSTANT:
        return instant
    local = instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    if kind is not Kind.DATE:
        return local
    return local.date() if local.time() == dt.time() else local.date() + dt.timedelta(days=1)


def parse_window(start: str | None, end: str | None, *, timezone: str, field: str = "filters.date_range") -> Window:
    """A window from untrusted text; an end that is not after the start is refused."""
    start_at = parse_instant(start, timezone=timezone, field=f"{field}.start") if start else None
    end_at = parse_instant(end, timezone=timezone, field=f"{field}.end") if end else None
    if start_at and end_at and end_at <= start_at:
        raise RequestRejected(
            f"{end!r} is not after start {start!r}; the window is half-open [start, end)", field=f"{field}.end"
        )
    return Window(start_at=start_at, end_at=end_at)


def window_in_words(window: Window, timezone: str) -> str:
    """``from 2024-01-01 up to, not including, 2024-12-31``, as days where it begins and ends with days of ``timezone``.

    An end that may have been meant as the last day comes with what to give in its place; the first of a month is
    hardly meant so.
    """
    zone = ZoneInfo(timezone)
    start, end = (at.astimezone(zone) if at else None for at in (window.start_at, window.end_at))
    if not all(at is None or at == midnight(at.date(), timezone) for at in (start, end)):
        bounds = (("from", window.start_at), ("up to, not including,", window.end_at))
        return " ".join(f"{word} {at.isoformat()}" for word, at in bounds if at)
    words = [f"from {start:%Y-%m-%d}"] if start else []
    if end:
        words.append(f"up to, not including, {end:%Y-%m-%d}")
    said = " ".join(words)
    if end and end.day != 1:
        said += f"; to include {end:%Y-%m-%d}, set the end to {end.date() + dt.timedelta(days=1):%Y-%m-%d}"
    return said


def next_period(start: dt.date, grain: Grain) -> dt.date:
    """First day of the period after the one that starts on ``start``."""
    if grain is Grain.DAY:
        return start + dt.timedelta(days=1)
    return (start.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def period_window(
    first: dt.date, last: dt.date, *, grain: Grain, history_start: dt.date, timezone: str = "UTC"
) -> Window:
    """The window of the periods starting on ``first`` to ``last``, both included; days begin in ``timezone``.

    The first period of all history is open to the past and holds rows without a time, so that every row has a
    partition.
    """
    opens = first <= history_start
    return Window(
        start_at=None if opens else midnight(first, timezone),
        end_at=period_end(last, grain, timezone),
        with_unset=opens,
    )


def period_end(start: dt.date, grain: Grain, timezone: str) -> dt.datetime:
    """When the period that starts on ``start`` is over."""
    return midnight(next_period(start, grain), timezone)


def period_of(instant: dt.datetime, *, grain: Grain, timezone: str) -> dt.date:
    """First day of the period that an instant is in."""
    day = instant.astimezone(ZoneInfo(timezone)).date()
    return day if grain is Grain.DAY else day.replace(day=1)


def count_periods(first: dt.date, last: dt.date, grain: Grain) -> int:
    """Periods from the one that ``first`` is in to the one that ``last`` is in, both included; 1 without a grain."""
    if grain is Grain.NONE:
        return 1
    if grain is Grain.DAY:
        return (last - first).days + 1
    return (last.year - first.year) * 12 + last.month - first.month + 1


def midnight(day: dt.date, timezone: str) -> dt.datetime:
    """When a day begins; where the clock skips midnight, right after the gap."""
    return dt.datetime.combine(day, dt.time(), ZoneInfo(timezone)).astimezone(dt.UTC)


def last_closed_month(now: dt.datetime) -> dt.date:
    """First day of the month before the one that ``now`` is in."""
    return (now.date().replace(day=1) - dt.timedelta(days=1)).replace(day=1)


def last_closed_day(now: dt.datetime) -> dt.date:
    """The day before the one that ``now`` is in."""
    return now.date() - dt.timedelta(days=1)
