"""Rates as a setting says them, and the fields an answer tells them in."""

from __future__ import annotations

import pytest

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rates import Rate, Taken, parse_rate, rate_fields
from export_pipelines.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("text", "capacity", "per_seconds", "shown"),
    [
        ("5/15m", 5, 900, "5/15m"),
        ("1/s", 1, 1, "1/s"),
        (" 100/H ", 100, 3600, "100/h"),
        ("20/60s", 20, 60, "20/m"),
        ("3/7d", 3, 604_800, "3/7d"),
        ("7/90s", 7, 90, "7/90s"),
    ],
)
def test_a_rate_is_read_and_shown(text: str, capacity: int, per_seconds: int, shown: str) -> None:
    rate = parse_rate(text)
    assert rate == Rate(capacity=capacity, per_seconds=per_seconds)
    assert str(rate) == shown
    assert parse_rate(shown) == rate


def test_off_is_no_rate() -> None:
    assert parse_rate("off") is None


@pytest.mark.parametrize("text", ["", "5", "5/", "/m", "5/15", "5/15y", "0/m", "5/0m", "5/8d", "-1/m", "5 / m", "५/m"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must "):
        parse_rate(text)


def test_the_setting_names_itself_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPORT_RATE_LIMIT", "often")
    with pytest.raises(RequestRejected, match="EXPORT_RATE_LIMIT: must be a number of requests and an interval"):
        load_settings()


@pytest.mark.parametrize(
    ("value", "rate"), [("10/h", Rate(capacity=10, per_seconds=3600)), ("off", None), ("", Settings().rate_limit)]
)
def test_the_setting_sets_the_limit(monkeypatch: pytest.MonkeyPatch, value: str, rate: Rate | None) -> None:
    monkeypatch.setenv("EXPORT_RATE_LIMIT", value)
    assert load_settings().rate_limit == rate


def test_an_allowed_try_tells_policy_and_rest() -> None:
    taken = Taken(allowed=True, remaining=4, retry_after_seconds=0, reset_seconds=179.2)
    assert rate_fields("exports", Rate(capacity=5, per_seconds=900), taken) == {
        "RateLimit-Policy": '"exports";q=5;w=900',
        "RateLimit": '"exports";r=4;t=180',
    }


@pytest.mark.parametrize(("seconds", "shown"), [(0.001, "1"), (59.5, "60"), (180, "180")])
def test_a_refused_try_tells_when_to_come_back_and_never_too_early(seconds: float, shown: str) -> None:
    taken = Taken(allowed=False, remaining=0, retry_after_seconds=seconds, reset_seconds=900)
    assert rate_fields("exports", Rate(capacity=5, per_seconds=900), taken)["Retry-After"] == shown
