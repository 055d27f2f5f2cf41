"""Whole exports by the real job, in every format, and CSV in every packing; the wide table in fewer.

Each runs once: what ratios are made of is repeated in the suites ``stages`` and ``peers``.
"""

from __future__ import annotations

from benchmarks.datasets import Laboratory
from benchmarks.measuring import interleaved
from benchmarks.ours import AES_ZIP, CSV_GZ, FORMATS, PACKED, PARQUET, ZIP, Order, job
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

ORDERS = {
    "inv": (*(Order(format=name) for name in FORMATS), *PACKED),
    "act": (PARQUET, CSV_GZ, ZIP, AES_ZIP),
}


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    found: list[Measurement] = []
    for table, orders in ORDERS.items():
        with laboratory.dataset(table, sizes.rows) as dataset:
            contestants = [job(order, dataset) for order in orders]
            found += interleaved(contestants, repeat=1, scratch=laboratory.scratch, dataset=table, rows=sizes.rows)
    return found
