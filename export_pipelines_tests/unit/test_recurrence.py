"""Words of people as cron, missed fires under each policy, windows bound to the time of the schedule."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow, window_at, windowed
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.recurrence import CatchUp, Timing, due_fires, jittered
from export_pipelines.core.windows import Window


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


# Timing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "cron"),
    [
        ({"cron": " 0  2 * * 1-5 "}, "0 2 * * 1-5"),
        ({"frequency": "daily"}, "0 0 * * *"),
        ({"frequency": "daily", "time": "02:30"}, "30 2 * * *"),
        ({"frequency": "hourly", "time": "00:15"}, "15 * * * *"),
        ({"frequency": "weekly", "day": "Friday", "time": "18:00"}, "0 18 * * 5"),
        ({"frequency": "weekly", "time": "18:00"}, "0 18 * * 1"),
        ({"frequency": "monthly", "day": 15, "time": "06:05"}, "5 6 15 * *"),
        ({"frequency": "monthly", "day": "last"}, "0 0 L * *"),
        ({"frequency": "monthly"}, "0 0 1 * *"),
    ],
)
def test_words_of_people_become_one_cron(reported: dict[str, Any], cron: str) -> None:
    assert Timing(**reported).as_cron() == Cron(expression=cron, timezone="UTC")


@pytest.mark.parametrize(
    ("reported", "field", "problem"),
    [
        ({}, "cron", "either cron or a frequency"),
        ({"cron": "0 0 * * *", "frequency": "daily"}, "cron", "either cron or a frequency"),
        ({"cron": "0 0 * * *", "time": "02:00"}, "cron", "go with a frequency"),
        ({"frequency": "daily", "time": "25:00"}, "time", "not a time of day"),
        ({"frequency": "daily", "day": "monday"}, "day", "goes with weekly or monthly"),
        ({"frequency": "weekly", "day": "someday"}, "day", "from monday to sunday"),
        ({"frequency": "monthly", "day": 31}, "day", "some months lack"),
        ({"frequency": "monthly", "day": 0}, "day", "from 1 to 28"),
        ({"frequency": "monthly", "day": "٣"}, "day", "from 1 to 28"),
        ({"frequency": "monthly", "day": "9" * 5000}, "day", "'99999999999999999999' is not a day"),
        ({"frequency": "weekly", "day": 0}, "day", "from monday to sunday"),
        ({"frequency": "weekly", "day": ""}, "day", "from monday to sunday"),
        ({"frequency": "daily", "time": ""}, "time", "not a time of day"),
        ({"frequency": "daily", "timezone": "Nowhere"}, "timezone", "not an IANA timezone"),
    ],
)
def test_a_timing_that_makes_no_sense_is_refused_by_field(reported: dict[str, Any], field: str, problem: str) -> None:
    with pytest.raises(RequestRejected, match=problem) as caught:
        Timing(**reported).as_cron()
    assert caught.value.field == field


# Missed fires -----------------------------------------------------------------------------------------------------

HOURLY = Cron(expression="0 * * * *", timezone="UTC")
MIDNIGHT = at("2026-05-01T00:00Z")


@pytest.mark.parametrize(
    ("policy", "now", "hours", "skipped"),
    [
        (CatchUp.ALL, "2026-05-01T03:30Z", [0, 1, 2, 3], 0),
        (CatchUp.LATEST, "2026-05-01T03:30Z", [3], 3),
        (CatchUp.SKIP, "2026-05-01T03:30Z", [], 4),
        (CatchUp.ALL, "2026-05-01T03:00:02Z", [0, 1, 2, 3], 0),
        (CatchUp.LATEST, "2026-05-01T03:00:02Z", [3], 3),  # it was not missed, and stands for those before
        (CatchUp.SKIP, "2026-05-01T03:00:02Z", [3], 3),
        (CatchUp.ALL, "2026-05-01T00:00:00Z", [0], 0),
        (CatchUp.LATEST, "2026-05-01T00:04:59Z", [0], 0),
        (CatchUp.SKIP, "2026-05-01T00:05:00Z", [0], 0),
        (CatchUp.SKIP, "2026-05-01T00:05:01Z", [], 1),
    ],
)
def test_missed_fires_are_made_up_for_by_policy(policy: CatchUp, now: str, hours: list[int], skipped: int) -> None:
    due = due_fires(HOURLY, MIDNIGHT, at(now), policy)
    assert [fire.hour for fire in due.fires] == hours
    assert due.skipped == skipped
    assert due.next_fire_at == HOURLY.next_fire(at(now))


def test_a_long_backlog_comes_in_parts_and_in_order() -> None:
    now, fire, found = at("2026-05-11T12:30Z"), MIDNIGHT, []
    while fire <= now:
        due = due_fires(HOURLY, fire, now, CatchUp.ALL)
        found += due.fires
        assert due.next_fire_at is not None
        fire = due.next_fire_at
    assert found == [MIDNIGHT + dt.timedelta(hours=hour) for hour in range(253)]


@pytest.mark.parametrize("policy", [CatchUp.LATEST, CatchUp.SKIP])
def test_a_backlog_of_years_of_minutes_costs_no_walk_through_it(policy: CatchUp) -> None:
    minutely = Cron(expression="* * * * *", timezone="Europe/Berlin")
    now = at("2026-05-01T12:00:30Z")
    due = due_fires(minutely, at("2016-05-01T00:00Z"), now, policy)
    assert due.fires == tuple(at("2026-05-01T11:56Z") + dt.timedelta(minutes=minute) for minute in range(5))
    assert due.next_fire_at == at("2026-05-01T12:01Z")


def test_jitter_is_the_same_for_the_same_fire_and_spreads_over_schedules() -> None:
    pauses = [jittered(f"schedule {number}", MIDNIGHT, 600) - MIDNIGHT for number in range(500)]
    assert pauses == [jittered(f"schedule {number}", MIDNIGHT, 600) - MIDNIGHT for number in range(500)]
    assert min(pauses) >= dt.timedelta(0)
    assert dt.timedelta(seconds=580) < max(pauses) <= dt.timedelta(seconds=600)
    assert len(set(pauses)) > 300
    assert jittered("any", MIDNIGHT, 0) == MIDNIGHT


# Windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "fire", "timezone", "start", "end"),
    [
        ("previous_day", "2026-05-02T01:00Z", "UTC", "2026-05-01T00:00Z", "2026-05-02T00:00Z"),
        ("previous_day", "2026-05-01T22:30Z", "Europe/Berlin", "2026-04-30T22:00Z", "2026-05-01T22:00Z"),
        ("previous_day", "2026-03-30T02:00Z", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
        ("previous_day", "2026-10-26T02:00Z", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        ("previous_day", "2026-03-29T10:00Z", "Asia/Beirut", "2026-03-27T22:00Z", "2026-03-28T22:00Z"),
        ("previous_week", "2026-01-01T09:00Z", "UTC", "2025-12-22T00:00Z", "2025-12-29T00:00Z"),
        ("previous_week", "2026-01-05T00:00Z", "UTC", "2025-12-29T00:00Z", "2026-01-05T00:00Z"),
        ("previous_month", "2026-03-31T12:00Z", "UTC", "2026-02-01T00:00Z", "2026-03-01T00:00Z"),
        ("previous_month", "2026-01-01T00:00Z", "America/New_York", "2025-11-01T04:00Z", "2025-12-01T05:00Z"),
        ("last_7_days", "2026-05-08T03:00Z", "UTC", "2026-05-01T00:00Z", "2026-05-08T00:00Z"),
        ({"type": "last_n_days", "days": 1}, "2026-05-08T03:00Z", "UTC", "2026-05-07T00:00Z", "2026-05-08T00:00Z"),
        (
            {"type": "fixed", "start": "2026-01-01", "end": "2026-02-01"},
            "2026-05-08T03:00Z",
            "Asia/Tokyo",
            "2025-12-31T15:00Z",
            "2026-01-31T15:00Z",
        ),
        (
            {"type": "since_last_success", "start": "2026-01-01"},
            "2026-05-08T03:00Z",
            "UTC",
            "2026-01-01T00:00Z",
            "2026-05-08T03:00Z",
        ),
    ],
)
def test_a_window_is_counted_from_the_time_of_the_schedule_in_its_timezone(
    window: Any, fire: str, timezone: str, start: str, end: str
) -> None:
    found = window_at(DataWindow.model_validate(window), at(fire), timezone=timezone)
    assert (found.start_at, found.end_at) == (at(start), at(end))


def test_days_one_after_the_other_leave_no_gap_and_meet_nowhere() -> None:
    wanted, cron = DataWindow.model_validate("previous_day"), Cron(expression="30 2 * * *", timezone="Europe/Berlin")
    windows = [window_at(wanted, fire, timezone=cron.timezone) for fire in cron.upcoming(MIDNIGHT, 400)]
    assert all(before.end_at == after.start_at for before, after in pairwise(windows))


def test_since_last_success_goes_on_where_the_last_one_ended() -> None:
    wanted = DataWindow.model_validate({"type": "since_last_success", "start": "2026-01-01"})
    found = window_at(wanted, at("2026-05-08T03:00Z"), timezone="UTC", covered_until=at("2026-05-07T03:00Z"))
    assert (found.start_at, found.end_at) == (at("2026-05-07T03:00Z"), at("2026-05-08T03:00Z"))
    with pytest.raises(RequestRejected, match="nothing between"):
        window_at(wanted, at("2026-05-08T03:00Z"), timezone="UTC", covered_until=at("2026-05-08T03:00Z"))


@pytest.mark.parametrize(
    ("start", "end", "field"), [("", "", "start"), ("", "2026-01-01", "start"), ("2026-01-01", "", "end")]
)
def test_an_empty_text_is_no_open_end_of_a_window(start: str, end: str, field: str) -> None:
    wanted = DataWindow.model_validate({"type": "fixed", "start": start, "end": end})
    with pytest.raises(RequestRejected, match="is empty") as caught:
        window_at(wanted, MIDNIGHT, timezone="UTC")
    assert caught.value.field == f"window.{field}"


def test_a_reversed_fixed_window_is_refused() -> None:
    wanted = DataWindow.model_validate({"type": "fixed", "start": "2026-02-01", "end": "2026-01-01"})
    with pytest.raises(RequestRejected, match="half-open"):
        window_at(wanted, MIDNIGHT, timezone="UTC")


@pytest.mark.parametrize(
    "reported",
    [
        "yesterday",
        "last_0_days",
        {"type": "last_n_days"},
        {"type": "previous_day", "days": 2},
        {"type": "since_last_success"},
        {"type": "fixed", "start": "2026-01-01"},
        {"type": "previous_day", "start": "2026-01-01"},
        {"type": "since_last_success", "start": "2026-01-01", "end": "2026-02-01"},
        {"type": "last_n_days", "days": 1_000_000},
    ],
)
def test_a_window_that_says_too_little_or_too_much_is_refused(reported: Any) -> None:
    with pytest.raises(ValidationError):
        DataWindow.model_validate(reported)


def test_a_window_becomes_the_range_of_every_table_but_the_whole_ones() -> None:
    window = Window(start_at=at("2026-05-01T00:00Z"), end_at=at("2026-05-02T00:00Z"))
    limits = {"start": "2026-05-01T00:00:00+00:00", "end": "2026-05-02T00:00:00+00:00"}
    config = {"tables": ["pets", "clients"], "filters": {"include_deleted": True}, "format": "csv"}
    made = windowed(config, window, ("clients",))
    filters = {"include_deleted": True, "date_range": limits, "whole_tables": ["clients"]}
    assert made == {**config, "filters": filters}
    assert windowed(config, Window()) == config
    long_form = {"data_sources": [{"type": "pets", "fields": ["id"]}], "format": "csv"}
    assert windowed(long_form, window)["data_sources"] == [
        {"type": "pets", "fields": ["id"], "filters": {"date_range": limits}}
    ]


def test_a_window_and_a_module_do_not_go_together() -> None:
    """The window would leave the module's tables whole."""
    config = {"tables": ["pets"], "modules": ["billing"], "format": "csv", "filters": {"owner_id": [1]}}
    window = Window(start_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), end_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    with pytest.raises(RequestRejected, match=r"config.modules: go without a window"):
        windowed(config, window)
    assert windowed(config, Window()) == config
