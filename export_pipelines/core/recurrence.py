"""How often an export recurs: the words of people as cron, and which of the fires that are due become exports."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.core.cron import Cron
from export_pipelines.core.errors import RequestRejected

MISSED_AFTER = dt.timedelta(minutes=5)  # a fire that late was missed, and the catch-up policy decides about it
FIRES_AT_ONCE = 100  # of one schedule, so that a long backlog cannot keep others waiting
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY = re.compile(r"[1-9]|[12][0-9]|3[01]")
_SHOWN = 20  # characters of a wrong day, which may be a long text
_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_LAST_SURE_DAY = 28


class Frequency(StrEnum):
    """Shorthands for the usual expressions."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class CatchUp(StrEnum):
    """What becomes of fires that were missed, by an outage or a pause."""

    ALL = "all"  # each becomes an export, the oldest first
    LATEST = "latest"  # the newest does, unless one that was not missed follows
    SKIP = "skip"  # none does


class Timing(BaseModel):
    """Either a cron expression, or a frequency with day and time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str | None = Field(
        default=None,
        max_length=200,
        description="Five fields: minute, hour, day of the month, month, day of the week; L is a month's last day.",
    )
    frequency: Frequency | None = None
    day: str | int | None = Field(
        default=None, description="Of weekly: monday to sunday. Of monthly: 1 to 28, or last. Default: the first."
    )
    time: str | None = Field(default=None, max_length=5, description="HH:MM; of hourly, its minutes. Default: 00:00.")
    timezone: str = Field(default="UTC", max_length=64, description="Of IANA, such as Europe/Berlin.")

    def as_cron(self) -> Cron:
        """The one form that is kept; `RequestRejected` names what is wrong."""
        if (self.cron is None) == (self.frequency is None):
            raise RequestRejected("give either cron or a frequency, such as daily", field="cron")
        if self.cron is None:
            return Cron(expression=self._expression(), timezone=self.timezone)
        if self.day is not None or self.time is not None:
            raise RequestRejected("day and time go with a frequency; cron says them itself", field="cron")
        return Cron(expression=" ".join(self.cron.split()), timezone=self.timezone)

    def _expression(self) -> str:
        found = _TIME.fullmatch("00:00" if self.time is None else self.time)
        if found is None:
            raise RequestRejected(f"{self.time!r} is not a time of day such as 02:30", field="time")
        hour, minute = int(found[1]), int(found[2])
        match self.frequency:
            case Frequency.WEEKLY:
                return f"{minute} {hour} * * {self._weekday()}"
            case Frequency.MONTHLY:
                return f"{minute} {hour} {self._day_of_month()} * *"
        if self.day is not None:
            raise RequestRejected(f"goes with weekly or monthly, not with {self.frequency}", field="day")
        return f"{minute} * * * *" if self.frequency is Frequency.HOURLY else f"{minute} {hour} * * *"

    def _weekday(self) -> int:
        day = "monday" if self.day is None else str(self.day).lower()
        if day not in _WEEKDAYS:
            raise RequestRejected(f"{day[:_SHOWN]!r} is not a day from monday to sunday", field="day")
        return _WEEKDAYS.index(day)

    def _day_of_month(self) -> str:
        day = "1" if self.day is None else str(self.day).lower()
        if day == "last":
            return "L"
        if not _DAY.fullmatch(day):
            raise RequestRejected(f"{day[:_SHOWN]!r} is not a day from 1 to 28, or last", field="day")
        if int(day) > _LAST_SURE_DAY:
            raise RequestRejected(
                f"{day} is a day that some months lack, which would have no export; use last, or 1 to 28, or cron",
                field="day",
            )
        return day


@dataclass(frozen=True, kw_only=True)
class Due:
    """What a schedule owes at an instant."""

    fires: tuple[dt.datetime, ...]  # those that become exports, oldest first
    skipped: int  # those that the policy drops, as far as they were counted
    next_fire_at: dt.datetime | None  # may be due as well; None when there is none for 50 years


def due_fires(cron: Cron, next_fire_at: dt.datetime, now: dt.datetime, catch_up: CatchUp) -> Due:
    """The fires from ``next_fire_at``, which is not after ``now``, that become exports."""
    before = next_fire_at - dt.timedelta(microseconds=1)
    due: list[dt.datetime] = []
    following = None
    for fire in cron.fires(before):
        if fire > now:
            following = fire
            break
        if len(due) == FIRES_AT_ONCE:
            break
        due.append(fire)
    if catch_up is CatchUp.ALL:
        return Due(fires=tuple(due), skipped=0, next_fire_at=following or cron.next_fire(due[-1] if due else now))
    chosen = [fire for fire in due if fire >= now - MISSED_AFTER]
    if following is None:  # too many to walk through, or none will follow
        chosen = list(cron.until(max(before, now - MISSED_AFTER), now))
    if not chosen and catch_up is CatchUp.LATEST:
        newest = due[-1] if following and due else cron.newest(before, now)
        chosen = [newest] if newest else []
    skipped = len(set(due) - set(chosen))
    return Due(fires=tuple(chosen), skipped=skipped, next_fire_at=following or cron.next_fire(now))


def jittered(schedule_id: str, fire: dt.datetime, jitter_seconds: int) -> dt.datetime:
    """When the export of a fire may begin: a pause from nothing to the jitter, always the same one for this fire."""
    digest = hashlib.sha256(f"{schedule_id} {fire.astimezone(dt.UTC).isoformat()}".encode()).digest()
    return fire + dt.timedelta(seconds=int.from_bytes(digest[:8]) % (jitter_seconds + 1))
