"""Measures extraction alone: PostgreSQL into canonical Parquet, against `psql`'s binary COPY to nowhere.

Each figure is a process of its own, and the ways take turns, so that other load falls on all of them alike. Run by
hand: ``python -m benchmarks.extraction --rows 2000000``; it prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.extraction_tables import COLUMNS, LOGIN, TENANT, catalog, fill
from benchmarks.measuring import own_peak_bytes
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.embedded.binaries import locate
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.assembly import open_source
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.progress import Unwatched

WAYS = ("floor", "native", "native, counted", "adbc", "adbc, counted")
_MEGABYTE = 1_000_000


def main() -> None:
    arguments = _arguments()
    if arguments.once:
        way, table, url = arguments.once
        sys.stdout.write(json.dumps(extract(way, table, url)) + "\n")
        return
    load_before = os.getloadavg()[0]
    with database(arguments.rows, arguments.tables) as (admin_url, url):
        found = {table: measure(table, admin_url, url, arguments.repeat) for table in arguments.tables}
    sys.stdout.write(f"{machine.line()}; load average before: {load_before:.1f}\n\n{markdown(found, arguments)}\n")


def measure(table: str, admin_url: str, url: str, repeat: int) -> dict[str, list[dict[str, Any]]]:
    """Figures of every way, ``repeat`` times each, taking turns."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(repeat):
        for way in WAYS:
            found[way].append(floor(table, admin_url) if way == "floor" else _in_own_process(way, table, url))
    return found


def floor(table: str, admin_url: str) -> dict[str, Any]:
    """The same columns, none of them cast, by `psql` to nowhere; no policy in the way."""
    columns = ", ".join(f'"{name}"' for name in COLUMNS[table])
    copy = f"\\copy (SELECT {columns} FROM bench.{table}) to '/dev/null' (format binary)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([locate().program("psql"), "-qX", admin_url, "-c", copy], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_seconds": used, "peak_bytes": 0}


def extract(way: str, table: str, url: str) -> dict[str, Any]:
    """One table through one engine into Parquet; ``counted``: while the database counts the same rows, as in stage."""
    name, _, counted = way.partition(", ")
    selection = TableSelection(table=table, columns=tuple(COLUMNS[table]))
    source = open_source(url, catalog(), "native" if name == "native" else "adbc")
    schema = source.catalog.tables[table].arrow_schema(selection.columns)
    started, used = time.perf_counter(), time.process_time()
    with (
        tempfile.TemporaryDirectory(prefix="export-bench-") as folder,
        source.snapshot(TenantScope(tenant_id=TENANT)) as snapshot,
        ThreadPoolExecutor(1) as counting,
    ):
        figures = counting.submit(snapshot.aggregate, selection) if counted else None
        store = LocalStore(Path(folder))
        rows = write_canonical(store, "t.parquet", snapshot.read(selection), schema, table=table, progress=Unwatched())
        if figures is not None and figures.result().rows != rows:
            raise SystemExit(f"{rows} rows arrived, the database counts {figures.result().rows}")
        size_bytes = sum(size for _, size in store.list(""))
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - used,
        "peak_bytes": own_peak_bytes(),
        "size_bytes": size_bytes,
    }


def _in_own_process(way: str, table: str, url: str) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, "--once", way, table, url]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


@contextmanager
def database(rows: int, tables: list[str]) -> Iterator[tuple[str, str]]:
    """A throw-away server with the tables: the administrator's URL and the service's."""
    with tempfile.TemporaryDirectory(prefix="export-bench-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            server.ensure_database("bench")
            for table in tables:
                fill(server.url("bench"), table, rows)
            yield server.url("bench"), server.url("bench", user=LOGIN, password="bench")
        finally:
            server.stop()
            server.delete_data()


def markdown(found: Mapping[str, Mapping[str, list[dict[str, Any]]]], arguments: argparse.Namespace) -> str:
    """Medians; the ratio is the median of the ratios to the floor of the same turn."""
    lines = [
        f"| {arguments.rows:,} rows, {arguments.repeat} turns | Seconds | Range | × floor | CPU s | Peak MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for table, ways in found.items():
        floors = [turn["seconds"] for turn in ways["floor"]]
        for way, turns in ways.items():
            seconds = [turn["seconds"] for turn in turns]
            ratio = statistics.median(s / f for s, f in zip(seconds, floors, strict=True))
            cpu = statistics.median(turn["cpu_seconds"] for turn in turns)
            peak = statistics.median(turn["peak_bytes"] for turn in turns) / _MEGABYTE
            lines.append(
                f"| `{table}` {way} | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} "
                f"| {ratio:.2f} | {cpu:.2f} | {f'{peak:.0f}' if peak else ''} |"
            )
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tables", nargs="+", choices=list(COLUMNS), default=list(COLUMNS))
    parser.add_argument("--once", nargs=3, metavar=("WAY", "TABLE", "URL"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
