"""Resident memory of whole exports while the rows grow: a bounded pipeline draws the same curve, only longer."""

from __future__ import annotations

from benchmarks.datasets import Laboratory, NotEnoughSpace
from benchmarks.measuring import interleaved, tell
from benchmarks.ours import CSV_GZ, FORMATS, PARQUET, Order, job
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

ORDERS = {"inv": (*(Order(format=name) for name in (*FORMATS, "xlsx")), CSV_GZ), "act": (PARQUET, CSV_GZ)}
LARGEST = {"inv": 10_000_000, "act": 2_000_000}  # ten million wide rows take six minutes to load alone
QUICK_ORDERS = (PARQUET, CSV_GZ)


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    """Each once: a curve is not a median."""
    found: list[Measurement] = []
    for table, orders in ORDERS.items():
        for rows in (rows for rows in sizes.memory_rows if rows <= LARGEST[table]):
            wanted = [order for order in orders if order in QUICK_ORDERS] if sizes.quick else orders
            try:
                with laboratory.dataset(table, rows) as dataset:
                    field = [job(order, dataset, curve=True) for order in wanted]
                    found += interleaved(field, repeat=1, scratch=laboratory.scratch, dataset=table, rows=rows)
            except NotEnoughSpace as error:
                tell(f"  left out: {error}")
                found += [
                    Measurement(name=order.name, label=order.label, dataset=table, rows=rows, unavailable=str(error))
                    for order in wanted
                ]
    return found
