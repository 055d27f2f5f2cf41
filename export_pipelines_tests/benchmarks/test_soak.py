"""The soak test's figures: a slope is of the second half, and is told by the hour and by the export."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.plots import SOAK, draw
from benchmarks.results import SuiteResult
from benchmarks.soak.processes import Held, held
from benchmarks.soak.suite import Sample, Soak, second_half, slope
from benchmarks.soak.tables import soak


def sample(seconds: float, exports: int, size: int, pid: int = 7) -> Sample:
    process = Held(pid=pid, rss_bytes=size * 2, pss_bytes=size, descriptors=exports, threads=3)
    return Sample(
        seconds=seconds, exports=exports, processes={"daemon": process}, database_bytes=10**7, log_bytes=10**6
    )


def test_a_slope_is_of_the_second_half_by_the_hour_and_by_the_export() -> None:
    found = Soak(samples=[sample(0, 0, 10**6), sample(1800, 500, 10**8), sample(3600, 1000, 10**8 + 5 * 10**7)])
    daemon, database, logs = found.measurements()
    detail = daemon.runs[0].detail
    assert detail["bytes_per_hour"] == pytest.approx(10**8)  # 50 MB in half an hour
    assert detail["bytes_per_export"] == pytest.approx(10**5)
    assert detail["starts"] == 1
    assert (database.runs[0].detail["bytes_per_hour"], logs.runs[0].detail["bytes_per_hour"]) == (0, 0)


@pytest.mark.parametrize("points", [[], [(1.0, 5.0)], [(1.0, 5.0), (1.0, 6.0)]])
def test_too_few_points_have_no_slope(points: list[tuple[float, float]]) -> None:
    assert slope(points) == 0


def test_the_second_half_is_of_the_time_and_not_of_the_points() -> None:
    assert second_half([(0, 1), (1, 2), (2, 3), (10, 4)]) == [(10, 4)]


def test_the_table_names_each_process_and_how_often_it_started(tmp_path: Path) -> None:
    found = Soak(samples=[sample(0, 0, 10**8), sample(3600, 1000, 2 * 10**8, pid=8)])
    found.clock.errors["order: 503"] = 2
    result = SuiteResult(
        suite="soak", rows=1000, repeat=1, started_at="2026-01-02T03:04:05+00:00", seconds=3600.0, preliminary=False,
        loaded=False, machine={}, measurements=found.measurements(),
    )  # fmt: skip
    table = soak(result)
    assert table.startswith("1,000 exports in 1.0 hours; 2 × order: 503.")
    assert "| daemon (started 2 times) | 100 | 200 | 200 | 200 |" in table
    assert "| 0 → 1000 | 3 → 3 |" in table
    assert draw({"soak": result}, tmp_path) == [tmp_path / SOAK]


def test_a_process_is_known_by_its_command_line_and_counts_without_its_copies() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as database,
        subprocess.Popen(
            [sys.executable, "-c", "input()", "export_pipelines.orchestration.daemon"], stdin=subprocess.PIPE
        ) as daemon,
        subprocess.Popen(
            [sys.executable, "-c", "input()", "export_pipelines.orchestration.daemon"], stdin=subprocess.PIPE
        ) as copy,
    ):
        try:
            found = held(os.getpid(), database.pid)
        finally:
            for process in (database, daemon, copy):
                process.communicate(b"\n")
    ours = {"up": os.getpid(), "PostgreSQL": database.pid, "daemon": daemon.pid}
    assert {name: found[name].pid for name in ours} == ours  # other tests' servers are children of this process, too
    assert copy.pid not in {each.pid for each in found.values()}
    assert all(found[name].rss_bytes >= found[name].pss_bytes > 0 and found[name].threads > 0 for name in ours)
