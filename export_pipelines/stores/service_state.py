"""What the service's background work last saw of the clock, of Dagster's daemons and of what exports need.

One row. The sensors write it with each look, and the API reads it for readiness and metrics: it has no other way to see
them.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from export_pipelines.core.clock import Judged, Reading, Step, Timeline, judge
from export_pipelines.stores.control import Control

SILENCE_SECONDS = 60.0  # without a look, nothing was launched and nothing repaired either
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FORWARD, _BACK = (Step.AHEAD,), (Step.BACK, Step.TAKEN_BACK)
_log = structlog.get_logger(__name__)


class Need(StrEnum):
    """What an export needs beside the control database."""

    SOURCE = "source"
    STORE = "store"


@dataclass(frozen=True, kw_only=True)
class Look:
    """One look at the clock."""

    now: dt.datetime  # the time that counts
    step: Step
    steady: bool  # False: the wall clock is ahead, which is not confirmed
    since_step_seconds: float | None  # None: no step was seen on this boot

    def stepped_within(self, silence: dt.timedelta) -> bool:
        """Whether times that were written before may still be of another clock."""
        return self.since_step_seconds is not None and self.since_step_seconds <= silence.total_seconds()


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """As the last look left it; ages are by the database's clock."""

    looked_seconds_ago: float  # negative: the clock was stepped back since
    ahead: bool
    step_seconds: float  # of the wall clock from the time that counts
    skew_seconds: float  # of the clock of the process that looks from the database's
    steps_forward: int
    steps_back: int
    daemon_seconds_ago: dict[str, float]  # at the last look, since each of Dagster's daemons gave a sign of life
    source_down_since: dt.datetime | None
    store_down_since: dt.datetime | None


def boot_clock() -> tuple[str, float]:
    """Which boot of the machine this is, and its seconds; nobody can set them."""
    boot_id = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    # Linux: CLOCK_MONOTONIC stands still while a machine sleeps, and waking up would look like a step forward.
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return boot_id, time.clock_gettime(clock)


class ServiceStateStore:
    """Reads and writes the one row."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def look(self, *, daemons: Mapping[str, float] | None = None) -> Look:
        """Read both clocks, write down what counts, and repair times that another clock has written.

        ``daemons``: the last heartbeat of each of Dagster's daemons in Unix seconds, where the caller knows them.
        """
        with self._control.transaction() as connection:
            connection.execute(_FIRST)
            row = connection.execute(_LOCKED).fetchone()
            assert row is not None
            boot_id, boot_seconds = boot_clock()
            reading = Reading(database_at=row["database_at"], boot_id=boot_id, boot_seconds=boot_seconds)
            judged = judge(_timeline(row), reading)
            look = _look(judged, row, boot_id)
            connection.execute(_LOOKED, _values(judged, row, reading, look, daemons))
            if judged.step in _BACK:
                for repair in _REPAIRS:
                    connection.execute(repair)
        _tell(judged)
        return look

    def read(self) -> ServiceState | None:
        """None before the first look, which comes with the first sensor that is evaluated."""
        rows = self._control.rows(_READ)
        return None if not rows or rows[0]["boot_id"] == "" else _state(rows[0])

    def down(self, need: Need) -> bool:
        """A probe failed; whether that is new."""
        return self._mark(_DOWN[need])

    def up(self, need: Need) -> bool:
        """A probe succeeded; whether it had failed before."""
        return self._mark(_UP[need])

    def _mark(self, statement: str) -> bool:
        with self._control.transaction() as connection:
            connection.execute(_FIRST)
            return connection.execute(statement).fetchone() is not None


def _timeline(row: DictRow) -> Timeline | None:
    if row["boot_id"] == "":
        return None
    return Timeline(
        at=row["believed_at"],
        boot_id=row["boot_id"],
        boot_seconds=row["boot_seconds"],
        ahead_since=row["ahead_since"],
    )


def _look(judged: Judged, row: DictRow, boot_id: str) -> Look:
    now = judged.timeline.boot_seconds
    stepped_at = row["stepped_at"] if row["boot_id"] == boot_id else None
    if judged.step is not Step.NONE:
        stepped_at = now
    return Look(
        now=judged.timeline.at,
        step=judged.step,
        steady=judged.steady,
        since_step_seconds=None if stepped_at is None else now - stepped_at,
    )


def _values(
    judged: Judged, row: DictRow, reading: Reading, look: Look, daemons: Mapping[str, float] | None
) -> dict[str, object]:
    timeline = judged.timeline
    same_boot = row["boot_id"] == reading.boot_id
    silence = (
        reading.boot_seconds - row["boot_seconds"]
        if same_boot
        else (reading.database_at - row["looked_at"]).total_seconds()
    )
    return {
        "believed_at": timeline.at,
        "boot_id": timeline.boot_id,
        "boot_seconds": timeline.boot_seconds,
        "ahead_since": timeline.ahead_since,
        "stepped_at": None if look.since_step_seconds is None else timeline.boot_seconds - look.since_step_seconds,
        "step_seconds": 0.0 if judged.steady else judged.step_seconds,
        "skew_seconds": time.time() - reading.database_at.timestamp(),
        "forward": int(judged.step in _FORWARD),
        "back": int(judged.step in _BACK),
        "daemons": None if daemons is None else Jsonb(dict(daemons)),
        "silent": row["boot_id"] != "" and silence > SILENCE_SECONDS,
    }


def _tell(judged: Judged) -> None:
    seconds = round(judged.step_seconds, 1)
    match judged.step:
        case Step.AHEAD:
            _log.warning(
                "clock_stepped_forward",
                seconds=seconds,
                effect="schedules go on by the clock as it was until this is confirmed or taken back",
            )
        case Step.CONFIRMED:
            _log.warning("clock_confirmed", seconds=seconds, effect="missed fires of schedules follow their policy")
        case Step.BACK | Step.TAKEN_BACK:
            _log.warning("clock_stepped_back", seconds=seconds, effect="times in the future were repaired")
        case Step.NONE:
            pass


def _state(row: DictRow) -> ServiceState:
    return ServiceState(
        looked_seconds_ago=row["looked_seconds_ago"],
        ahead=row["ahead_since"] is not None,
        step_seconds=row["step_seconds"],
        skew_seconds=row["skew_seconds"],
        steps_forward=row["steps_forward"],
        steps_back=row["steps_back"],
        daemon_seconds_ago={name: row["looked_unix"] - at for name, at in row["daemons"].items()},
        source_down_since=row["source_down_since"],
        store_down_since=row["store_down_since"],
    )


_FIRST = """
    INSERT INTO export_control.service_state (looked_at, believed_at, boot_id, boot_seconds)
    VALUES (clock_timestamp(), clock_timestamp(), '', 0) ON CONFLICT DO NOTHING
"""
_LOCKED = """
    SELECT *, clock_timestamp() AS database_at FROM export_control.service_state FOR UPDATE
"""
_LOOKED = """
    UPDATE export_control.service_state
    SET looked_at = clock_timestamp(), believed_at = %(believed_at)s, boot_id = %(boot_id)s,
        boot_seconds = %(boot_seconds)s, ahead_since = %(ahead_since)s, stepped_at = %(stepped_at)s,
        step_seconds = %(step_seconds)s, skew_seconds = %(skew_seconds)s,
        steps_forward = steps_forward + %(forward)s, steps_back = steps_back + %(back)s,
        daemons = coalesce(%(daemons)s, daemons),
        silent_from = CASE WHEN %(silent)s THEN looked_at ELSE silent_from END,
        silent_until = CASE WHEN %(silent)s THEN clock_timestamp() ELSE silent_until END
"""
_READ = """
    SELECT *, extract(epoch FROM clock_timestamp() - looked_at)::double precision AS looked_seconds_ago,
           extract(epoch FROM looked_at)::double precision AS looked_unix
    FROM export_control.service_state
"""
_DOWN = {
    Need.SOURCE: "UPDATE export_control.service_state SET source_down_since = now() "
    "WHERE source_down_since IS NULL RETURNING 1",
    Need.STORE: "UPDATE export_control.service_state SET store_down_since = now() "
    "WHERE store_down_since IS NULL RETURNING 1",
}
_UP = {
    Need.SOURCE: "UPDATE export_control.service_state SET source_down_since = NULL "
    "WHERE source_down_since IS NOT NULL RETURNING 1",
    Need.STORE: "UPDATE export_control.service_state SET store_down_since = NULL "
    "WHERE store_down_since IS NOT NULL RETURNING 1",
}
# What was written while the clock was ahead would hold things up until that time comes. A run that lives writes its
# heartbeat anew within a second. Times of fires, and those that a host application has set, stay.
_REPAIRS = (
    """
    UPDATE export_control.export_requests SET asked_at = NULL
    WHERE status = 'queued' AND asked_at > clock_timestamp()
    """,
    """
    UPDATE export_control.export_requests SET heartbeat_at = clock_timestamp()
    WHERE status = 'processing' AND heartbeat_at > clock_timestamp()
    """,
    """
    UPDATE export_control.export_requests SET not_before = clock_timestamp()
    WHERE status = 'queued' AND not_before > clock_timestamp() AND coalesce(scheduled_for, '-infinity') <= now()
      AND (attempt > 1 OR not_before <= created_at)
    """,
    """
    UPDATE export_control.export_deliveries SET due_at = clock_timestamp()
    WHERE status = 'pending' AND due_at > clock_timestamp()
    """,
    """
    UPDATE export_control.export_deliveries SET due_at = clock_timestamp() + interval '10 minutes'
    WHERE status = 'sending' AND due_at > clock_timestamp() + interval '10 minutes'
    """,
    "UPDATE export_control.rate_limits SET refilled_at = clock_timestamp() WHERE refilled_at > clock_timestamp()",
)
