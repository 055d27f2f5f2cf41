"""When schedules fire, against two other libraries and an account of the clock worked out another way."""

from __future__ import annotations

import datetime as dt
import random
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from dagster._utils.schedules import cron_string_iterator
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.cron import Cron
from export_pipelines.core.errors import RequestRejected
from export_pipelines_tests.fires import expected_fires

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"  # the clock of the second changes by half an hour


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


def shown(expression: str, timezone: str, after: str, until: str) -> list[str]:
    """Fires as the clock on the wall shows them."""
    cron = Cron(expression=expression, timezone=timezone)
    return [f"{fire.astimezone(ZoneInfo(timezone)):%d %H:%M%z}" for fire in cron.until(at(after), at(until))]


# Changes of the clock ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "until", "fires"),
    [
        ("30 2 * * *", BERLIN, "2026-03-28T12:00Z", "2026-03-30T12:00Z", ["29 03:00+0200", "30 02:30+0200"]),
        ("15,45 2 * * *", BERLIN, "2026-03-28T12:00Z", "2026-03-29T12:00Z", ["29 03:00+0200"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-28T12:00Z", "2026-03-29T12:00Z", ["29 03:00+0200", "29 03:30+0200"]),
        ("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00Z", "2026-03-29T23:00Z", ["29 01:00+0300", "30 00:00+0300"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00Z", "2026-10-04T12:00Z", ["04 02:30+1100"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00Z", "2011-12-30T20:00Z", ["29 12:00-1000", "31 00:00+1400"]),
    ],
)
def test_a_fixed_time_that_the_clock_skips_fires_once_right_after_the_gap(
    expression: str, timezone: str, after: str, until: str, fires: list[str]
) -> None:
    assert shown(expression, timezone, after, until) == fires


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "until", "fires"),
    [
        ("30 2 * * *", BERLIN, "2026-10-24T12:00Z", "2026-10-26T12:00Z", ["25 02:30+0200", "26 02:30+0100"]),
        ("45 2 * * *", BERLIN, "2026-10-25T01:15Z", "2026-10-25T12:00Z", []),  # it is 02:15 for the second time
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00Z", "2026-04-05T12:00Z", ["05 01:45+1100"]),
    ],
)
def test_a_fixed_time_that_comes_twice_fires_the_first_time_only(
    expression: str, timezone: str, after: str, until: str, fires: list[str]
) -> None:
    assert shown(expression, timezone, after, until) == fires


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "until", "fires"),
    [
        ("0 * * * *", BERLIN, "2026-03-29T00:00Z", "2026-03-29T02:00Z", ["29 03:00+0200", "29 04:00+0200"]),
        ("0 * * * *", BERLIN, "2026-10-25T00:00Z", "2026-10-25T02:00Z", ["25 02:00+0100", "25 03:00+0100"]),
        (
            "*/30 2 * * *",
            BERLIN,
            "2026-10-24T12:00Z",
            "2026-10-25T12:00Z",
            ["25 02:00+0200", "25 02:30+0200", "25 02:00+0100", "25 02:30+0100"],
        ),
        ("*/30 2 * * *", BERLIN, "2026-10-25T00:15Z", "2026-10-25T01:00Z", ["25 02:30+0200", "25 02:00+0100"]),
        ("*/30 2 * * *", BERLIN, "2026-03-28T12:00Z", "2026-03-29T12:00Z", []),  # that hour does not exist
        (
            "*/15 3 * * *",
            LORD_HOWE,
            "2026-10-03T12:00Z",
            "2026-10-03T16:29Z",
            ["04 03:00+1100", "04 03:15+1100"],
        ),
    ],
)
def test_minutes_and_hours_with_a_star_follow_real_time(
    expression: str, timezone: str, after: str, until: str, fires: list[str]
) -> None:
    assert shown(expression, timezone, after, until) == fires


# Other libraries --------------------------------------------------------------------------------------------------


def random_expression(chance: random.Random) -> str:
    minute, hour, day = chance.randrange(60), chance.randrange(24), chance.randrange(1, 29)
    return chance.choice(
        [
            f"{minute} {hour} * * *",
            f"{minute},{(minute + 20) % 60} {hour} * * {chance.randrange(7)}",
            f"{minute} {hour} {day} * *",
            f"{minute} {hour} * {chance.randrange(1, 13)} 1-5",
            f"{minute} {hour} {day} * {chance.randrange(7)}",
            f"{minute} */{chance.randrange(2, 9)} * * *",
            f"*/{chance.randrange(5, 31)} {hour} * * *",
            f"{minute} {hour // 2}-{hour // 2 + 9}/3 * * *",
        ]
    )


@pytest.mark.parametrize("seed", range(150))
def test_the_calendar_is_that_of_two_other_libraries(seed: int) -> None:
    chance = random.Random(seed)
    expression, start = (
        random_expression(chance),
        at("2026-01-01T00:00Z") + dt.timedelta(hours=chance.randrange(17_000)),
    )
    ours = Cron(expression=expression, timezone="UTC").upcoming(start, 20)
    assert ours == [fire.astimezone(dt.UTC) for fire in islice(croniter(expression, start).all_next(dt.datetime), 20)]
    dagsters = cron_string_iterator((start + dt.timedelta(seconds=1)).timestamp(), expression, "UTC")
    assert ours == [fire.astimezone(dt.UTC) for fire in islice(dagsters, 20)]


@pytest.mark.parametrize("zone", [BERLIN, LORD_HOWE, "America/Santiago", "Asia/Beirut", "Pacific/Chatham"])
def test_a_year_is_what_every_half_hour_of_the_clock_tells(zone: str) -> None:
    start, end, chance = at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z"), random.Random(zone)
    for expression in {"30 2 * * *", "0 0 * * *", "*/20 2 * * *", *(random_expression(chance) for _ in range(15))}:
        ours = list(Cron(expression=expression, timezone=zone).until(start - dt.timedelta(seconds=1), end))
        assert [fire for fire in ours if fire < end] == expected_fires(expression, zone, start, end), expression


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("expression", ["30 2 * * *", "0 * * * *", "15 1 * * 0"])
def test_dagsters_own_schedules_go_through_the_gap_of_spring_in_the_same_way(expression: str, zone: str) -> None:
    start, end = at("2026-02-01T00:00Z"), at("2026-04-15T00:00Z")
    dagsters = (fire.astimezone(dt.UTC) for fire in cron_string_iterator(start.timestamp(), expression, zone))
    ours = list(Cron(expression=expression, timezone=zone).until(start - dt.timedelta(seconds=1), end))
    assert ours == list(takewhile(lambda fire: fire <= end, dagsters))


def test_dagsters_own_schedules_take_the_second_of_two() -> None:
    """Which is why its iterator is not ours."""
    after = at("2026-11-01T04:00Z")
    (theirs,) = islice(cron_string_iterator(after.timestamp(), "15 1 * * *", "America/New_York"), 1)
    ours = Cron(expression="15 1 * * *", timezone="America/New_York").next_fire(after)
    assert (ours, theirs.astimezone(dt.UTC)) == (at("2026-11-01T05:15Z"), at("2026-11-01T06:15Z"))


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("* * * * *", 1),
        ("*/15 * * * *", 15),
        ("0 * * * *", 60),
        ("0,10 2 * * *", 10),
        ("50 * * * *", 60),
        ("*/25 * * * *", 10),  # from minute 50 to the next hour
        ("5,55 0,23 * * *", 10),  # over midnight
        ("5,55 0,23 1,31 * *", 10),  # from the 31st to the 1st
        ("5,55 0,23 1,15 * *", 50),  # never on two days in a row
        ("5,55 0,23 29 2 */7", 50),
        ("0 2 * * *", 24 * 60),
        ("0 2 1 1 *", 24 * 60),  # more is not told
    ],
)
def test_the_least_time_between_two_fires_is_known(expression: str, minutes: int) -> None:
    assert Cron(expression=expression, timezone=BERLIN).least_gap() == dt.timedelta(minutes=minutes)


@given(st.sampled_from(["*", "*/7", "3", "0,59", "10-50/20"]), st.sampled_from(["*", "*/5", "0", "0,23", "8-18"]))
def test_no_two_fires_of_a_month_are_closer_than_that(minutes: str, hours: str) -> None:
    cron = Cron(expression=f"{minutes} {hours} * * *", timezone="UTC")
    fires = list(cron.until(at("2026-03-01T00:00Z"), at("2026-03-03T12:00Z")))
    assert min(later - earlier for earlier, later in pairwise(fires)) == cron.least_gap()


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("0 0 30 2 *", "none of these months has it"),
        ("0 0 31 4,6,9,11 *", "none of these months has it"),
        ("* * */20 * 1L", "never comes"),
        ("@reboot", "write the five fields"),
        ("@daily", "write the five fields"),
        ("0 0 0 1 1 *", "6 fields instead of 5"),
        ("0 2 * *", "4 fields instead of 5"),
        ("", "0 fields instead of 5"),
        ("60 * * * *", "minute is out of its range"),
        ("0 24 * * *", "hour is out of its range"),
        ("0 0 0 * *", "day of the month"),
        ("0 0 * 13 *", "month is out of its range"),
        ("0 0 * * 8", "day-of-week is out of its range"),
        ("9-5 * * * *", "minute is out of its range"),
        ("*/0 * * * *", "minute is out of its range"),
        ("*/90 * * * *", "a step of 90 is longer than the 60 values of the minute"),
        ("0 1-23,*/25 * * *", "longer than the 24 values of the hour"),
        (f"{','.join(['1'] * 150)} * * * *", "longer than 200 characters"),
    ],
)
def test_what_is_no_cron_of_five_fields_is_refused_by_name(expression: str, problem: str) -> None:
    with pytest.raises(RequestRejected, match=problem) as caught:
        Cron(expression=expression, timezone="UTC")
    assert caught.value.field == "cron"


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "europe/berlin", "../etc/passwd", "UTC+2", "localtime", "Factory"]
)
def test_what_is_no_timezone_is_refused(name: str) -> None:
    with pytest.raises(RequestRejected, match="not an IANA timezone") as caught:
        Cron(expression="0 0 * * *", timezone=name)
    assert caught.value.field == "timezone"


@given(
    st.one_of(
        st.text(max_size=30),
        st.lists(st.text("0123456789*/,-L#WMON?", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join),
    )
)
def test_any_text_is_refused_or_fires(text: str) -> None:
    try:
        cron = Cron(expression=text, timezone="Europe/Berlin")
    except RequestRejected:
        return
    start = at("2026-03-28T12:00Z")
    fires = cron.upcoming(start, 2)
    assert len(fires) == 2
    assert start < fires[0] < fires[1]


def test_the_newest_fire_of_years_of_minutes_is_found_at_once() -> None:
    cron, end = Cron(expression="* * * * *", timezone=BERLIN), at("2026-07-01T12:00:30Z")
    assert cron.newest(at("2016-01-01T00:00Z"), end) == at("2026-07-01T12:00Z")
    yearly = Cron(expression="0 0 29 2 *", timezone="UTC")
    assert yearly.newest(at("2016-01-01T00:00Z"), end) == at("2024-02-29T00:00Z")
    assert yearly.newest(at("2024-03-01T00:00Z"), end) is None
