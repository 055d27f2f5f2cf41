"""Other programs as contestants; they live in `.venv-bench`, made by `make bench` from requirements-bench.lock."""

from __future__ import annotations

from pathlib import Path

from benchmarks.counting import size_written, written
from benchmarks.datasets import Dataset
from benchmarks.measuring import Contestant

PYTHON = Path(__file__).parents[2] / ".venv-bench" / "bin" / "python"
_RUN = Path(__file__).parent / "peers" / "run.py"
DATABASE_PEERS = ("pandas", "dlt", "sling")
FILE_FORMATS = ("csv.gz", "parquet")
_LABELS = {
    "pandas": "pandas, chunks",
    "dlt": "dlt, ConnectorX",
    "sling": "sling",
    "xlsxwriter": "xlsxwriter, constant memory",
    "openpyxl": "openpyxl, write-only",
    "pyzipper": "pyzipper, AES-256",
}


def from_database(peer: str, form: str, dataset: Dataset) -> Contestant:
    """PostgreSQL to a file."""
    return _peer(peer, form, "--url", dataset.admin_url, "--query", dataset.query)


def from_file(peer: str, form: str, source: Path) -> Contestant:
    """One file to another."""
    return _peer(peer, form, "--input", str(source))


def _peer(peer: str, form: str, *arguments: str) -> Contestant:
    return Contestant(
        name=f"{peer}.{form}",
        label=f"{_LABELS[peer]}: {form}",
        command=[str(PYTHON), str(_RUN), peer, form, "{out}", *arguments],
        inspect=size_written if form == "zip" else written,
        missing=None if PYTHON.exists() else "its environment is not there; run make bench-peers",
    )
