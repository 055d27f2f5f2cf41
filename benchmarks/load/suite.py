"""Measures a service, started by each of the two ways that runs begin: one export at a time, then many users."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import shares
from benchmarks.load.clock import Clock
from benchmarks.load.service import Scene, scene
from benchmarks.load.users import load, one_after_another
from benchmarks.measuring import tell
from benchmarks.results import Measurement, Run

NAME, DATASET = "api", "clinic"
LAUNCHERS = {"dagster": "runs in new interpreters", "warm": "runs as copies of a warm process"}
_WARMING = 2  # exports that are not counted: the first fills caches


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is asked of each service."""

    minutes: float = 3.0
    users: int = 50
    tenants: int = 25
    rows: int = 1_000
    alone: int = 20  # exports one after another
    launchers: tuple[str, ...] = tuple(LAUNCHERS)


def measure(home: Path, size: Size) -> list[Measurement]:
    """For each way: ``alone.<way>`` with a run for each export, ``load.<way>`` with one run for all users."""
    return [each for launcher in size.launchers for each in _measured(home / launcher, launcher, size)]


def _measured(home: Path, launcher: str, size: Size) -> Iterator[Measurement]:
    with scene(home, launcher=launcher, tenants=size.tenants, rows=size.rows) as found:
        tell(f"  {LAUNCHERS[launcher]}: {size.alone} exports one after another …")
        single = alone(found, size)
        tell(f"  {single[0].summary()}; {size.users} users for {size.minutes:g} minutes …")
        many = together(found, size)
    tell(f"  {many.detail['exports']}")
    label = LAUNCHERS[launcher]
    yield Measurement(name=f"alone.{launcher}", label=label, dataset=DATASET, rows=size.rows, runs=tuple(single))
    yield Measurement(name=f"load.{launcher}", label=label, dataset=DATASET, rows=size.rows, runs=(many,))


def alone(found: Scene, size: Size) -> list[Run]:
    """Exports one after another; each with the CPU that one took of each part, on average."""
    (user,) = found.users(1)
    asyncio.run(one_after_another(found.services.api_url, user, _WARMING))
    before = found.cpu()
    seconds = asyncio.run(one_after_another(found.services.api_url, user, size.alone))
    spent = {name: (after - before[name]) / size.alone for name, after in found.cpu().items()}
    cpu = sum(value for name, value in spent.items() if name != shares.CLIENT)
    return [
        Run(seconds=each, process_seconds=each, cpu_seconds=cpu, peak_bytes=0, detail={"cpu": spent})
        for each in seconds
    ]


def together(found: Scene, size: Size) -> Run:
    """All users at once; the cores that each part kept busy, and all else on the machine."""
    users, clock = found.users(size.users), Clock()
    before, busy, began = found.cpu(), shares.busy_seconds(), time.perf_counter()
    asyncio.run(load(found.services.api_url, users, size.minutes * 60, clock))
    seconds = time.perf_counter() - began
    cores = shares.shares(before, found.cpu(), seconds)
    machine = (shares.busy_seconds() - busy) / seconds
    detail: dict[str, Any] = clock.reported() | {
        "users": size.users,
        "tenants": size.tenants,
        "cores": cores,
        "cores_of_others": max(0.0, machine - sum(cores.values())),
    }
    return Run(
        seconds=statistics.median(clock.exports) if clock.exports else 0.0,
        process_seconds=seconds,
        cpu_seconds=seconds * sum(value for name, value in cores.items() if name != shares.CLIENT),
        peak_bytes=0,
        failure=None if clock.exports else "no export was completed",
        detail=detail,
    )
