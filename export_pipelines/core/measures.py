"""Measures: what a catalog lets be computed from a table by period, and the columns that come of it.

The rule is that the same rows always give the same figures. So floats are neither summed nor grouped by, as their sum
depends on the order of rows, and texts are grouped by their bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from export_pipelines.core.columns import Column, Shape, Spec
from export_pipelines.core.types import Kind, base_type, value_type

PERIOD = "period_start"
"""The column with the first day of a period, or with its first instant where periods are hours."""

TIMES = (Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT)
_NUMBERS = (Kind.INTEGER, Kind.DECIMAL, Kind.NUMERIC)
_ORDERED = (*_NUMBERS, *TIMES, Kind.FLOAT, Kind.TIME)
_COUNTED = (*_ORDERED, Kind.BOOLEAN, Kind.TEXT)
_DIMENSIONS = (Kind.BOOLEAN, Kind.INTEGER, Kind.DECIMAL, Kind.TEXT, Kind.DATE)


class Aggregation(StrEnum):
    """Length of the period that a row of figures stands for."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"  # of ISO 8601: from Monday
    MONTHLY = "monthly"


class Function(StrEnum):
    SUM = "sum"
    COUNT = "count"
    MIN = "min"
    MAX = "max"
    AVG = "avg"
    COUNT_DISTINCT = "count_distinct"


_TAKES = {
    Function.SUM: _NUMBERS,
    Function.AVG: _NUMBERS,
    Function.MIN: _ORDERED,
    Function.MAX: _ORDERED,
    Function.COUNT: tuple(Kind),
    Function.COUNT_DISTINCT: _COUNTED,
}


class Measure(Spec):
    """One figure for each group of rows."""

    function: Function
    column: str | None = Field(default=None, description="Of the table; `count` without one counts rows.")
    label: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _has_its_column(self) -> Self:
        if self.column is None and self.function is not Function.COUNT:
            raise ValueError(f"{self.function} needs a column")
        return self

    @property
    def additive(self) -> bool:
        """Whether the figures of all groups add up to that of all rows."""
        return self.function in (Function.SUM, Function.COUNT)

    def result(self, columns: Mapping[str, Column]) -> Column:
        """The column of its figures. Counts of delicate values are not delicate, sums and extremes are."""
        if self.function in (Function.COUNT, Function.COUNT_DISTINCT):
            return Column(type="bigint", nullable=False, label=self.label, description=self.description)
        source = columns[str(self.column)]
        figure = source.model_copy(update={"nullable": True, "label": self.label, "description": self.description})
        if self.function in (Function.MIN, Function.MAX):
            return figure
        small = self.function is Function.SUM and base_type(source.type) in ("smallint", "integer")
        return figure.model_copy(update={"type": "bigint" if small else "numeric", "as_text": False})


class Figures(Shape):
    """What an aggregated table looks like: the period, the dimensions, the measures."""

    aggregation: Aggregation
    dimensions: tuple[str, ...]
    measures: dict[str, Measure]
    description: str | None = None
    time_column: str = PERIOD

    @property
    def primary_key(self) -> tuple[str, ...]:
        """None where a part may be NULL, which no key is."""
        key = (PERIOD, *self.dimensions)
        return () if any(self.columns[name].nullable for name in key) else key


def figures_of(
    aggregation: Aggregation,
    *,
    columns: Mapping[str, Column],
    time_column: str,
    dimensions: tuple[str, ...],
    measures: Mapping[str, Measure],
    description: str | None,
) -> Figures:
    """The shape of a table's figures; parts that `problem_of` refuses are not to be given."""
    time = columns[time_column]
    period = {"type": period_type(aggregation, time), "label": "Period start", "description": "First of the period"}
    named = {PERIOD: time.model_copy(update=period)}
    named |= {name: columns[name] for name in dimensions}
    named |= {name: measure.result(columns) for name, measure in measures.items()}
    return Figures(
        columns=named,
        aggregation=aggregation,
        dimensions=dimensions,
        measures=dict(measures),
        description=", ".join(part for part in (description, f"{aggregation} figures") if part),
    )


def period_type(aggregation: Aggregation, time: Column) -> str:
    """Days begin at local midnight and are dates; an hour is an instant, since a night in autumn has one twice."""
    return time.type if aggregation is Aggregation.HOURLY else "date"


def problem_of(
    columns: Mapping[str, Column],
    time_column: str | None,
    dimensions: tuple[str, ...],
    measures: Mapping[str, Measure],
) -> str | None:
    """Why a table cannot have these dimensions and measures."""
    if not measures:
        return "dimensions go with measures" if dimensions else None
    if time_column is None:
        return "measures need a time_column"
    used = {f"measures.{name}": (measure.column, _TAKES[measure.function]) for name, measure in measures.items()}
    used |= {f"dimensions.{name}": (name, _DIMENSIONS) for name in dimensions}
    used["time_column"] = (time_column, TIMES)
    for where, (name, kinds) in used.items():
        if name is not None and (problem := _unusable(name, columns, kinds)):
            return f"{where}: {problem}"
    if len({PERIOD, *dimensions, *measures}) != 1 + len(dimensions) + len(measures):
        return f"{PERIOD}, dimensions and measures must have names of their own"
    return None


def _unusable(name: str, columns: Mapping[str, Column], kinds: tuple[Kind, ...]) -> str | None:
    column = columns.get(name)
    if column is None:
        return f"names {name!r}, which is not among the columns"
    if column.mask or column.exclude:
        return f"{name!r} is kept back from exports, so no figure may be made of it"
    if value_type(column.type).kind not in kinds:
        return f"{name!r} is {column.type}; use a column of kind {', '.join(kinds)}"
    return None
