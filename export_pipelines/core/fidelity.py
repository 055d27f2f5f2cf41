"""The vocabulary in which a format says how it carries each kind of value.

Every format declares it for itself (`FormatSpec.carries`). The documentation and the notes in a package's manifest are
made from the declarations, and the tests prove each with values from a real database and a reader of strangers.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum


class Carried(StrEnum):
    """How a value sits in a file. Nothing is ever rounded or dropped there; there is no word for it."""

    EXACT = "exact"  # as the format's own kind of value
    TEXT = "text"  # as text, which a reader has to turn into the value
    MIXED = "exact or text"  # exact where the format can, as text where it would round or refuse
    ESCAPED = "escaped"  # exact but for marks that a reader has to take away, in the few values that need them
    ROUNDED_WHEN_OPENED = "rounded when opened"  # the file has every digit; programs that open it keep fewer


@dataclass(frozen=True)
class Carriage:
    """What a format says of a column."""

    carried: Carried
    note: str = ""  # for people; empty when there is nothing to know


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """What all values of a column are like, known before the first of them is written.

    A format that has to choose one form for a whole column asks for them (`FormatSpec.undecided`). Which facts there
    are follows from the column's kind; those of other kinds keep their defaults. NULL is no value.
    """

    least: int | dt.date | dt.datetime | dt.time | None = None  # of integers, dates and times; instants as those of UTC
    greatest: int | dt.date | dt.datetime | dt.time | None = None
    ordinary: bool = True  # numbers: finite; floats: nor below 2.2e-308, but for zero
    whole_digits: int = 0  # numbers: the most digits before the point
    decimals: int = 0  # numbers: the most digits behind the point, without zeros at the end
    significant_digits: int = 0  # numbers: the most digits from the first to the last that is not zero
    finer_than_millisecond: bool = False  # timestamps and times

    def __or__(self, other: ColumnFacts) -> ColumnFacts:
        """Of the values of both."""
        least = [value for value in (self.least, other.least) if value is not None]
        greatest = [value for value in (self.greatest, other.greatest) if value is not None]
        return ColumnFacts(
            least=min(least, default=None),
            greatest=max(greatest, default=None),
            ordinary=self.ordinary and other.ordinary,
            whole_digits=max(self.whole_digits, other.whole_digits),
            decimals=max(self.decimals, other.decimals),
            significant_digits=max(self.significant_digits, other.significant_digits),
            finer_than_millisecond=self.finer_than_millisecond or other.finer_than_millisecond,
        )
