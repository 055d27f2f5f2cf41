"""The instruments: memory, time, interleaving, and that nothing measured outlives its measurement."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.counting import written
from benchmarks.datasets import Laboratory
from benchmarks.measuring import Contestant, interleaved, measure, thinned
from benchmarks.ours import CSV_GZ, Order, job, steps
from benchmarks.results import Spread
from export_pipelines.embedded.postgres import EmbeddedPostgres

MEGABYTE = 1_000_000
ALLOCATE = "import time; kept = bytearray(150_000_000); time.sleep(0.4)"


def python(script: str, *arguments: str, name: str = "program", **settings: object) -> Contestant:
    command = [sys.executable, "-c", script, *arguments]
    return Contestant(name=name, label=name, command=command, **settings)  # type: ignore[arg-type]


def test_the_peak_sees_what_a_program_allocates(tmp_path: Path) -> None:
    idle, filled = (measure(python(script), tmp_path) for script in ("pass", ALLOCATE))
    assert idle.peak_bytes < 100 * MEGABYTE
    assert 150 * MEGABYTE < filled.peak_bytes < 250 * MEGABYTE


def test_the_peak_adds_up_the_processes_that_run_together(tmp_path: Path) -> None:
    script = (
        f"import subprocess, sys; kept = bytearray(150_000_000); subprocess.run([sys.executable, '-c', {ALLOCATE!r}])"
    )
    assert measure(python(script), tmp_path).peak_bytes > 300 * MEGABYTE


def test_cpu_seconds_are_of_the_program_and_its_children(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    waiting, working = (measure(python(script), tmp_path) for script in ("import time; time.sleep(0.4)", child))
    assert waiting.cpu_seconds < 0.3 <= working.cpu_seconds
    assert waiting.process_seconds >= 0.4


def test_a_program_that_takes_too_long_is_stopped_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = "import subprocess, sys; child = subprocess.Popen(['sleep', '60'])\n"
    script += "open(sys.argv[1], 'w').write(str(child.pid)); child.wait()"
    run = measure(python(script, str(pid_file), timeout_seconds=2), tmp_path)
    assert run.failure == "> 2 s"
    status = Path(f"/proc/{pid_file.read_text()}/stat")
    deadline = time.monotonic() + 10  # on a busy machine a killed process takes a while to die
    while _lives(status) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(status)


def _lives(status: Path) -> bool:
    try:
        return status.read_text().split(")")[1].split()[0] != "Z"  # nobody may have reaped it yet
    except OSError:
        return False


def test_what_a_program_says_of_itself_counts(tmp_path: Path) -> None:
    answer = {"seconds": 0.125, "peak_bytes": 10**12, "steps": {"stage": 1.5}}
    run = measure(python(f"print('noise'); print({json.dumps(answer)!r})"), tmp_path)
    assert (run.seconds, run.peak_bytes, run.detail) == (0.125, 10**12, {"steps": {"stage": 1.5}})
    assert run.process_seconds != run.seconds


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("""print('{"unavailable": "no such format"}'); raise SystemExit(1)""", "no such format"),
        ("import sys; sys.exit('it broke')", "ended with 1: it broke"),
        ("print('{')", None),
    ],
)
def test_a_failure_is_a_finding_with_its_reason(script: str, reason: str | None, tmp_path: Path) -> None:
    assert measure(python(script), tmp_path).failure == reason


def test_programs_take_turns_and_failures_are_not_repeated(tmp_path: Path) -> None:
    log = tmp_path / "log"
    note = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + ' ')"
    field = [python(note, str(log), name, name=name) for name in "AB"]
    field.append(python(f"{note}; sys.exit(1)", str(log), "C", name="C"))
    field.append(python(note, name="D", missing="not installed"))
    found = interleaved(field, repeat=3, scratch=tmp_path / "scratch", dataset="inv", rows=1)
    assert log.read_text().split() == ["A", "B", "C", "A", "B", "A", "B"]
    assert [len(each.runs) for each in found] == [3, 3, 0, 0]
    assert [each.unavailable for each in found] == [None, None, "ended with 1: no message", "not installed"]


def test_fewer_rows_than_asked_for_are_no_result(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[1] + '/rows.csv', 'w').write('a,b\\n1,2\\n')"
    field = [python(script, "{out}", inspect=written)]
    (short,) = interleaved(field, repeat=1, scratch=tmp_path, dataset="inv", rows=2)
    (right,) = interleaved(field, repeat=1, scratch=tmp_path, dataset="inv", rows=1)
    assert (short.unavailable, len(right.runs)) == ("wrote 1 of 2 rows", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_thinned_curve_keeps_its_peak() -> None:
    curve = [(float(at), 5 if at != 777 else 99) for at in range(1000)]
    assert len(thinned(curve)) <= 120
    assert (777.0, 99) in thinned(curve)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0, 1.0, 2.0], (2.0, 1.0, 3.0)), ([4.0], (4.0, 4.0, 4.0)), ([1.0, 4.0], (2.5, 1.0, 4.0))],
)
def test_a_spread_is_median_least_and_greatest(values: list[float], expected: tuple[float, ...]) -> None:
    spread = Spread.of(values)
    assert (spread.median, spread.low, spread.high) == expected


@pytest.fixture
def tiny(postgres: EmbeddedPostgres, tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path, postgres)


def test_the_real_job_is_measured_on_wide_rows_with_its_steps(tiny: Laboratory) -> None:
    with tiny.dataset("act", 300) as dataset:
        run = measure(job(CSV_GZ, dataset), tiny.scratch)
    assert run.failure is None
    assert run.detail["counted_rows"] == 300
    assert {"plan", "stage", "convert", "validate", "package", "publish"} <= set(run.detail["steps"])
    assert 0 < sum(run.detail["steps"].values()) <= run.seconds < run.process_seconds


def test_what_a_version_does_not_offer_is_reported_and_stops_nothing(tiny: Laboratory) -> None:
    with tiny.dataset("inv", 200) as dataset:
        field = [steps(order, dataset) for order in (Order(format="clay"), Order(format="parquet"))]
        clay, parquet = interleaved(field, repeat=1, scratch=tiny.scratch, dataset="inv", rows=200)
    assert "'clay' is not a format" in str(clay.unavailable)
    assert len(parquet.runs) == 1
    assert list(tiny.scratch.iterdir()) == []
