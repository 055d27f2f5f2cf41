"""Exports at an even pace for hours; what each process holds is sampled all the while."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load.clock import Clock, WentWrong
from benchmarks.load.users import User, export
from benchmarks.measuring import tell
from benchmarks.results import Measurement, Run
from benchmarks.soak.processes import LABELS, Held, held
from benchmarks.soak.service import Service, service

NAME, DATASET = "soak", "clinic"
ORDERS = tuple(
    {"tables": ["pets", "appointments", "invoices"], **kind}
    for kind in (
        {"format": "csv", "compression": "gzip"},
        {"format": "xlsx"},
        {"format": "parquet"},
        {"format": "json", "compression": "zip"},
    )
)
DATABASE, LOGS = "database", "logs"
_MOST_OPEN = 12  # exports at once: a slower machine stretches the test instead of filling the queue


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many exports, and in what time."""

    exports: int = 100
    hours: float = 0.1
    every_seconds: float = 30.0
    tenants: int = 10
    rows: int = 5_000  # of the whole sample

    @property
    def gap_seconds(self) -> float:
        """Between two orders."""
        return self.hours * 3600 / self.exports


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One look at the whole service."""

    seconds: float  # since the first order
    exports: int  # completed so far
    processes: dict[str, Held]
    database_bytes: int
    log_bytes: int


@dataclass
class Soak:
    """What was seen so far."""

    samples: list[Sample] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)

    def measurements(self) -> tuple[Measurement, ...]:
        """One for each process and each thing on disk: its curve, and how it changed over the second half."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.processes)
        found = [self._process(name) for name in names]
        return (*found, self._stored(DATABASE, "control database, on disk"), self._stored(LOGS, "log files"))

    def _process(self, name: str) -> Measurement:
        seen = [(sample, sample.processes[name]) for sample in self.samples if name in sample.processes]
        detail = {
            "starts": len({each.pid for _, each in seen}),
            "rss": [each.rss_bytes for _, each in seen],
            "descriptors": [seen[0][1].descriptors, seen[-1][1].descriptors],
            "threads": [seen[0][1].threads, seen[-1][1].threads],
        }
        curve = [(sample.seconds, each.pss_bytes) for sample, each in seen]
        return self._measurement(name, LABELS.get(name, name), curve, detail)

    def _stored(self, name: str, label: str) -> Measurement:
        curve = [(each.seconds, each.database_bytes if name == DATABASE else each.log_bytes) for each in self.samples]
        return self._measurement(name, label, curve, {})

    def _measurement(
        self, name: str, label: str, curve: list[tuple[float, int]], detail: dict[str, Any]
    ) -> Measurement:
        last = self.samples[-1]
        per_hour = slope([(at, float(size)) for at, size in second_half(curve)]) * 3600
        rate = last.exports / last.seconds * 3600 if last.seconds else 0.0
        detail |= {
            "exports": last.exports,
            "errors": dict(self.clock.errors),
            "bytes_per_hour": per_hour,
            "bytes_per_export": per_hour / rate if rate else 0.0,
        }
        run = Run(
            seconds=last.seconds,
            process_seconds=last.seconds,
            cpu_seconds=0.0,
            peak_bytes=max(size for _, size in curve),
            curve=curve,
            detail=detail,
        )
        return Measurement(name=name, label=label, dataset=DATASET, rows=last.exports, runs=(run,))


def second_half(curve: Sequence[tuple[float, int]]) -> Sequence[tuple[float, int]]:
    """The points of the second half of the time: the first one holds what a start costs."""
    middle = (curve[0][0] + curve[-1][0]) / 2
    return [point for point in curve if point[0] >= middle]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through the points by least squares, per second; 0 of fewer than two."""
    if len({at for at, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([at for at, _ in points], [value for _, value in points]).slope


def measure(home: Path, size: Size, samples: Path, saved: Callable[[tuple[Measurement, ...]], None]) -> Soak:
    """Starts the service and lets it work; `samples` gets a CSV line for each process and look.

    `saved` is called after each look, so that a test that is broken off leaves what it found.
    """
    found = Soak()
    with service(home, tenants=size.tenants, rows=size.rows) as running:
        tell(f"  the service answers; {size.exports:,} exports, one every {size.gap_seconds:.2g} s …")
        found.clock = Clock()
        asyncio.run(_soak(running, size, found, samples, saved))
    return found


async def _soak(
    running: Service, size: Size, found: Soak, samples: Path, saved: Callable[[tuple[Measurement, ...]], None]
) -> None:
    def look() -> None:
        found.samples.append(_look(running, found.clock))
        _write(found.samples, samples)
        saved(found.measurements())

    async def watch() -> None:
        due = time.monotonic()
        while True:
            await asyncio.to_thread(look)
            due += size.every_seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    watching = asyncio.create_task(watch())
    try:
        await _orders(running, size, found.clock)
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        look()


async def _orders(running: Service, size: Size, clock: Clock) -> None:
    """Each by the next tenant's user and in the next format; every other user follows the events."""
    places, began = asyncio.Semaphore(_MOST_OPEN), time.monotonic()
    async with httpx.AsyncClient(base_url=running.api_url, timeout=60) as client, asyncio.TaskGroup() as group:

        async def one(number: int) -> None:
            user = User(key=running.keys[number % len(running.keys)], follows=number % 2 == 1)
            try:
                with suppress(WentWrong):  # the clock has counted it
                    await export(client, user, clock, ORDERS[number % len(ORDERS)])
            finally:
                places.release()

        for number in range(size.exports):
            await asyncio.sleep(max(0.0, began + number * size.gap_seconds - time.monotonic()))
            await places.acquire()
            group.create_task(one(number))


def _look(running: Service, clock: Clock) -> Sample:
    try:
        processes = held(running.pid, running.postmaster_pid)
    except psutil.NoSuchProcess as error:
        raise RuntimeError(f"`up` has ended; see {running.home / 'up.log'}") from error
    return Sample(
        seconds=round(time.perf_counter() - clock.started, 1),
        exports=len(clock.exports),
        processes=processes,
        database_bytes=running.database_bytes(),
        log_bytes=running.log_bytes(),
    )


def _write(samples: Sequence[Sample], path: Path) -> None:
    """The last sample's lines, after a heading where they are the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [each.name for each in dataclasses.fields(Held)]
    with path.open("w" if len(samples) == 1 else "a", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        if len(samples) == 1:
            lines.writerow(["seconds", "exports", "process", *columns])
        last = samples[-1]
        for name, each in last.processes.items():
            lines.writerow([last.seconds, last.exports, name, *dataclasses.astuple(each)])
