"""What fires when, worked out another way: fields by `croniter`, instants by looking at every half hour of the clock.

Nothing here is shared with the program: neither the library that reads expressions nor the way to instants.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from croniter import croniter

GRID = 30  # minutes; no clock of today is changed at another minute of the UTC hour
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NAIVE = EPOCH.replace(tzinfo=None)
_MINUTE = dt.timedelta(minutes=1)
_EVERY = (range(60), range(24), range(1, 32), range(1, 13), range(7))


@cache
def clock(zone: str, start: dt.datetime, end: dt.datetime) -> tuple[np.ndarray, np.ndarray]:
    """Instants on the grid and what the clock on the wall shows at each, both in minutes since the epoch."""
    instants = np.arange((start - EPOCH) // _MINUTE, (end - EPOCH) // _MINUTE, GRID)
    there = ZoneInfo(zone)
    shown = [(EPOCH + minute * _MINUTE).astimezone(there).replace(tzinfo=None) for minute in instants.tolist()]
    return instants, np.array([(local - _NAIVE) // _MINUTE for local in shown])


def local_times(expression: str, first: dt.date, last: dt.date) -> np.ndarray:
    """Every local time that fits, in minutes since the epoch."""
    fields = croniter.expand(expression)[0]
    minutes, hours, days, months, weekdays = (
        set(every) if field == ["*"] else set(field) for every, field in zip(_EVERY, fields, strict=True)
    )
    either = fields[2] != ["*"] and fields[4] != ["*"]  # then one of the two is enough
    found = []
    for number in range((last - first).days + 1):
        day = first + dt.timedelta(days=number)
        of_month = day.day in days or ("l" in days and (day + dt.timedelta(days=1)).day == 1)
        of_week = day.isoweekday() % 7 in weekdays
        if day.month in months and ((of_month or of_week) if either else (of_month and of_week)):
            found.append((dt.datetime.combine(day, dt.time()) - _NAIVE) // _MINUTE)
    times = [hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)]
    return (np.array(found, dtype=int)[:, None] + np.array(times, dtype=int)[None, :]).ravel()


def expected_fires(expression: str, zone: str, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    """Fires from ``start`` up to, not including, ``end``; both a whole day inside what is looked at."""
    margin = dt.timedelta(days=2)
    instants, shown = clock(zone, start - margin, end + margin)
    wanted = local_times(expression, (start - margin / 2).date(), (end + margin / 2).date())
    minutes, hours, *_ = expression.split()
    if minutes.startswith("*") or hours.startswith("*"):
        offsets = shown - instants
        tries = np.concatenate([wanted - offset for offset in np.unique(offsets)])
        used = np.concatenate([np.full(len(wanted), offset) for offset in np.unique(offsets)])
        place = np.clip((tries - instants[0]) // GRID, 0, len(instants) - 1)
        fires = tries[offsets[place] == used]
    else:  # when the clock shows that time, or has passed it, for the first time
        place = np.searchsorted(np.maximum.accumulate(shown + GRID - 1), wanted)
        place = np.clip(place, 0, len(instants) - 1)
        fires = instants[place] + np.maximum(wanted - shown[place], 0)
    low, high = (start - EPOCH) // _MINUTE, (end - EPOCH) // _MINUTE
    return [EPOCH + int(fire) * _MINUTE for fire in np.unique(fires) if low <= fire < high]
