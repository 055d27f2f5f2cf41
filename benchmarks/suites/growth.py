"""What a partition of the lake costs beyond its rows, as months, tables and tenants grow."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.datasets import Laboratory
from benchmarks.measuring import interleaved
from benchmarks.ours import program
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

PARTITION_ROWS = 10  # next to nothing, so that what is measured is the partition


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many partitions, and of what."""

    months: int
    tables: int = 1
    tenants: int = 1
    dagster: bool = False

    @property
    def name(self) -> str:
        return f"lake.{self.tables}x{self.tenants}x{self.months}{'.dagster' if self.dagster else ''}"

    @property
    def label(self) -> str:
        how = "one run a table by Dagster" if self.dagster else "functions only"
        return f"{_counted(self.tables, 'table')} × {_counted(self.tenants, 'tenant')} × {self.months} months, {how}"


SHAPES = tuple(
    Shape(months=months, tables=tables, tenants=tenants, dagster=dagster)
    for dagster in (False, True)
    for months, tables, tenants in ((10, 1, 1), (50, 1, 1), (200, 1, 1), (50, 4, 1), (50, 1, 2))
)


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    found: list[Measurement] = []
    for shape in SHAPES:
        if sizes.quick and shape.dagster and shape.months * shape.tables * shape.tenants > 50:
            continue
        rows = shape.months * PARTITION_ROWS
        with laboratory.dataset("inv", rows, months=shape.months, copies=shape.tables) as dataset:
            arguments = ["--months", str(shape.months), "--tenants", str(shape.tenants)]
            arguments += ["--dagster"] * shape.dagster
            field = program("lake", *arguments, dataset=dataset, name=shape.name, label=shape.label)
            found += interleaved(
                [field],
                repeat=1 if shape.dagster else sizes.repeat,
                scratch=laboratory.scratch,
                dataset="inv",
                rows=rows,
            )
    return found


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
