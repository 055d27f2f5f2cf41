"""What the processes of a service have cost so far, ended ones included. Linux and macOS, by psutil."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import psutil

from export_pipelines.embedded.services import Services

RUNS, CLIENT, POSTGRES = "runs", "client", "PostgreSQL"
LABELS = {"api": "API", "code": "code server", "webserver": "webserver", "daemon": "daemon"}


def cpu_seconds(services: Services, postmaster: int) -> dict[str, float]:
    """CPU of each part. Runs are all that the code server started, a fork server among it."""
    found = {POSTGRES: _tree(psutil.Process(postmaster)), CLIENT: _own(psutil.Process())}
    for child in services.children:
        if child.process is None:
            continue
        process = psutil.Process(child.process.pid)
        if child.name == "code":
            found[LABELS["code"]] = _own(process)
            found[RUNS] = _tree(process) - found[LABELS["code"]]
        else:
            found[LABELS.get(child.name, child.name)] = _tree(process)
    return found


def shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Cores that each part kept busy."""
    return {name: (after[name] - before.get(name, 0.0)) / seconds for name in after}


def busy_seconds() -> float:
    """What the whole machine has worked so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _own(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _tree(process: psutil.Process) -> float:
    """Of the process and its descendants: those at work, and by their parents those that have ended."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
