"""Half-open windows and the periods of partitions, also where clocks jump."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from export_pipelines.core.catalog import Grain
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import Kind
from export_pipelines.core.windows import (
    EARLIEST,
    LATEST,
    as_compared,
    last_closed_month,
    next_period,
    parse_instant,
    parse_window,
    period_window,
    window_in_words,
)

days = st.dates(EARLIEST, LATEST)
zones = st.sampled_from(sorted(available_timezones()))


def instant(value: str, timezone: str = "UTC") -> dt.datetime:
    return parse_instant(value, timezone=timezone, field="f")


@pytest.mark.parametrize(
    ("value", "timezone", "utc"),
    [
        ("2024-03-10", "UTC", "2024-03-10T00:00"),
        ("2024-03-10", "America/New_York", "2024-03-10T05:00"),  # still winter at midnight
        ("2024-03-11", "America/New_York", "2024-03-11T04:00"),  # summer: the day before had 23 hours
        ("2024-11-04", "America/New_York", "2024-11-04T05:00"),  # winter: the day before had 25
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00"),  # midnight does not exist; the day begins at 01:00
        ("2024-11-03", "America/Havana", "2024-11-03T04:00"),  # 00:00 comes twice; the first counts
        ("2024-01-31T12:00:00Z", "Asia/Tokyo", "2024-01-31T12:00"),
        ("2024-01-31T12:00:00+02:00", "Asia/Tokyo", "2024-01-31T10:00"),
        ("2024-01-31T12:00", "Asia/Tokyo", "2024-01-31T03:00"),
    ],
)
def test_a_date_is_the_start_of_that_day_in_the_tenants_timezone(value: str, timezone: str, utc: str) -> None:
    found = instant(value, timezone)
    assert found == dt.datetime.fromisoformat(f"{utc}+00:00")
    assert found.tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (
            "2024-01-01",
            "2024-12-31",
            "from 2024-01-01 up to, not including, 2024-12-31; to include 2024-12-31, set the end to 2025-01-01",
        ),
        ("2024-01-01", "2025-01-01", "from 2024-01-01 up to, not including, 2025-01-01"),
        ("2024-01-01", None, "from 2024-01-01"),
        (None, "2024-03-01", "up to, not including, 2024-03-01"),
        (
            "2024-01-01",
            "2024-12-31T12:00",
            "from 2023-12-31T23:00:00+00:00 up to, not including, 2024-12-31T11:00:00+00:00",
        ),
    ],
)
def test_a_range_is_told_in_words_and_how_to_include_its_last_day(
    start: str | None, end: str | None, words: str
) -> None:
    assert window_in_words(parse_window(start, end, timezone="Europe/Berlin"), "Europe/Berlin") == words


@given(days, zones)
@example(dt.date(2011, 12, 30), "Pacific/Apia")  # a day that never was: it begins and ends with the next
def test_the_day_before_ends_where_a_day_begins(day: dt.date, zone: str) -> None:
    """Windows of neighbouring days share one instant, so no row falls between them and none into both."""
    begins = instant(day.isoformat(), zone)
    assert begins.astimezone(ZoneInfo(zone)).date() >= day
    assert (begins - dt.timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < day


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_rejected_by_name(text: str) -> None:
    try:
        field, offset = "f", instant(text).utcoffset()
    except RequestRejected as refused:
        field, offset = refused.field or "", dt.timedelta(0)
    assert (field, offset) == ("f", dt.timedelta(0))


@pytest.mark.parametrize(
    "value",
    [
        "0001-01-01",
        "0001-01-02T00:00:00+14:00",
        "9999-12-31",
        "9999-12-30T23:59:59-12:00",
        "9999-12-31T00:00:00-12:00",
        "2024-02-30",
        "yesterday",
        "1704067200",
    ],
)
def test_what_no_zone_can_express_or_nobody_can_read_is_rejected(value: str) -> None:
    with pytest.raises(RequestRejected):
        instant(value)


@pytest.mark.parametrize(("start", "end"), [("2024-01-02", "2024-01-02"), ("2024-01-03", "2024-01-02")])
def test_a_window_that_does_not_open_is_rejected(start: str, end: str) -> None:
    with pytest.raises(RequestRejected, match=r"date_range\.end.*half-open"):
        parse_window(start, end, timezone="UTC")


@pytest.mark.parametrize(("start", "end"), [(None, None), ("", ""), ("2024-01-01", None), (None, "2024-01-01")])
def test_a_side_that_is_left_out_is_open(start: str | None, end: str | None) -> None:
    window = parse_window(start, end, timezone="UTC")
    assert (window.start_at is None, window.end_at is None) == (not start, not end)
    assert window.unbounded == (not start and not end)


@pytest.mark.parametrize(
    ("start", "grain", "following"),
    [
        (dt.date(2024, 1, 1), Grain.MONTH, dt.date(2024, 2, 1)),
        (dt.date(2024, 12, 1), Grain.MONTH, dt.date(2025, 1, 1)),
        (dt.date(2024, 2, 28), Grain.DAY, dt.date(2024, 2, 29)),
        (dt.date(2023, 12, 31), Grain.DAY, dt.date(2024, 1, 1)),
    ],
)
def test_the_next_period_begins_where_this_one_ends(start: dt.date, grain: Grain, following: dt.date) -> None:
    assert next_period(start, grain) == following


@given(st.dates(dt.date(2020, 1, 1), dt.date(2030, 1, 1)), st.sampled_from([Grain.MONTH, Grain.DAY]))
def test_periods_tile_all_of_time(day: dt.date, grain: Grain) -> None:
    first = day.replace(day=1) if grain is Grain.MONTH else day
    following = next_period(first, grain)
    history = dt.date(2020, 1, 1)
    one = period_window(first, first, grain=grain, history_start=history)
    other = period_window(following, following, grain=grain, history_start=history)
    assert one.end_at == other.start_at
    assert one.with_unset == (first <= history)
    assert (one.start_at is None) == (first <= history)


def test_several_periods_are_one_window() -> None:
    window = period_window(
        dt.date(2024, 1, 1), dt.date(2024, 3, 1), grain=Grain.MONTH, history_start=dt.date(2020, 1, 1)
    )
    assert window.start_at == dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    assert window.end_at == dt.datetime(2024, 4, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("now", "closed"),
    [("2024-03-01T00:00", (2024, 2, 1)), ("2024-03-31T23:59", (2024, 2, 1)), ("2024-01-15T12:00", (2023, 12, 1))],
)
def test_the_last_closed_month_is_the_one_before(now: str, closed: tuple[int, int, int]) -> None:
    assert last_closed_month(dt.datetime.fromisoformat(f"{now}+00:00")) == dt.date(*closed)


@pytest.mark.parametrize(
    ("instant", "kind", "edge"),
    [
        ("2024-01-09T23:00Z", Kind.INSTANT, "2024-01-09T23:00:00+00:00"),
        ("2024-01-09T23:00Z", Kind.TIMESTAMP, "2024-01-10T00:00:00"),
        ("2024-01-09T23:00Z", Kind.DATE, "2024-01-10"),
        ("2024-01-10T12:00Z", Kind.DATE, "2024-01-11"),  # the rest of a day holds no whole one
    ],
)
def test_an_edge_is_in_the_terms_of_the_column(instant: str, kind: Kind, edge: str) -> None:
    assert as_compared(dt.datetime.fromisoformat(instant), kind, "Europe/Berlin").isoformat() == edge
