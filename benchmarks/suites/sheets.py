"""XLSX: our conversion beside the libraries most programs use, all from the same Parquet file of narrow rows."""

from __future__ import annotations

from benchmarks.datasets import Laboratory
from benchmarks.measuring import interleaved
from benchmarks.others import from_file
from benchmarks.ours import PARQUET, Order, steps
from benchmarks.published import published
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

MAX_ROWS = 1_000_000  # a sheet ends at 1,048,576
XLSX = Order(format="xlsx")


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    rows = min(sizes.rows, MAX_ROWS)
    with (
        laboratory.dataset("inv", rows) as dataset,
        published(PARQUET, dataset, laboratory) as file,
    ):
        others = [from_file(peer, "xlsx", file) for peer in ("xlsxwriter", "openpyxl")]
        field = [steps(XLSX, dataset, always_repeat=True), *others]
        return interleaved(field, repeat=sizes.repeat, scratch=laboratory.scratch, dataset="inv", rows=rows)
