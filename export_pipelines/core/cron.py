"""When a cron expression fires, in a timezone with its changes of the clock.

`cronsim` reads the expression and walks the calendar; which instants local times are is decided here, because
libraries disagree about it (ADR 0022). Fixed times, such as ``30 2 * * *``, fire once for each local time: one that the
clock skips fires right after the gap, one that comes twice fires the first time. Expressions whose minutes or hours
begin with a star follow real time: they fire at every minute at which the clock on the wall fits.
"""

from __future__ import annotations

import datetime as dt
import heapq
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from export_pipelines.core.errors import RequestRejected

_FIELDS = 5
_MOST_CHARACTERS = 200
_STEPS = {"minute": 60, "hour": 24, "day of the month": 31, "month": 12, "day of the week": 7}  # the longest of each
_STEP = re.compile(r"/([0-9]+)")
_SAMPLE = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - a local time; every date of 28 years comes after it
_MINUTE, _DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)
_CYCLE = dt.timedelta(days=28 * 365 + 7)  # after which days of months and of weeks meet again
_OF_THE_MACHINE = frozenset({"localtime", "Factory", "posixrules"})  # files beside the zones of IANA
_LOOKS_BACK = (dt.timedelta(hours=1), dt.timedelta(days=2), dt.timedelta(days=40), dt.timedelta(days=400))


@dataclass(frozen=True, kw_only=True)
class Cron:
    """A checked expression in a timezone."""

    expression: str
    timezone: str

    def __post_init__(self) -> None:
        check_timezone(self.timezone)
        _check(self.expression)

    @property
    def follows_real_time(self) -> bool:
        minutes, hours, *_ = self.expression.split()
        return minutes.startswith("*") or hours.startswith("*")

    def fires(self, after: dt.datetime) -> Iterator[dt.datetime]:
        """Instants later than ``after``, in order, without end; ends where nothing fits for 50 years."""
        instants = self._every(after) if self.follows_real_time else self._once(after)
        previous = after
        for instant in instants:
            if instant > previous:  # two local times within a gap are one instant
                yield instant
                previous = instant

    def least_gap(self) -> dt.timedelta:
        """The shortest time between two fires by a clock that is never changed; at most a day."""
        read = CronSim(self.expression, _SAMPLE)
        times = sorted(dt.timedelta(hours=hour, minutes=minute) for hour in read.hours for minute in read.minutes)
        least = min((later - earlier for earlier, later in pairwise(times)), default=_DAY)
        overnight = _DAY - times[-1] + times[0]
        return overnight if overnight < least and self._fires_on_days_in_a_row() else least

    def next_fire(self, after: dt.datetime) -> dt.datetime | None:
        return next(self.fires(after), None)

    def upcoming(self, after: dt.datetime, count: int) -> list[dt.datetime]:
        return list(islice(self.fires(after), count))

    def until(self, after: dt.datetime, end: dt.datetime) -> Iterator[dt.datetime]:
        """Fires later than ``after``, up to and including ``end``."""
        for fire in self.fires(after):
            if fire > end:
                return
            yield fire

    def newest(self, after: dt.datetime, end: dt.datetime) -> dt.datetime | None:
        """The last fire of `until`, looked for from its end: a year of minutes is never walked through."""
        for back in _LOOKS_BACK:
            start = end - back
            if start <= after:
                break
            found = list(self.until(start, end))
            if found:
                return found[-1]
        return max(self.until(after, end), default=None)

    def _fires_on_days_in_a_row(self) -> bool:
        _, _, *dates = self.expression.split()
        days = takewhile(lambda day: day < _SAMPLE + _CYCLE, CronSim(" ".join(("0", "0", *dates)), _SAMPLE))
        return any(following - day == _DAY for day, following in pairwise(days))

    def _once(self, after: dt.datetime) -> Iterator[dt.datetime]:
        zone = ZoneInfo(self.timezone)
        for local in CronSim(self.expression, _local(after, zone)):
            yield _first_instant(local, zone)

    def _every(self, after: dt.datetime) -> Iterator[dt.datetime]:
        zone = ZoneInfo(self.timezone)
        again: list[dt.datetime] = []  # local times that come a second time, after all of the first
        for local in CronSim(self.expression, _local(after, zone) - _repeated(after, zone)):
            first, second = (_instant(local, zone, fold) for fold in (0, 1))
            if second < first:
                continue  # the clock skips it
            while again and again[0] < first:
                yield heapq.heappop(again)
            yield first
            if second > first:
                heapq.heappush(again, second)


def check_timezone(name: str) -> None:
    """`RequestRejected` for what is no IANA name."""
    if name not in timezones():
        raise RequestRejected(f"{name!r} is not an IANA timezone such as Europe/Berlin or UTC", field="timezone")


@lru_cache(maxsize=1)
def timezones() -> frozenset[str]:
    """The names of IANA. To list them reads some 600 files, more than a catalog takes to load otherwise."""
    return frozenset(available_timezones()) - _OF_THE_MACHINE


@lru_cache(maxsize=4096)
def _check(expression: str) -> None:
    if len(expression) > _MOST_CHARACTERS:
        raise RequestRejected(f"is longer than {_MOST_CHARACTERS} characters", field="cron")
    if expression.startswith("@"):
        raise RequestRejected(
            f"{expression!r} is a name; write the five fields, for example 0 2 * * * for every day at two", field="cron"
        )
    count = len(expression.split())
    if count != _FIELDS:
        raise RequestRejected(
            f"has {count} fields instead of {_FIELDS}: minute, hour, day of the month, month, day of the week; "
            "seconds and years are not possible",
            field="cron",
        )
    _check_steps(expression)
    try:
        fires = next(CronSim(expression, _SAMPLE), None)
    except CronSimError as error:
        raise RequestRejected(f"{expression!r}: {_message(error)}", field="cron") from error
    if fires is None:
        raise RequestRejected(f"{expression!r} names a date that never comes", field="cron")


def _check_steps(expression: str) -> None:
    """``*/90`` is read as every hour by any cron, and meant by nobody."""
    for (name, longest), text in zip(_STEPS.items(), expression.split(), strict=True):
        for step in _STEP.findall(text):
            if int(step) > longest:
                raise RequestRejected(
                    f"{expression!r}: a step of {step} is longer than the {longest} values of the {name}, "
                    "which begin anew each time",
                    field="cron",
                )


def _message(error: CronSimError) -> str:
    if str(error) == "Bad day-of-month":
        return "the day of the month is none, or none of these months has it"
    return f"{str(error).removeprefix('Bad ')} is out of its range or not in the form of cron"


def _local(instant: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """What the clock on the wall shows, without a zone."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _instant(local: dt.datetime, zone: ZoneInfo, fold: int) -> dt.datetime:
    return local.replace(tzinfo=zone, fold=fold).astimezone(dt.UTC)


def _first_instant(local: dt.datetime, zone: ZoneInfo) -> dt.datetime:
    """When the clock shows this time first; where it never does, the first minute after the gap."""
    before, after = _instant(local, zone, 0), _instant(local, zone, 1)
    if before <= after:
        return before
    low, high = after, before  # the clock jumps between them
    while high - low > _MINUTE:
        middle = low + (high - low) // 2
        middle = middle.replace(second=0, microsecond=0)
        low, high = (low, middle) if _local(middle, zone) >= local else (middle, high)
    return high


def _repeated(instant: dt.datetime, zone: ZoneInfo) -> dt.timedelta:
    """How far back local times lie that the clock will show again, when it shows these for the first time."""
    shown = instant.astimezone(zone)
    if shown.fold:
        return dt.timedelta(0)
    local = shown.replace(tzinfo=None)
    return max(_instant(local, zone, 1) - _instant(local, zone, 0), dt.timedelta(0))
