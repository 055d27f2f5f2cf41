"""What time it is for schedules: the control database's clock, held against one that nobody can set.

A wall clock may be set, by hand, by NTP or by a hypervisor. A clock that counts since the machine booted may not, so
the difference between two looks at both says whether the wall clock was stepped. A step back is believed at once: what
is done too late is done all the same. A step forward would make exports of rows that do not exist yet, and no later
export would read them; it is believed after `CONFIRMED_AFTER_SECONDS` in which it was not taken back, and time goes on
from before the step until then.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum

STEP_SECONDS = 30.0
"""Less than this is no step: looks are not instantaneous, and NTP corrects such differences by itself."""
CONFIRMED_AFTER_SECONDS = 900.0


class Step(StrEnum):
    """What a look found that the look before had not."""

    NONE = "none"
    AHEAD = "ahead"  # stepped forward, not believed yet
    CONFIRMED = "confirmed"  # stayed ahead; believed from now on
    TAKEN_BACK = "taken back"  # was ahead, and is as if it had never been
    BACK = "back"  # stepped back; believed


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Both clocks at one moment."""

    database_at: dt.datetime
    boot_id: str  # of the machine that counts
    boot_seconds: float  # since it booted, sleep included where the system says so


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What was believed at the last look; kept in the control database, so that processes share it."""

    at: dt.datetime
    boot_id: str
    boot_seconds: float
    ahead_since: float | None = None  # in boot seconds; None while no step forward is unconfirmed


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The time that counts is ``timeline.at``."""

    timeline: Timeline
    step: Step
    step_seconds: float  # how far the wall clock is from where it should be; negative: behind

    @property
    def steady(self) -> bool:
        return self.timeline.ahead_since is None


def judge(last: Timeline | None, reading: Reading) -> Judged:
    """The time that counts at a reading, and what happened to the wall clock since the last look.

    Without a look on the same boot there is nothing to hold the wall clock against, and it is believed.
    """
    believed = Timeline(at=reading.database_at, boot_id=reading.boot_id, boot_seconds=reading.boot_seconds)
    if last is None or last.boot_id != reading.boot_id or reading.boot_seconds < last.boot_seconds:
        return Judged(timeline=believed, step=Step.NONE, step_seconds=0.0)
    expected = last.at + dt.timedelta(seconds=reading.boot_seconds - last.boot_seconds)
    step_seconds = (reading.database_at - expected).total_seconds()
    if abs(step_seconds) <= STEP_SECONDS:
        step = Step.NONE if last.ahead_since is None else Step.TAKEN_BACK
        return Judged(timeline=believed, step=step, step_seconds=step_seconds)
    if step_seconds < 0:
        return Judged(timeline=believed, step=Step.BACK, step_seconds=step_seconds)
    since = reading.boot_seconds if last.ahead_since is None else last.ahead_since
    if reading.boot_seconds - since >= CONFIRMED_AFTER_SECONDS:
        return Judged(timeline=believed, step=Step.CONFIRMED, step_seconds=step_seconds)
    held = Timeline(at=expected, boot_id=last.boot_id, boot_seconds=reading.boot_seconds, ahead_since=since)
    step = Step.AHEAD if last.ahead_since is None else Step.NONE
    return Judged(timeline=held, step=step, step_seconds=step_seconds)
