"""What Dagster has stored with times that are still to come, after the clock was set back, and what takes it away.

The daemon compares such times with its clock. A sensor whose last tick lies in the future is not evaluated until then,
and a schedule fires nothing before its last tick or look, so all would stand still for as long as the clock was ahead.
"""

import datetime as dt
from typing import Any

from dagster import DagsterInstance
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG

_TIMES: dict[type, tuple[str, ...]] = {
    SensorInstigatorData: (
        "last_tick_timestamp",
        "last_tick_start_timestamp",
        "last_sensor_start_timestamp",
        "last_tick_success_timestamp",
    ),
    ScheduleInstigatorData: ("start_timestamp", "last_iteration_timestamp"),
}


def forget_future(instance: DagsterInstance, now: dt.datetime) -> int:
    """Remove ticks later than ``now`` and bring later times of sensors and schedules back to it; how many there were.

    For a daemon that does not work yet. A schedule fires again when the time of a tick that was removed comes, and
    then makes its runs again: those that it made may have read a period that was not over.
    """
    found = 0
    for state in instance.all_instigator_state():
        if state.instigator_type is InstigatorType.SCHEDULE:
            _disown_runs(instance, state, now)
        times = _later(state, now.timestamp())
        if times:
            data: Any = state.instigator_data
            instance.update_instigator_state(state.with_data(data._replace(**dict.fromkeys(times, now.timestamp()))))
            found += 1
    return found + _without_ticks(instance, now)


def _disown_runs(instance: DagsterInstance, state: InstigatorState, now: dt.datetime) -> None:
    """The scheduler makes no run for a fire that has one, which it knows by this tag."""
    for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, after=now.timestamp()):
        fire = dt.datetime.fromtimestamp(tick.timestamp, dt.UTC).isoformat()
        for run_id in tick.run_ids:
            instance.add_run_tags(run_id, {SCHEDULED_EXECUTION_TIME_TAG: f"{fire}, when the clock was ahead"})


def _later(state: InstigatorState, now: float) -> list[str]:
    data = state.instigator_data
    names = _TIMES.get(type(data), ())
    return [name for name in names if (getattr(data, name) or 0.0) > now]


def _without_ticks(instance: DagsterInstance, now: dt.datetime) -> int:
    storage = instance.schedule_storage
    if not isinstance(storage, SqlScheduleStorage):
        return 0
    with storage.connect() as connection:
        done = connection.execute(JobTickTable.delete().where(JobTickTable.c.timestamp > now.replace(tzinfo=None)))
        return int(done.rowcount)
