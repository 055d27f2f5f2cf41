"""One module for each suite: a docstring for the reader, ``measure(laboratory, sizes)`` for the measurements."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.datasets import Laboratory
from benchmarks.results import Measurement

SUITES = ("stages", "formats", "peers", "sheets", "small", "growth", "memory")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured, and how often."""

    rows: int = 2_000_000  # what ratios are made of
    memory_rows: tuple[int, ...] = (1_000_000, 2_000_000, 10_000_000)  # whose peaks should be alike
    repeat: int = 3

    @property
    def quick(self) -> bool:
        return self.rows < 1_000_000


def suite(name: str) -> Callable[[Laboratory, Sizes], list[Measurement]]:
    """The function that measures the suite of that name."""
    found: Callable[[Laboratory, Sizes], list[Measurement]] = importlib.import_module(f"{__name__}.{name}").measure
    return found
