"""The product's whole, validated export beside other programs that make the same file without validating it."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import floor
from benchmarks.datasets import TABLES, Dataset, Laboratory
from benchmarks.measuring import Contestant, interleaved
from benchmarks.others import DATABASE_PEERS, FILE_FORMATS, from_database, from_file
from benchmarks.ours import AES_ZIP, CSV_GZ, PARQUET, ZIP, Order, job
from benchmarks.published import published
from benchmarks.results import Measurement
from benchmarks.suites import Sizes


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    found: list[Measurement] = []
    for table in TABLES:
        with laboratory.dataset(table, sizes.rows) as dataset:
            found += interleaved(
                contestants(dataset), repeat=sizes.repeat, scratch=laboratory.scratch, dataset=table, rows=sizes.rows
            )
            if table == "inv":
                found += _archives(laboratory, dataset, sizes)
    return found


def contestants(dataset: Dataset) -> Iterator[Contestant]:
    yield from (job(order, dataset, always_repeat=dataset.table == "inv") for order in (CSV_GZ, PARQUET))
    yield from (floor.compressed(name, dataset) for name in (floor.PIGZ, floor.GZIP))
    yield floor.dump(dataset)
    yield from (from_database(peer, form, dataset) for peer in DATABASE_PEERS for form in FILE_FORMATS)


def _archives(laboratory: Laboratory, dataset: Dataset, sizes: Sizes) -> list[Measurement]:
    """AES: our ZIP with and without, and pyzipper on the same CSV."""
    with published(Order(format="csv"), dataset, laboratory) as file:
        field = [job(ZIP, dataset), job(AES_ZIP, dataset), from_file("pyzipper", "zip", file)]
        return interleaved(
            field, repeat=sizes.repeat, scratch=laboratory.scratch, dataset=dataset.table, rows=dataset.rows
        )
