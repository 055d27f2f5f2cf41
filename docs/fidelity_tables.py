"""The tables of `fidelity.md`: what the formats declare about each type and each kind of value.

The types are those that `export_pipelines_tests.fidelity` proves, so no line here is without its test.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # tests are not installed

from export_pipelines.core.fidelity import Carried
from export_pipelines_tests.fidelity.matrix import CASES, VARIANTS, claim, kind_name

Grid = tuple[tuple[str, ...], list[tuple[str, ...]]]


def matrix() -> Grid:
    """A line for each type, a column for each format."""
    header = ("PostgreSQL type", "Kind", *(variant.title for variant in VARIANTS))
    return header, [
        (
            f"`{case.type}`{f', {case.beyond}' if case.beyond else ''}",
            kind_name(case),
            *(claim(case, variant).carried.value for variant in VARIANTS),
        )
        for case in CASES
    ]


def carriage() -> Grid:
    """A line for each format and each thing it has to say, with the kinds it says it of."""
    said: dict[tuple[str, str, str], list[str]] = {}
    for variant in VARIANTS:
        for case in CASES:
            told = claim(case, variant)
            if told.carried is not Carried.EXACT and told.note:
                kinds = said.setdefault((variant.title, told.carried.value, told.note), [])
                if kind_name(case) not in kinds:
                    kinds.append(kind_name(case))
    header = ("Format", "Kinds", "Carried", "How")
    return header, [(title, ", ".join(kinds), carried, note) for (title, carried, note), kinds in said.items()]
