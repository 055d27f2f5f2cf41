"""Resident memory of whole exports while the rows grow: a bounded pipeline draws the same curve, only longer."""

from __future__ import annotations

from export_pipelines_tests.bench.datasets import Laboratory, NoRoom
from export_pipelines_tests.bench.measuring import interleaved, tell
from export_pipelines_tests.bench.ours import CSV_GZ, FORMATS, PARQUET, Order, job
from export_pipelines_tests.bench.results import Measurement
from export_pipelines_tests.bench.suites import Sizes

ORDERS = {"inv": (*(Order(format=name) for name in FORMATS), CSV_GZ), "act": (PARQUET, CSV_GZ)}
LARGEST = {"inv": 10_000_000, "act": 2_000_000}  # ten million wide rows take six minutes to load alone
LONG_ROWS = 4_000_000  # beyond it only what a reader would really ask for at that size
LONG_ORDERS = (PARQUET, CSV_GZ, Order(format="ndjson"))


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    """Each once: a curve is not a median."""
    found: list[Measurement] = []
    for table, orders in ORDERS.items():
        for rows in (rows for rows in sizes.memory_rows if rows <= LARGEST[table]):
            all_formats = rows <= LONG_ROWS and not sizes.quick
            wanted = orders if all_formats else [order for order in orders if order in LONG_ORDERS]
            try:
                with laboratory.dataset(table, rows) as dataset:
                    field = [job(order, dataset, curve=True) for order in wanted]
                    found += interleaved(field, repeat=1, scratch=laboratory.scratch, dataset=table, rows=rows)
            except NoRoom as error:
                tell(f"  left out: {error}")
                found += [
                    Measurement(name=order.name, label=order.label, dataset=table, rows=rows, unavailable=str(error))
                    for order in wanted
                ]
    return found
