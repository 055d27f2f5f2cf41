"""What a figure belongs to: the machine, its load, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from export_pipelines.embedded.binaries import locate

LIBRARIES = ("pyarrow", "polars", "duckdb", "adbc-driver-postgresql", "isal", "zstandard", "dagster")


def describe() -> dict[str, Any]:
    """Cores, memory, versions and the load average of the last minute."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_bytes": int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) * 1024,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": locate().major_version(),
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "revision": _revision(),
        "decoder": os.environ.get("EXPORT_DECODER", "default"),
        "load_average": round(os.getloadavg()[0], 2),
    }


def busy(machine: dict[str, Any]) -> bool:
    """Whether more was running than there are cores."""
    return bool(machine["load_average"] > machine["cores"])


def _field(path: str, name: str) -> str | None:
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> str:
    """The commit that was measured, with a plus where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10"]
    folder = Path(__file__).parent
    try:
        return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
