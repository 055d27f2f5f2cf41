"""A file of ours for other programs to start from, where only the writing of a format is compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.datasets import Dataset, Laboratory
from benchmarks.measuring import measure
from benchmarks.ours import Order, job


@contextmanager
def published(order: Order, dataset: Dataset, laboratory: Laboratory) -> Iterator[Path]:
    """The one data file of a package."""
    laboratory.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=laboratory.scratch) as folder:
        run = measure(job(order, dataset, "--package", folder), laboratory.scratch)
        if run.failure:
            raise RuntimeError(f"no {order.name} file of {dataset.table}: {run.failure}")
        (file,) = (Path(folder) / "data").iterdir()
        yield file
