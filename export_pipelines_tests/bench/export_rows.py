"""Measures one export end to end: seconds of each step, rows a second, peak memory of the run's process.

A throw-away embedded server in a temporary home holds one clinic with the invoices; each repetition is the real job
in a process of its own, as the command line runs it. Prints a Markdown table of medians. Run by `make bench-export`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from export_pipelines.commands.local_run import run_here
from export_pipelines.commands.service import DEMO_TENANT
from export_pipelines.core.status import RequestStatus
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.workplace import SOURCE_DATABASE, prepared
from export_pipelines.pipeline.assembly import open_object_store
from export_pipelines.samples.loader import load_sample
from export_pipelines.settings import load_settings

STEPS = ("plan", "stage", "convert", "validate", "package", "publish", "deliver", "finish")
_OTHER_ROWS = 1_000  # of the clinic's other tables
_MEGABYTE = 1_000_000


def main() -> None:
    arguments = _arguments()
    if arguments.once:
        sys.stdout.write(json.dumps(measure_once(arguments.format, arguments.compression)) + "\n")
        return
    load_before = os.getloadavg()[0]
    with _loaded_home(arguments.rows) as environment:
        found = [_in_own_process(environment, arguments) for _ in range(arguments.repeat)]
    title = f"{arguments.format}, {arguments.compression}"
    sys.stdout.write(f"{machine()}; load average before: {load_before:.1f}\n\n{markdown(found, title=title)}\n")


def measure_once(format_name: str, compression: str) -> dict[str, Any]:
    """One export in this process; seconds by step, of the whole job, rows, bytes and peak memory."""
    config = {
        "tables": ["invoices"],
        "filters": {"include_deleted": True},
        "format": format_name,
        "compression": compression,
    }
    with prepared(load_settings()) as workplace:
        os.environ.update(workplace.environment)
        started = time.perf_counter()
        request = run_here(config, DEMO_TENANT, workplace, open_object_store(workplace.settings), quiet=True)
        seconds = time.perf_counter() - started
        if request.status is not RequestStatus.COMPLETED:
            raise SystemExit(f"the export ended {request.status}: {request.error_message}")
        return {
            "steps": _step_seconds(str(request.run_id)),
            "seconds": seconds,
            "rows": request.package_rows,
            "size_bytes": request.package_bytes,
            "peak_bytes": peak_bytes(),
        }


def _step_seconds(run_id: str) -> dict[str, float]:
    from dagster import DagsterInstance  # after the environment names its home

    with DagsterInstance.get() as instance:
        found = instance.get_run_step_stats(run_id)
    return {step.step_key.removeprefix("export."): step.end_time - step.start_time for step in found}


def peak_bytes() -> int:
    """High-water mark of this process's memory. Linux counts it from exec on; getrusage includes the parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _loaded_home(rows: int) -> Iterator[dict[str, str]]:
    """A home whose server has the invoices; the environment that names it. All of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
        home = Path(folder)
        server = EmbeddedPostgres(home)
        server.start()
        try:
            server.ensure_database(SOURCE_DATABASE)
            url = server.url(SOURCE_DATABASE)
            load_sample(url, "clinic", tenants=1, rows=_OTHER_ROWS, invoices=rows)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("EXPORT_")}
            yield {**inherited, "EXPORT_HOME": str(home)}
        finally:
            server.stop()
            server.delete_data()


def _in_own_process(environment: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--once"]
    command += ["--format", arguments.format, "--compression", arguments.compression]
    answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


def markdown(found: list[dict[str, Any]], *, title: str) -> str:
    """Medians, and the slowest and fastest of each figure."""
    rows = found[0]["rows"]
    outside = [run["seconds"] - sum(run["steps"].values()) for run in found]
    lines = [
        f"| {title}, {rows:,} rows, {len(found)} runs | Median | Range |",
        "|---|---:|---:|",
        *(_line(f"{step}, s", [run["steps"][step] for run in found], "{:.2f}") for step in STEPS),
        _line("before, between and after the steps, s", outside, "{:.2f}"),
        _line("**whole job, s**", [run["seconds"] for run in found], "{:.2f}"),
        _line("rows a second", [run["rows"] / run["seconds"] for run in found], "{:,.0f}"),
        _line("package, MB", [run["size_bytes"] / _MEGABYTE for run in found], "{:.1f}"),
        _line("peak memory of the run's process, MB", [run["peak_bytes"] / _MEGABYTE for run in found], "{:.0f}"),
    ]
    return "\n".join(lines)


def _line(name: str, values: list[float], form: str) -> str:
    middle, low, high = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"| {name} | {middle} | {low} to {high} |"


def machine() -> str:
    """What the figures belong to."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    cores = len(os.sched_getaffinity(0))
    model = names[0] if names else platform.machine()
    return f"{cores} cores ({model}), {platform.system()}, Python {platform.python_version()}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="invoices to load")
    parser.add_argument("--repeat", type=int, default=3, help="how often the export runs")
    parser.add_argument("--format", default="csv")
    parser.add_argument("--compression", default="none", choices=["none", "gzip", "zip"])
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
