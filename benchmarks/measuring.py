"""Runs a program and says what it cost: wall seconds, CPU seconds, peak memory of its process tree.

Linux only. Nothing here knows what is measured. A program may print one line of JSON at the end: its own figures.
``seconds`` there is the time of its work without the start of an interpreter, and is what ratios are made of;
``unavailable`` there says why it could not run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.results import Measurement, Run

TIMEOUT_SECONDS = 300.0
COSTLY_SECONDS = 10.0  # what takes longer is not repeated unless it must be
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SAID_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One program with what it is called; `{out}` in an argument becomes a folder that is emptied afterwards."""

    name: str  # unique within a suite and dataset: format.compression, or the program's name
    label: str
    command: Sequence[str]
    environment: Mapping[str, str] | None = None
    inspect: Callable[[Path], dict[str, int]] | None = None  # what it wrote, when the clock has stopped
    always_repeat: bool = False
    timeout_seconds: float = TIMEOUT_SECONDS
    curve: bool = False  # keep the memory samples
    missing: str | None = None  # why it cannot be measured on this machine


@dataclass
class Memory:
    """Resident memory of a process and its descendants, sampled in a thread."""

    pid: int
    every_seconds: float
    peak_bytes: int = 0
    curve: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while True:
            tree = family(self.pid)
            resident = sum(_resident_bytes(pid) for pid in tree)
            # Between two samples a process may have been larger; its high-water mark knows, for one process.
            self.peak_bytes = max(self.peak_bytes, resident, *(_high_water_bytes(pid) for pid in tree))
            if resident:  # zero: it has just ended
                self.curve.append((round(time.monotonic() - self._started, 2), resident))
            if self._ended.wait(self.every_seconds):
                return


def family(pid: int) -> list[int]:
    """A process and all below it, as far as they still live."""
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        for listed in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):  # it ended meanwhile
                waiting += map(int, listed.read_text().split())
    return found


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _high_water_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def own_peak_bytes() -> int:
    """High-water mark of this process. Linux counts it from exec on; getrusage would include the parent's."""
    return _high_water_bytes(os.getpid())


def measure(contestant: Contestant, scratch: Path) -> Run:
    """One run in a process of its own. A failure is a finding, not an error."""
    scratch.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(dir=scratch, prefix=f"{contestant.name}-".replace("/", "-")))
    try:
        run = _timed([part.replace("{out}", str(out)) for part in contestant.command], contestant)
        if run.failure is None and contestant.inspect is not None:
            run = run.with_detail(**contestant.inspect(out))
        return run
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _timed(command: list[str], contestant: Contestant) -> Run:
    """Wall, CPU and memory of one command in a session of its own, so that all of it can be ended."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env=None if contestant.environment is None else dict(contestant.environment),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            start_new_session=True,
        )
        memory = Memory(process.pid, every_seconds=0.1 if contestant.curve else 0.05)
        alarm = threading.Timer(contestant.timeout_seconds, _end, [process.pid])
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:  # an interrupt: nothing may go on behind our back
            _end(process.pid)
            process.wait()
            raise
        finally:
            alarm.cancel()
            memory.stop()
        timed_out = seconds >= contestant.timeout_seconds
        figures, failure = _figures(_said(said))
        if process.returncode != 0 and failure is None:
            failure = _complaint(process.returncode, _said(complained))
    if timed_out:
        failure = f"> {contestant.timeout_seconds:.0f} s"
    return Run(
        seconds=round(float(figures.pop("seconds", seconds)), 3),
        process_seconds=round(seconds, 3),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
        peak_bytes=max(memory.peak_bytes, int(figures.pop("peak_bytes", 0))),
        failure=failure,
        curve=thinned(memory.curve) if contestant.curve else None,
        detail=figures,
    )


def _end(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _said(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _figures(lines: list[str]) -> tuple[dict[str, Any], str | None]:
    """What the last line says, and why the program was not available if that is what it says."""
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        found = {}
    figures = found if isinstance(found, dict) else {}
    return figures, figures.pop("unavailable", None)


def _complaint(code: int, lines: list[str]) -> str:
    return f"ended with {code}: {lines[-1][:_SAID_CHARACTERS] if lines else 'no message'}"


def thinned(curve: list[tuple[float, int]], points: int = 120) -> list[tuple[float, int]]:
    """At most so many points; of each stretch the highest, so that no peak is lost."""
    width = -(-len(curve) // points) or 1
    return [max(curve[start : start + width], key=lambda point: point[1]) for start in range(0, len(curve), width)]


def interleaved(
    contestants: Iterable[Contestant], *, repeat: int, scratch: Path, dataset: str, rows: int
) -> list[Measurement]:
    """A B C A B C …, so that a disturbance of the machine meets all alike. What is costly or fails runs once."""
    field_ = list(contestants)
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in field_}
    for turn in range(repeat):
        for contestant in field_:
            done = runs[contestant.name]
            if contestant.missing is None and (not done or _again(contestant, done[-1])):
                tell(f"  {dataset} {rows:,} · {contestant.label} · {turn + 1}/{repeat}")
                done.append(measure(contestant, scratch))
                tell(f"    {done[-1].summary()}")
    return [_result(contestant, runs[contestant.name], dataset, rows) for contestant in field_]


def _again(contestant: Contestant, last: Run) -> bool:
    return last.failure is None and (contestant.always_repeat or last.process_seconds < COSTLY_SECONDS)


def _result(contestant: Contestant, runs: list[Run], dataset: str, rows: int) -> Measurement:
    """The runs that ended well, or the reason why there is none."""
    good = [run for run in runs if run.failure is None]
    failure = contestant.missing or next((run.failure for run in runs if run.failure), None)
    wrong = {run.detail["counted_rows"] for run in good if run.detail.get("counted_rows", rows) != rows}
    if wrong:
        good, failure = [], f"wrote {wrong.pop():,} of {rows:,} rows"
    return Measurement(
        name=contestant.name,
        label=contestant.label,
        dataset=dataset,
        rows=rows,
        runs=tuple(good),
        unavailable=None if good else failure or "was not run",
    )


def tell(line: str) -> None:
    """Progress goes to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
