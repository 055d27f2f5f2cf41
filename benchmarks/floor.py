"""What PostgreSQL's own client needs for the same rows: the floor under every export through one connection."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.counting import size_written, written
from benchmarks.datasets import Dataset
from benchmarks.measuring import Contestant
from export_pipelines.embedded.binaries import locate

BINARY, CSV, GZIP, PIGZ, IGZIP = "copy.binary", "copy.csv", "copy.gzip", "copy.pigz", "copy.igzip"
_FILTERS = {
    GZIP: ("gzip -6", "gzip -6"),
    PIGZ: ("pigz -p2", "pigz -p2"),
    IGZIP: ("igzip (ISA-L)", f"{shlex.quote(sys.executable)} -m isal.igzip"),
}  # what it is called, and the command


def floors(dataset: Dataset) -> Iterator[Contestant]:
    """`\\copy` to nowhere, and CSV through each compressor into a file."""
    for name, form in ((BINARY, "binary"), (CSV, "csv")):
        command = _copy(dataset, "'/dev/null'", form)
        yield Contestant(name=name, label=f"psql \\copy {form} to /dev/null", command=command)
    yield from (compressed(name, dataset) for name in _FILTERS)


def compressed(name: str, dataset: Dataset) -> Contestant:
    """`\\copy` as CSV through a compressor."""
    label, filter_ = _FILTERS[name]
    program = shlex.split(filter_)[0]
    pipe = f"{shlex.join(_copy(dataset, 'pstdout', 'csv, header'))} | {filter_} > {{out}}/rows.csv.gz"
    return Contestant(
        name=name,
        label=f"psql \\copy csv | {label}",
        command=["bash", "-o", "pipefail", "-c", pipe],
        inspect=written,
        missing=None if shutil.which(program) else f"{program} is not installed",
    )


def _copy(dataset: Dataset, target: str, form: str) -> list[str]:
    meta_command = f"\\copy ({dataset.query}) to {target} (format {form})"
    return [client("psql"), "-qX", "-v", "ON_ERROR_STOP=1", dataset.admin_url, "-c", meta_command]


def dump(dataset: Dataset) -> Contestant:
    """pg_dump of the table in its own format."""
    return Contestant(
        name="pg_dump",
        label="pg_dump -Fc -Z1",
        command=[
            *(client("pg_dump"), "-Fc", "-Z1", "-t", f"bench.{dataset.table}"),
            *("-f", "{out}/rows.dump", dataset.admin_url),
        ],
        inspect=size_written,
    )


def client(program: str) -> str:
    """Of the server's own version, which an older pg_dump would refuse; else the one on the PATH."""
    found = Path(locate().program(program))
    return str(found) if found.exists() else program
