"""What PostgreSQL's own client needs for the same rows: the floor under every export through one connection."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from export_pipelines.embedded.binaries import locate
from export_pipelines_tests.bench.datasets import Dataset
from export_pipelines_tests.bench.measuring import Contestant

BINARY, CSV, GZIP, PIGZ, IGZIP = "copy.binary", "copy.csv", "copy.gzip", "copy.pigz", "copy.igzip"
_FILTERS = {GZIP: "gzip -6", PIGZ: "pigz -p2", IGZIP: f"{shlex.quote(sys.executable)} -m isal.igzip"}


def floors(dataset: Dataset) -> Iterator[Contestant]:
    """`\\copy` to nowhere, and CSV through each compressor into a file."""
    for name, form in ((BINARY, "binary"), (CSV, "csv, header")):
        yield Contestant(
            name=name,
            label=f"psql \\copy {form.partition(',')[0]} to /dev/null",
            command=[client("psql"), "-qX", "-v", "ON_ERROR_STOP=1", dataset.admin_url, "-c"]
            + [f"\\copy ({dataset.query}) to '/dev/null' (format {form})"],
        )
    yield from (compressed(name, dataset) for name in _FILTERS)


def compressed(name: str, dataset: Dataset) -> Contestant:
    """`\\copy` as CSV through a compressor."""
    copy = shlex.join(
        [client("psql"), "-qX", "-v", "ON_ERROR_STOP=1", dataset.admin_url, "-c"]
        + [f"\\copy ({dataset.query}) to pstdout (format csv, header)"]
    )
    tool = shlex.split(_FILTERS[name])[0]
    return Contestant(
        name=name,
        label=f"psql \\copy csv | {name.removeprefix('copy.')}{_FILTERS[name].partition(tool)[2] if name != IGZIP else ''}",
        command=["bash", "-o", "pipefail", "-c", f"{copy} | {_FILTERS[name]} > {{out}}/rows.csv.gz"],
        missing=None if shutil.which(tool) else f"{tool} is not installed",
    )


def dump(dataset: Dataset) -> Contestant:
    """pg_dump of the table in its own format."""
    return Contestant(
        name="pg_dump",
        label="pg_dump -Fc -Z1",
        command=[client("pg_dump"), "-Fc", "-Z1", "-t", f"bench.{dataset.table}", "-f", "{out}/rows.dump"]
        + [dataset.admin_url],
    )


def client(program: str) -> str:
    """Of the server's own version, which an older pg_dump would refuse; else the one on the PATH."""
    found = Path(locate().program(program))
    return str(found) if found.exists() else program
