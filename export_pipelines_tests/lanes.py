"""Which cases of a product `make test` runs, and which only `make test-all`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

EXHAUSTIVE = pytest.mark.exhaustive
_EVERYTHING = os.environ.get("EXPORT_TEST_LANE") == "all"  # as `make test-all` sets it


def every_pair(first: Sequence[Any], second: Sequence[Any], *, base: Any) -> list[Any]:
    """All pairs as parameters. Those with ``base``, and one for each other value of ``first`` in turn, are enough to
    meet every value of both; the rest is `exhaustive`.
    """
    met = {(value, second[place % len(second)]) for place, value in enumerate(first)}
    return [
        pytest.param(one, other, marks=() if one == base or (one, other) in met else EXHAUSTIVE)
        for one in first
        for other in second
    ]


def some(values: Iterable[Any], enough: Iterable[Any]) -> list[Any]:
    """All values as parameters, those that are not ``enough`` as `exhaustive`."""
    chosen = list(enough)
    return [pytest.param(value, marks=() if value in chosen else EXHAUSTIVE) for value in values]


def examples(number: int) -> int:
    """How many random examples a property is tried with: all in `make test-all`, a quarter in `make test`."""
    return number if _EVERYTHING else number // 4
