"""`run` measures and saves each suite as it is done; `report` writes docs/benchmarks.md and its plots from that.

python -m benchmarks run --suite stages,peers --rows 100k --repeat 1
python -m benchmarks api --minutes 3
python -m benchmarks scale --case tenants buckets
python -m benchmarks soak --exports 3000 --hours 2
python -m benchmarks report
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.datasets import Laboratory, laboratory
from benchmarks.load.suite import LAUNCHERS, NAME, Size
from benchmarks.load.suite import measure as measure_load
from benchmarks.machine import busy, describe
from benchmarks.measuring import tell
from benchmarks.results import FULL_ROWS, RESULTS, Measurement, SuiteResult, load, save
from benchmarks.scale.cases import CASES, Case, cases
from benchmarks.soak.suite import NAME as SOAK
from benchmarks.soak.suite import Size as SoakSize
from benchmarks.soak.suite import measure as measure_soak
from benchmarks.soak.tables import soak as soak_table
from benchmarks.suites import SUITES, Sizes, suite

_INTERRUPTED = 130  # what shells expect after Ctrl-C
_MULTIPLES = {"k": 1_000, "M": 1_000_000}


def main(arguments: list[str] | None = None) -> int:
    parsed = _parser().parse_args(arguments)
    if parsed.command == "report":
        from benchmarks.report import write  # matplotlib is only needed here

        for path in write(parsed.results, parsed.page):
            tell(f"wrote {path}")
        return 0
    signal.signal(signal.SIGTERM, _stop)
    try:
        return {"api": _api, "scale": _scale, "soak": _soak, "run": _suites_of}[parsed.command](parsed)
    except KeyboardInterrupt:
        tell("stopped; `run --resume` goes on with the suites that are not saved yet")
        return _INTERRUPTED


def _api(parsed: argparse.Namespace) -> int:
    """The service under load; its result is a suite like the others."""
    size = Size(minutes=parsed.minutes, users=parsed.users, alone=parsed.alone, launchers=tuple(parsed.launcher))
    machine, started_at, started = described(), dt.datetime.now(dt.UTC), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
        measurements = tuple(measure_load(Path(folder).resolve(), size))
    save(_result(NAME, size.rows, 1, machine, measurements, started_at, started), parsed.results)
    return 0


def _scale(parsed: argparse.Namespace) -> int:
    """Dagster with many partitions; its result is a suite like the others."""
    from benchmarks.scale.suite import NAME as SCALE  # Dagster's daemon is only needed here
    from benchmarks.scale.suite import Size as ScaleSize
    from benchmarks.scale.suite import measure as measure_scale

    size = ScaleSize(cases=cases(parsed.case, share=parsed.share, months=parsed.months), repeat=parsed.repeat)
    whole = parsed.share == 1 and parsed.months == Case.months
    machine, started_at, started = described(), dt.datetime.now(dt.UTC), time.monotonic()
    measurements: list[Measurement] = []
    full_rows = 0 if whole else FULL_ROWS
    for case in size.cases:  # each takes minutes, and is kept when a later one is broken off
        with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
            measurements += measure_scale(Path(folder).resolve(), dataclasses.replace(size, cases=[case]))
        found = tuple(measurements)
        result = _result(SCALE, size.rows, size.repeat, machine, found, started_at, started, full_rows=full_rows)
        save(result, parsed.results)
    return 0


def _soak(parsed: argparse.Namespace) -> int:
    """The service for hours; its result is a suite like the others, and is there after every sample."""
    size = SoakSize(exports=parsed.exports, hours=parsed.hours, every_seconds=parsed.every)
    machine, started_at, started = described(), dt.datetime.now(dt.UTC), time.monotonic()

    def keep(found: tuple[Measurement, ...]) -> None:
        save(_result(SOAK, size.exports, 1, machine, found, started_at, started), parsed.results)

    with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
        home = Path(folder).resolve() / "home"
        found = measure_soak(home, size, parsed.samples or parsed.results / f"{SOAK}.csv", keep)
    tell(soak_table(load(parsed.results)[SOAK]))
    return int(bool(found.clock.errors))


def described() -> dict[str, Any]:
    """Machine and load before anything of ours runs: later its load is our own."""
    machine = describe()
    if busy(machine):
        tell(f"the machine is busy (load average {machine['load_average']}); the results will say so")
    return machine


def _suites_of(parsed: argparse.Namespace) -> int:
    sizes = Sizes(rows=parsed.rows, memory_rows=parsed.memory_rows or _memory_rows(parsed.rows), repeat=parsed.repeat)
    machine = described()
    with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
        home = (parsed.home or Path(folder)).resolve()
        with laboratory(home, keep=parsed.home is not None) as found:
            _run(parsed.suite, sizes, found, machine, parsed)
    return 0


def _run(
    names: list[str], sizes: Sizes, found: Laboratory, machine: dict[str, Any], parsed: argparse.Namespace
) -> None:
    saved = load(parsed.results) if parsed.resume else {}
    for name in names:
        known = saved.get(name)
        wanted = (sizes.rows, sizes.repeat, machine["revision"])
        if known and (known.rows, known.repeat, known.machine["revision"]) == wanted:
            tell(f"{name}: saved already")
            continue
        tell(f"{name} …")
        result = _measured(name, sizes, found, machine)
        save(result, parsed.results)
        tell(f"{name}: {result.seconds:.0f} s")


def _measured(name: str, sizes: Sizes, found: Laboratory, machine: dict[str, Any]) -> SuiteResult:
    started_at, started = dt.datetime.now(dt.UTC), time.monotonic()
    measurements = tuple(suite(name)(found, sizes))
    return _result(name, sizes.rows, sizes.repeat, machine, measurements, started_at, started, full_rows=FULL_ROWS)


def _result(
    name: str,
    rows: int,
    repeat: int,
    machine: dict[str, Any],
    measurements: tuple[Measurement, ...],
    started_at: dt.datetime,
    started: float,
    *,
    full_rows: int = 0,
) -> SuiteResult:
    return SuiteResult(
        suite=name,
        rows=rows,
        repeat=repeat,
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        preliminary=rows < full_rows,
        loaded=busy(machine),
        machine=machine,
        measurements=measurements,
    )


def _memory_rows(rows: int) -> tuple[int, ...]:
    """A half, the whole and five times the main size: 1M, 2M and 10M by default."""
    return (rows // 2, rows, rows * 5)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("--suite", type=_suites, default=list(SUITES), help=f"of {','.join(SUITES)}; default: all")
    run.add_argument("--rows", type=count, default=FULL_ROWS, help="main size, such as 100k or 2M")
    run.add_argument("--memory-rows", type=_counts, help="sizes of the memory curves; default: ½, 1 and 5 × --rows")
    run.add_argument("--repeat", type=int, default=3, help="runs of what takes less than ten seconds")
    run.add_argument("--home", type=Path, help="keep the loaded databases in this folder for the next time")
    run.add_argument("--resume", action="store_true", help="skip suites that are saved for this commit and size")
    api = commands.add_parser("api", help="measure the whole service under load")
    api.add_argument("--minutes", type=float, default=Size.minutes, help="of load, for each way to start runs")
    api.add_argument("--users", type=int, default=Size.users, help="at the same time")
    api.add_argument("--alone", type=int, default=Size.alone, help="exports one after another, before")
    api.add_argument("--launcher", nargs="+", choices=list(LAUNCHERS), default=list(LAUNCHERS))
    scale = commands.add_parser("scale", help="measure ticks, dispatch and the UI with very many partitions")
    names = [case.name for case in CASES]
    scale.add_argument("--case", nargs="+", choices=names, default=names)
    scale.add_argument("--share", type=float, default=1.0, help="of the tenants, for a trial")
    scale.add_argument("--months", type=int, default=Case.months)
    scale.add_argument("--repeat", type=int, default=3)
    soak = commands.add_parser("soak", help="run the service for hours and sample the memory of its processes")
    soak.add_argument("--exports", type=int, default=SoakSize.exports)
    soak.add_argument("--hours", type=float, default=SoakSize.hours, help="over which the orders are spread")
    soak.add_argument("--every", type=float, default=SoakSize.every_seconds, help="seconds between two samples")
    soak.add_argument("--samples", type=Path, help="CSV of all samples; default: soak.csv beside the results")
    report = commands.add_parser("report", help="write the page and the plots")
    report.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    for command in (run, api, scale, soak, report):
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of the saved results")
    return parser


def count(text: str) -> int:
    """``100k`` is 100,000, ``2M`` two million."""
    factor = _MULTIPLES.get(text[-1:], 1)
    return int(float(text.rstrip("kM")) * factor)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(part) for part in text.split(","))


def _suites(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no suite {', '.join(unknown)}; choose from {', '.join(SUITES)}")
    return names


def _stop(signal_number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like Ctrl-C, so that programs and the server end."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    sys.exit(main())
