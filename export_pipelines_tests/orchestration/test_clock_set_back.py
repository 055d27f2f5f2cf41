"""After the clock was set back the daemon starts anew, and nothing that Dagster has stored of the future stops it."""

from __future__ import annotations

import datetime as dt
import itertools
import time

import pytest
from dagster import DagsterInstance, RunsFilter
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.tags import SCHEDULED_EXECUTION_TIME_TAG
from dagster._core.test_utils import create_run_for_test

from export_pipelines.orchestration.daemon import STEP_BACK_SECONDS, watch_clock
from export_pipelines.orchestration.future import forget_future

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
AT = NOW.timestamp()
SENSOR = SensorInstigatorData(
    last_tick_timestamp=AT + 600, last_tick_start_timestamp=AT + 601, last_tick_success_timestamp=AT + 602,
    last_sensor_start_timestamp=AT - 60, min_interval=5, cursor="c", last_run_key="k",
)  # fmt: skip
SCHEDULE = ScheduleInstigatorData("0 0 * * *", AT - 60, AT + 600)


def stored(
    instance: DagsterInstance, name: str, data: SensorInstigatorData | ScheduleInstigatorData
) -> InstigatorState:
    """A sensor or schedule with ticks an hour before and an hour after."""
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "repository"), name)
    kind = InstigatorType.SENSOR if isinstance(data, SensorInstigatorData) else InstigatorType.SCHEDULE
    state = instance.add_instigator_state(InstigatorState(origin, kind, InstigatorStatus.RUNNING, data))
    for timestamp in (AT - 3600, AT + 3600):
        tick = TickData(
            instigator_origin_id=state.instigator_origin_id, instigator_name=name, instigator_type=kind,
            status=TickStatus.STARTED, timestamp=timestamp, selector_id=state.selector_id,
        )  # fmt: skip
        instance.create_tick(tick)
    return state


def data_of(instance: DagsterInstance, state: InstigatorState) -> SensorInstigatorData | ScheduleInstigatorData:
    found = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    assert found is not None
    assert isinstance(found.instigator_data, SensorInstigatorData | ScheduleInstigatorData)
    return found.instigator_data


def test_times_that_are_still_to_come_are_brought_back_and_their_ticks_removed(instance: DagsterInstance) -> None:
    sensor, schedule = stored(instance, "sensor", SENSOR), stored(instance, "schedule", SCHEDULE)
    assert forget_future(instance, NOW) == 4
    assert data_of(instance, sensor) == SENSOR._replace(
        last_tick_timestamp=AT, last_tick_start_timestamp=AT, last_tick_success_timestamp=AT
    )
    assert data_of(instance, schedule) == SCHEDULE._replace(last_iteration_timestamp=AT)
    for state in (sensor, schedule):
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id)
        assert [tick.timestamp for tick in ticks] == [AT - 3600]
    assert forget_future(instance, NOW) == 0


@pytest.mark.parametrize("data", [SENSOR, SCHEDULE], ids=["sensor", "schedule"])
def test_a_past_is_left_as_it_is(
    instance: DagsterInstance, data: SensorInstigatorData | ScheduleInstigatorData
) -> None:
    state = stored(instance, "past", data)
    assert forget_future(instance, NOW + dt.timedelta(days=1)) == 0
    assert data_of(instance, state) == data


def test_the_runs_of_a_fire_that_is_still_to_come_are_made_again(instance: DagsterInstance) -> None:
    state = stored(instance, "schedule", SCHEDULE)
    origin, selector = state.instigator_origin_id, state.selector_id
    tags = {at: {SCHEDULED_EXECUTION_TIME_TAG: (NOW + dt.timedelta(hours=at)).isoformat()} for at in (-1, 1)}
    runs = {at: create_run_for_test(instance, job_name="j", tags=each).run_id for at, each in tags.items()}
    for tick in instance.get_ticks(origin, selector):
        at = -1 if tick.timestamp < AT else 1
        instance.update_tick(tick.with_status(TickStatus.SUCCESS, run_ids=[runs[at]]))
    forget_future(instance, NOW)
    assert [run.run_id for run in instance.get_runs(RunsFilter(tags=tags[-1]))] == [runs[-1]]
    assert instance.get_runs(RunsFilter(tags=tags[1])) == []


def steps(*offsets: float) -> list[float]:
    """What the watch tells of a clock that is by so much ahead of the steady one, look after look."""
    reported: list[float] = []
    walls, looks = iter(offsets), itertools.count(1)
    watch_clock(
        reported.append,
        wall=lambda: next(walls),
        steady=lambda: 0.0,
        pause=lambda _seconds: next(looks) >= len(offsets),
    )
    return reported


@pytest.mark.parametrize(
    ("offsets", "reported"),
    [
        ((0, 0, 0), []),
        ((600, 600, 0, 0), [600]),
        ((0, 600, 600, 0), [600]),
        ((0, 600, 600), []),
        ((0, -STEP_BACK_SECONDS, -2 * STEP_BACK_SECONDS), []),
        ((0, -6, -6, -13), [6, 7]),
    ],
    ids=["runs", "back", "there and back", "forward only", "slowly", "twice"],
)
def test_each_step_back_is_told_once(offsets: tuple[float, ...], reported: list[float]) -> None:
    assert steps(*offsets) == reported


def test_the_watch_looks_at_the_real_clocks() -> None:
    began = time.monotonic()
    watch_clock(pytest.fail, pause=lambda _seconds: time.monotonic() - began > 0.05)
