"""XLSX: our conversion beside the libraries most programs use, all from the same Parquet file of narrow rows."""

from __future__ import annotations

from export_pipelines_tests.bench.datasets import Laboratory
from export_pipelines_tests.bench.measuring import interleaved
from export_pipelines_tests.bench.others import from_file
from export_pipelines_tests.bench.ours import PARQUET, Order, steps
from export_pipelines_tests.bench.published import published
from export_pipelines_tests.bench.results import Measurement
from export_pipelines_tests.bench.suites import Sizes

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
