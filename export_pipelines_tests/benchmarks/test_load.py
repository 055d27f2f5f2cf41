"""The load test counts what went wrong, and its table says what the figures say. The service itself: test_warm_runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest

from benchmarks.load.clock import Clock, WentWrong, spread
from benchmarks.load.tables import api
from benchmarks.results import Measurement, Run, SuiteResult

CALL = {"per_second": 2.0, "median": 0.0123, "p95": 0.5, "p99": 0.75, "longest": 1.0}
DETAIL: dict[str, Any] = {
    "seconds": 60.0,
    "requests_per_second": 12.5,
    "error_rate": 0.0,
    "errors": {},
    "calls": {"order": CALL, "events": CALL},
    "exports": {"count": 120, "per_minute": 120.0, "median": 24.0, "p95": 31.0, "p99": 33.0, "longest": 34.0},
    "rows": 120_000,
    "users": 50,
    "tenants": 25,
    "cores": {"runs": 1.2, "PostgreSQL": 0.3, "daemon": 0.2, "code server": 0.1, "webserver": 0.1, "API": 0.05},
    "cores_of_others": 0.01,
}


def result(**changes: Any) -> SuiteResult:
    run = Run(seconds=24.0, process_seconds=60.0, cpu_seconds=117.0, peak_bytes=0, detail={**DETAIL, **changes})
    single = Run(seconds=0.9, process_seconds=0.9, cpu_seconds=0.8, peak_bytes=0, detail={"cpu": {"runs": 0.5}})
    many = Measurement(name="load.warm", label="copies", dataset="clinic", rows=1000, runs=(run,))
    alone = Measurement(
        name="alone.warm",
        label="copies",
        dataset="clinic",
        rows=1000,
        runs=(single, dataclasses.replace(single, seconds=1.1)),
    )
    return SuiteResult(
        suite="api", rows=1000, repeat=1, started_at="2026-01-02T03:04:05+00:00", seconds=1.0, preliminary=False,
        loaded=False, machine={"cores": 2}, measurements=(alone, many),
    )  # fmt: skip


def test_an_error_is_counted_once_and_is_no_latency() -> None:
    clock = Clock()
    for error in (httpx.ReadTimeout("slow"), WentWrong("503")):
        with pytest.raises(WentWrong), clock.timing("status"):
            raise error
    with clock.timing("status"):
        pass
    reported = clock.reported()
    assert reported["errors"] == {"status: ReadTimeout": 1, "status: 503": 1}
    assert reported["error_rate"] == pytest.approx(2 / 3)
    assert reported["requests"] == 3
    assert len(clock.calls["status"]) == 1


def test_shares_of_latencies_are_of_those_that_were_measured() -> None:
    assert spread([]) == {}
    assert spread([3.0]) == {"median": 3.0, "p95": 3.0, "p99": 3.0, "longest": 3.0}
    assert spread([float(n) for n in range(1, 101)]) == {"median": 50.5, "p95": 95.0, "p99": 99.0, "longest": 100.0}


def test_the_table_tells_one_export_many_users_and_calls_in_milliseconds() -> None:
    reported = api(result())
    assert "| copies | 1.00 (0.90–1.10) | 2 | 0.50 |" in reported
    assert "120 exports, 120 a minute, POST to completed 24.0 s (p95 31.0 s)" in reported
    assert "no error" in reported
    assert "| order | 2.0 | 12.3 | 500 | 750 |" in reported
    assert "| events |" not in reported


@pytest.mark.parametrize(("others", "words"), [(0.01, "The cores bound it: 1.96 of 2"), (0.0, "The cores bound it")])
def test_busy_cores_are_what_bounds_it(others: float, words: str) -> None:
    assert words in api(result(cores_of_others=others))


def test_idle_cores_are_not_what_bounds_it() -> None:
    assert "Cores were left (0.60 of 2 busy)" in api(result(cores={"runs": 0.6}, cores_of_others=0.0))


def test_errors_are_told_with_their_share() -> None:
    reported = api(result(errors={"order: 500": 3}, error_rate=0.004))
    assert "**0.40% errors** (3 × order: 500)" in reported
