"""Floors and the product's steps side by side: extraction, conversion, validation and packaging by themselves."""

from __future__ import annotations

from benchmarks.datasets import TABLES, Laboratory
from benchmarks.floor import floors
from benchmarks.measuring import interleaved
from benchmarks.ours import CSV_GZ, FORMATS, PARQUET, Order, by_adbc, steps
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

ORDERS = {
    "inv": (*(Order(format=name) for name in FORMATS), CSV_GZ),
    "act": (PARQUET, CSV_GZ, Order(format="ndjson")),
}


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    found: list[Measurement] = []
    for table in TABLES:
        with laboratory.dataset(table, sizes.rows) as dataset:
            ours = [steps(order, dataset, always_repeat=order is PARQUET) for order in ORDERS[table]]
            contestants = [*floors(dataset), *ours, by_adbc(PARQUET, dataset)]
            found += interleaved(
                contestants, repeat=sizes.repeat, scratch=laboratory.scratch, dataset=table, rows=sizes.rows
            )
    return found
