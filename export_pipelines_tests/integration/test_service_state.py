"""A clock that is set: what counts for schedules, what is repaired, and what the API can tell.

Clocks are never touched: tests write what a look finds stored.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from structlog.testing import capture_logs

from export_pipelines.core.clock import CONFIRMED_AFTER_SECONDS, Step
from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.recurrence import CatchUp
from export_pipelines.core.scheduling import ScheduleDraft
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.dispatch import Dispatcher
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.schedules import ScheduleStore
from export_pipelines.stores.secrets import SecretBox
from export_pipelines.stores.service_state import Need, ServiceState, ServiceStateStore, boot_clock
from export_pipelines_tests.control_database import emptied

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("service_state")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as opened:
        yield opened


@pytest.fixture
def state(control: ControlDatabase) -> ServiceStateStore:
    """After a first look."""
    store = ServiceStateStore(control)
    store.look()
    return store


def set_clock(control: ControlDatabase, by: str) -> None:
    """As if the wall clock had been set by that since the last look."""
    control.rows(f"UPDATE export_control.service_state SET believed_at = believed_at - interval '{by}'")


def seen(state: ServiceStateStore) -> ServiceState:
    found = state.read()
    assert found is not None
    return found


def database_now(control: ControlDatabase) -> dt.datetime:
    return control.rows("SELECT clock_timestamp() AS now")[0]["now"]  # type: ignore[no-any-return]


def test_nothing_is_told_before_the_first_look(control: ControlDatabase) -> None:
    store = ServiceStateStore(control)
    assert store.read() is None
    assert store.down(Need.SOURCE)
    assert store.read() is None
    look = store.look()
    assert (look.step, look.steady, look.since_step_seconds) == (Step.NONE, True, None)
    assert seen(store).source_down_since is not None


def test_looks_at_a_clock_that_runs_find_nothing(control: ControlDatabase, state: ServiceStateStore) -> None:
    look = state.look(daemons={"SENSOR": 1.0})
    assert (look.step, look.steady) == (Step.NONE, True)
    assert abs(look.now - database_now(control)) < MINUTE
    found = seen(state)
    assert 0 <= found.looked_seconds_ago < 30
    assert (found.ahead, found.step_seconds, found.steps_forward, found.steps_back) == (False, 0, 0, 0)
    assert abs(found.skew_seconds) < 30
    assert found.daemon_seconds_ago["SENSOR"] > 1e9
    state.look()
    assert "SENSOR" in seen(state).daemon_seconds_ago  # a look that does not know keeps what was known


def test_a_clock_that_jumps_ahead_fires_no_schedule_until_it_is_confirmed(
    control: ControlDatabase, state: ServiceStateStore
) -> None:
    dispatcher = Dispatcher(control, SecretBox(lambda: bytes(32)))
    fire = (database_now(control) - MINUTE).replace(second=0, microsecond=0)
    draft = ScheduleDraft(
        name="Pets", config=CONFIG, cron=Cron(expression=f"{fire:%M %H} * * *", timezone="UTC"),
        window=DataWindow.model_validate("none"), catch_up=CatchUp.ALL, jitter_seconds=0, keep_days=None, pause_after=3,
        next_fire_at=fire,
    )  # fmt: skip
    ScheduleStore(control).create(draft, tenant_id="t", owner="ann", owner_role=None)
    set_clock(control, "10 minutes")  # the fire is due by the wall clock alone
    with capture_logs() as lines:
        look = state.look()
    assert [line["event"] for line in lines] == ["clock_stepped_forward"]
    assert lines[0]["seconds"] == pytest.approx(600, abs=30)
    assert (look.step, look.steady) == (Step.AHEAD, False)
    assert dispatcher.dispatch(look.now).requests == 0
    found = seen(state)
    assert (found.ahead, found.steps_forward, found.steps_back) == (True, 1, 0)
    assert found.step_seconds == pytest.approx(600, abs=30)
    control.rows(
        f"UPDATE export_control.service_state SET ahead_since = ahead_since - {CONFIRMED_AFTER_SECONDS}",
    )
    look = state.look()
    assert (look.step, look.steady) == (Step.CONFIRMED, True)
    assert dispatcher.dispatch(look.now).requests == 1
    assert seen(state).step_seconds == 0


def test_a_step_that_is_taken_back_is_told_and_times_in_the_future_are_repaired(
    control: ControlDatabase, state: ServiceStateStore
) -> None:
    set_clock(control, "10 minutes")
    state.look()
    control.rows("UPDATE export_control.service_state SET believed_at = clock_timestamp()")
    with capture_logs() as lines:
        look = state.look()
    assert (look.step, look.steady) == (Step.TAKEN_BACK, True)
    assert [line["event"] for line in lines] == ["clock_stepped_back"]
    assert (seen(state).ahead, seen(state).steps_back) == (False, 1)


def test_a_step_back_repairs_what_would_wait_for_the_future(control: ControlDatabase, state: ServiceStateStore) -> None:
    requests = RequestStore(control)
    names = ("inserted", "asked", "again", "hosts own time", "at work")
    ids = {name: requests.insert(tenant_id="t", config=CONFIG) for name in names}
    requests.claim(ids["at work"], attempt=1, run_id="r")
    changes = {
        "inserted": "created_at = now() + interval '5 min', not_before = now() + interval '5 min'",
        "asked": "asked_at = now() + interval '5 min'",
        "again": "attempt = 2, not_before = now() + interval '5 min'",
        "hosts own time": "not_before = now() + interval '5 min'",
        "at work": "heartbeat_at = now() + interval '5 min'",
    }
    for name, change in changes.items():
        control.rows(f"UPDATE export_control.export_requests SET {change} WHERE id = %(id)s", {"id": ids[name]})
    assert requests.launchable() == []
    set_clock(control, "-10 minutes")
    assert state.look().step is Step.BACK
    due = {each.id for each in requests.launchable()}
    assert due == {ids[name] for name in ("inserted", "asked", "again")}
    assert requests.silent(older_than=-dt.timedelta(seconds=1))[0].id == ids["at work"]


def test_a_rate_limit_that_was_used_in_the_future_fills_up_again(
    control: ControlDatabase, state: ServiceStateStore
) -> None:
    take = "SELECT allowed FROM export_control.take_token('t', 1, interval '0.01 s')"
    assert control.rows(take)[0]["allowed"]
    control.rows("UPDATE export_control.rate_limits SET refilled_at = now() + interval '10 min', tokens = 0")
    assert not control.rows(take)[0]["allowed"]
    set_clock(control, "-10 minutes")
    state.look()
    control.rows("SELECT pg_sleep(0.02)")
    assert control.rows(take)[0]["allowed"]


def test_a_step_is_remembered_as_long_as_times_before_it_may_mislead(
    control: ControlDatabase, state: ServiceStateStore
) -> None:
    assert not state.look().stepped_within(MINUTE)
    set_clock(control, "-10 minutes")
    assert state.look().stepped_within(MINUTE)
    assert state.look().stepped_within(MINUTE)
    control.rows("UPDATE export_control.service_state SET stepped_at = stepped_at - 61")
    assert not state.look().stepped_within(MINUTE)


def test_nothing_is_held_against_the_clock_of_another_boot(control: ControlDatabase, state: ServiceStateStore) -> None:
    set_clock(control, "3 days")
    control.rows("UPDATE export_control.service_state SET boot_id = 'another', stepped_at = 1e9")
    look = state.look()
    assert (look.step, look.since_step_seconds) == (Step.NONE, None)
    assert abs(look.now - database_now(control)) < MINUTE


@pytest.mark.parametrize("boot", ["this", "another"])
def test_a_time_in_which_nobody_looked_is_written_down(
    boot: str, control: ControlDatabase, state: ServiceStateStore
) -> None:
    control.rows(
        """
        UPDATE export_control.service_state
        SET looked_at = looked_at - interval '1 hour', boot_seconds = boot_seconds - 3600,
            believed_at = believed_at - interval '1 hour', boot_id = CASE %(boot)s WHEN 'this' THEN boot_id ELSE '-' END
        """,
        {"boot": boot},
    )
    state.look()
    state.look()
    (row,) = control.rows("SELECT silent_until - silent_from AS silence FROM export_control.service_state")
    assert abs(row["silence"] - dt.timedelta(hours=1)) < MINUTE


def test_a_probe_says_once_that_something_is_down_and_once_that_it_is_up(state: ServiceStateStore) -> None:
    assert [state.up(Need.STORE), state.down(Need.STORE), state.down(Need.STORE)] == [False, True, False]
    assert seen(state).store_down_since is not None
    assert seen(state).source_down_since is None
    assert [state.up(Need.STORE), state.up(Need.STORE)] == [True, False]
    assert seen(state).store_down_since is None


def test_the_boot_clock_goes_on_and_names_its_boot() -> None:
    (first_id, first), (second_id, second) = boot_clock(), boot_clock()
    assert first_id == second_id
    assert 0 < first <= second
