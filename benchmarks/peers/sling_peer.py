"""sling: its program in Go, which the package fetches from its makers when it is first imported."""

import argparse
import importlib
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

# Beside the other programs, not in somebody's home; kept between runs, so only the first one pays for it.
os.environ.setdefault("SLING_HOME_DIR", str(Path(sys.prefix) / "sling"))
os.environ["SLING_DISABLE_TELEMETRY"] = "true"
RELEASES = "https://github.com/slingdata-io/sling-cli/releases"
REACH_SECONDS = 15


def _program() -> str:
    """Where it is. Its package would fetch it without checking certificates where that fails, so it is tried first."""
    if not os.environ.get("SLING_BINARY") and not list(Path(os.environ["SLING_HOME_DIR"]).rglob("bin/sling/*/sling")):
        try:
            urllib.request.urlopen(RELEASES, timeout=REACH_SECONDS).close()
        except OSError as error:
            raise RuntimeError(f"its program cannot be fetched from {RELEASES}: {error}") from None
    return importlib.import_module("sling.bin").SLING_BIN


PROGRAM = _program()


def export(arguments: argparse.Namespace) -> None:
    target = arguments.folder / ("rows.parquet" if arguments.format == "parquet" else "rows.csv.gz")
    options = '{"format": "parquet"}' if arguments.format == "parquet" else '{"format": "csv", "compression": "gzip"}'
    done = subprocess.run(
        [
            *(PROGRAM, "run", "--src-conn", "BENCH", "--src-stream", arguments.query),
            *("--tgt-object", target.as_uri(), "--tgt-options", options),
        ],
        env={**os.environ, "BENCH": f"{arguments.url}?sslmode=disable"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-300:] or done.stdout[-300:])
