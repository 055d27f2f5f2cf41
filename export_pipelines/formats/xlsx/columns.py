"""One form for a whole column of a workbook, so that it sorts, adds up and looks alike throughout.

Numbers, dates and times are what they are unless some value cannot be one in Excel; then the whole column is text. A
value that Excel would merely shorten stays a number: all of its digits are in the file, and what programs keep of them
when they open it is said in the package's manifest. How values become cells is `export_pipelines.formats.xlsx.cells`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pyarrow as pa

from export_pipelines.core.fidelity import Carriage, Carried, ColumnFacts
from export_pipelines.core.types import Kind, kind_of

EXACT_DIGITS = 15  # that a double gives back unchanged, and the most that Excel shows

_MOST_DECIMALS = 100  # keeps the exponent far from the limits of a double
_FIRST_DAY = dt.date(1900, 3, 1)  # before it Excel counts a day that never was
# Programs that keep milliseconds would round these to the next day, which in the year 10000 there is none of.
_END_OF_DAY = dt.time(23, 59, 59, 999_500)
_END = dt.datetime.combine(dt.date(9999, 12, 31), _END_OF_DAY)
_MOST_USEFUL_DECIMALS, _LEAST_USEFUL_DECIMALS = 4, 2  # of numbers without a declared scale, such as averages
_USEFUL_DIGITS = 5  # of the largest of them
_FORMATS = {
    Kind.INTEGER: "0",
    Kind.DATE: "yyyy-mm-dd",
    Kind.TIME: "hh:mm:ss",
    Kind.TIMESTAMP: "yyyy-mm-dd hh:mm:ss",
    Kind.INSTANT: "yyyy-mm-dd hh:mm:ss",
}


def settled(field: pa.Field, facts: ColumnFacts) -> Carriage:
    """How a column with such values sits in the workbook."""
    kind = kind_of(field)
    unfit = _UNFIT[kind](facts) if kind in _UNFIT else ""
    if unfit:
        return Carriage(Carried.TEXT, f"the whole column is text, because a value {unfit}")
    if facts.finer_than_millisecond:
        what = "a time" if kind is Kind.TIME else "a date with time"
        note = f"{what}; the file has microseconds, spreadsheets keep milliseconds"
        return Carriage(Carried.ROUNDED_WHEN_OPENED, note)
    if facts.significant_digits > EXACT_DIGITS:
        note = f"a number; the file has every digit, spreadsheets keep {EXACT_DIGITS}"
        return Carriage(Carried.ROUNDED_WHEN_OPENED, note)
    return Carriage(Carried.EXACT)


def number_format(field: pa.Field, facts: ColumnFacts) -> str:
    """The format of all cells of a column of numbers, dates or times."""
    kind = kind_of(field)
    if kind is Kind.DECIMAL:
        return decimal_format(field.type.scale)
    if kind is Kind.NUMERIC and facts.decimals <= _MOST_USEFUL_DECIMALS:
        return decimal_format(facts.decimals)
    if kind is Kind.NUMERIC and facts.whole_digits > 0:
        return decimal_format(max(_LEAST_USEFUL_DECIMALS, _USEFUL_DIGITS - facts.whole_digits))
    return _FORMATS.get(kind, "General")


def decimal_format(decimals: int) -> str:
    """Digits before the point, and so many behind it."""
    return f"0.{'0' * decimals}".rstrip(".")


def _unfit_integer(facts: ColumnFacts) -> str:
    ends = [value for value in (facts.least, facts.greatest) if isinstance(value, int)]
    return f"has more than {EXACT_DIGITS} digits" if any(abs(end) >= 10**EXACT_DIGITS for end in ends) else ""


def _unfit_number(facts: ColumnFacts) -> str:
    if not facts.ordinary:
        return "is no finite number"
    if facts.whole_digits > EXACT_DIGITS:
        return f"has more than {EXACT_DIGITS} digits before the point"
    return f"has more than {_MOST_DECIMALS} decimals" if facts.decimals > _MOST_DECIMALS else ""


def _unfit_float(facts: ColumnFacts) -> str:
    return "" if facts.ordinary else "is no finite number, or below 2.2e-308"


def _unfit_date(facts: ColumnFacts) -> str:
    least, greatest = facts.least, facts.greatest
    day = least.date() if isinstance(least, dt.datetime) else least
    if isinstance(day, dt.date) and day < _FIRST_DAY:
        return "is before 1 March 1900"
    return (
        "is in the last millisecond of the year 9999" if isinstance(greatest, dt.datetime) and greatest >= _END else ""
    )


def _unfit_time(facts: ColumnFacts) -> str:
    late = isinstance(facts.greatest, dt.time) and facts.greatest >= _END_OF_DAY
    return "is in the last millisecond of the day" if late else ""


_UNFIT: dict[Kind, Callable[[ColumnFacts], str]] = {
    Kind.INTEGER: _unfit_integer,
    Kind.DECIMAL: _unfit_number,
    Kind.NUMERIC: _unfit_number,
    Kind.FLOAT: _unfit_float,
    Kind.DATE: _unfit_date,
    Kind.TIME: _unfit_time,
    Kind.TIMESTAMP: _unfit_date,
    Kind.INSTANT: _unfit_date,
}
