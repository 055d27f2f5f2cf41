"""Which cases of a product `make test` runs, and which only `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

EXHAUSTIVE = pytest.mark.exhaustive


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
