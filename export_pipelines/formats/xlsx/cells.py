"""Values as SpreadsheetML cells, as polars expressions over whole batches.

| Kind | Number cell | Otherwise text |
|---|---|---|
| boolean | always (``t="b"``) | |
| integer, decimal, numeric | up to 15 digits, which a double gives back unchanged | longer, ``NaN``, ``Infinity`` |
| float | also with 17 digits, the cell is itself a double | ``NaN``, infinities, subnormals (0 to Excel) |
| date | 1900-03-01 to 9999-12-31 (before it Excel counts a day that never was) | earlier |
| timestamp, instant (in UTC) | in the same range and exact to the millisecond | finer or earlier |
| time | exact to the millisecond | finer |
| text, json, bytes | never | always an inline string, so nothing is a formula |

That is the choice of each value by itself. Where `ColumnFacts` are known, the choice is one for the whole column and
`export_pipelines.formats.xlsx.columns` makes it: a column then holds numbers with more digits and times finer than
Excel keeps, too. Their cells have all digits, which programs round when they open the file.

Text is the canonical one of `export_pipelines.formats.rendering`. NULL is no cell, the empty string an empty inline
string. Characters that XML cannot hold, and CR, are written ``_xHHHH_``, and text that looks like such an escape has
its underscore escaped (ECMA-376 part 1, 22.9.2.19). A text too long for a cell is shown up to a mark; the whole of it
goes elsewhere (`export_pipelines.formats.xlsx.long_texts`). Sheets, styles and the workbook belong elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pyarrow as pa

from export_pipelines.core.fidelity import Carried, ColumnFacts
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.column_facts import SMALLEST_NORMAL
from export_pipelines.formats.rendering import text_of
from export_pipelines.formats.xlsx.columns import EXACT_DIGITS, decimal_format, number_format, settled

MAX_TEXT_UNITS = 32_767  # UTF-16 code units in one cell

SHOWN_CHARACTERS = 16_000  # of a text too long, at most twice as many units
GOES_ON = ' … [the whole text is in the sheet "Long texts"]'

Facts = Mapping[str, Any]
StyleIndex = Callable[[str], int]
"""The index of the cell style with a number format."""

_FIRST_SERIAL, _LAST_SERIAL = 61, 2_958_465  # 1900-03-01, 9999-12-31
_EPOCH_SERIAL = 25_569  # 1970-01-01
_DAY_MS, _DAY_US = 86_400_000, 86_400_000_000
_SERIAL_DECIMALS = 12  # of a day: 86 nanoseconds, so that every microsecond can be told
_LONGEST_NUMERIC = 40  # characters; keeps the exponent far from the limits of a double

_NEEDS_ESCAPE = r"[\x00-\x08\x0B-\x1F\x{FFFE}\x{FFFF}&<>]|_x[0-9A-Fa-f]{4}"
_ESCAPE_LIKE = r"_(x[0-9A-Fa-f]{4})"
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {
    chr(code): f"_x{code:04X}_" for code in (*range(9), *range(0x0B, 0x20), 0xFFFE, 0xFFFF)
}

_TEXT_OPENING, _TEXT_CLOSING = '" t="inlineStr"><is><t xml:space="preserve">', "</t></is></c>"
_NUMBER_CLOSING = "</v></c>"


@dataclass(frozen=True, kw_only=True)
class CellRule:
    """How the values of one column become cells; expressions are over a frame of the batch's columns."""

    column: str
    text: pl.Expr  # content of a text cell
    number: pl.Expr | None = None  # content of a number cell; None when the column has none
    opening: pl.Expr  # of a number cell, from the end of its reference to its content
    fits: pl.Expr | None = None  # whether a value may be a number cell; None when all may
    bounded: bool = True  # its text is short and holds no character to escape


def cell_rule(field: pa.Field, style: StyleIndex, facts: ColumnFacts | None = None) -> CellRule:
    """The rule of a column; asks ``style`` for the number formats it needs.

    With ``facts`` all cells of the column are of one type.
    """
    if facts is None:
        return _rule_of_each(field, style)
    if settled(field, facts).carried is Carried.TEXT:
        return replace(_rule_of_each(field, lambda _: 0), number=None, fits=None)
    return replace(_rule_of_each(field, lambda _: 0), opening=_opening(style(number_format(field, facts))), fits=None)


def _rule_of_each(field: pa.Field, style: StyleIndex) -> CellRule:
    """Each value by itself: a number cell where nothing is lost even when the file is opened."""
    column, text, kind = pl.col(field.name), text_of(field), kind_of(field)
    number: pl.Expr | None = text
    fits: pl.Expr | None = None
    bounded, opening = True, _opening(0)
    match kind:
        case Kind.BOOLEAN:
            number, opening = column.cast(pl.Int8).cast(pl.String), pl.lit('" t="b"><v>')
        case Kind.INTEGER:
            limit = 10**EXACT_DIGITS
            fits = column.is_between(-limit, limit, closed="none") if field.type == pa.int64() else None
            opening = _opening(style("0"))
        case Kind.DECIMAL:
            fits = _short(text) if field.type.precision > EXACT_DIGITS else None
            opening = _opening(style(decimal_format(field.type.scale)))
        case Kind.NUMERIC:
            fits, bounded = _short(text), False
        case Kind.FLOAT:
            number = column.cast(pl.String)
            fits = column.is_finite() & ((column == 0) | (column.cast(pl.Float64).abs() >= SMALLEST_NORMAL))
        case Kind.DATE:
            serial = column.cast(pl.Int32) + _EPOCH_SERIAL
            number, fits = serial.cast(pl.String), serial.is_between(_FIRST_SERIAL, _LAST_SERIAL)
            opening = _opening(style("yyyy-mm-dd"))
        case Kind.TIMESTAMP | Kind.INSTANT:
            micros = column.cast(pl.Int64)
            zone = '"Z"' if kind is Kind.INSTANT else ""
            since = micros + _EPOCH_SERIAL * _DAY_US  # the day 0 of serials
            in_range = since.is_between(_FIRST_SERIAL * _DAY_US, (_LAST_SERIAL + 1) * _DAY_US, closed="left")
            fits = (micros % 1000 == 0) & in_range
            number, opening = _serial(since), _clock_opening(micros, style, "yyyy-mm-dd hh:mm:ss", zone)
        case Kind.TIME:
            micros = column.cast(pl.Int64) // 1000  # polars keeps times in nanoseconds
            number, fits = _serial(micros), micros % 1000 == 0
            opening = _clock_opening(micros, style, "hh:mm:ss", "")
        case Kind.TEXT | Kind.JSON | Kind.BYTES:
            number, bounded = None, False
    return CellRule(column=field.name, text=text, number=number, opening=opening, fits=fits, bounded=bounded)


def _opening(style_index: int) -> pl.Expr:
    return pl.lit(f'" s="{style_index}"><v>' if style_index else '"><v>')


def _clock_opening(micros: pl.Expr, style: StyleIndex, format_code: str, zone: str) -> pl.Expr:
    """Milliseconds are shown only where there are any."""
    whole = _opening(style(format_code + zone))
    return pl.when(micros % 1_000_000 == 0).then(whole).otherwise(_opening(style(f"{format_code}.000{zone}")))


def _serial(micros: pl.Expr) -> pl.Expr:
    """Microseconds as days with decimals; a double has not enough digits for both."""
    fraction = ((micros % _DAY_US).cast(pl.Float64) * (10**_SERIAL_DECIMALS / _DAY_US)).round().cast(pl.Int64)
    decimals = fraction.cast(pl.String).str.zfill(_SERIAL_DECIMALS)
    return pl.concat_str((micros // _DAY_US).cast(pl.String), pl.lit("."), decimals)


def _short(text: pl.Expr) -> pl.Expr:
    """Whether a plain number has so few digits that a double, and Excel's 15 places, give them all back."""
    digits = text.str.replace_all("[-.]", "").str.strip_chars_start("0").str.len_bytes()
    return text.str.contains(f"^-?[0-9.]{{1,{_LONGEST_NUMERIC}}}$") & (digits <= EXACT_DIGITS)


def facts_of(frame: pl.DataFrame, rules: Sequence[CellRule]) -> Facts:
    """What must be known of a batch before its cells can be built; most batches need the cheapest way only."""
    return frame.select(*(fact for rule in rules for fact in _facts(rule))).row(0, named=True)


def may_be_long(rule: CellRule, facts: Facts) -> bool:
    """Whether some text of the column could be too long for a cell."""
    return not rule.bounded and facts[f"bytes {rule.column}"] > MAX_TEXT_UNITS


def too_long(text: pl.Expr) -> pl.Expr:
    """Whether a text does not fit in a cell."""
    beyond_bmp = text.str.count_matches(r"[\x{10000}-\x{10FFFF}]")  # two UTF-16 units each
    return (text.str.len_bytes() > MAX_TEXT_UNITS) & (text.str.len_chars() + beyond_bmp > MAX_TEXT_UNITS)


def rows_xml(frame: pl.DataFrame, rules: Sequence[CellRule], facts: Facts, first_row: int) -> pl.Series:
    """``<row>`` elements for the rows of a frame, numbered from ``first_row``; of a text too long its beginning."""
    numbers = pl.int_range(first_row, first_row + frame.height, eager=True).cast(pl.String).alias("row")
    row = pl.lit(numbers)
    parts: list[pl.Expr] = [pl.lit('<row r="'), row, pl.lit('">')]
    for index, rule in enumerate(rules):
        opening, content, closing = _cell(rule, facts)
        cell = [pl.lit(f'<c r="{column_letters(index)}'), row, opening, content, closing]
        # A NULL makes the whole inner text NULL, and the outer one leaves it out.
        parts += [pl.concat_str(cell)] if facts[f"nulls {rule.column}"] else cell
    return frame.select(pl.concat_str(*parts, pl.lit("</row>"), ignore_nulls=True).alias("xml")).to_series()


def _facts(rule: CellRule) -> Iterator[pl.Expr]:
    yield pl.col(rule.column).null_count().alias(f"nulls {rule.column}")
    if rule.fits is not None:
        yield rule.fits.all().alias(f"all fit {rule.column}")
    if not rule.bounded:
        yield rule.text.str.len_bytes().max().fill_null(0).alias(f"bytes {rule.column}")
        yield rule.text.str.contains(_NEEDS_ESCAPE).any().alias(f"escape {rule.column}")


def _cell(rule: CellRule, facts: Facts) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Opening, content and closing of a column's cells."""
    text = rule.text
    if may_be_long(rule, facts):
        beginning = text.str.slice(0, SHOWN_CHARACTERS) + pl.lit(GOES_ON)
        text = pl.when(too_long(text)).then(beginning).otherwise(text)
    if not rule.bounded and facts[f"escape {rule.column}"]:
        text = escaped(text)
    if rule.number is None:
        return pl.lit(_TEXT_OPENING), text, pl.lit(_TEXT_CLOSING)
    if rule.fits is None or facts[f"all fit {rule.column}"]:
        return rule.opening, rule.number, pl.lit(_NUMBER_CLOSING)
    return (
        pl.when(rule.fits).then(rule.opening).otherwise(pl.lit(_TEXT_OPENING)),
        pl.when(rule.fits).then(rule.number).otherwise(text),
        pl.when(rule.fits).then(pl.lit(_NUMBER_CLOSING)).otherwise(pl.lit(_TEXT_CLOSING)),
    )


def escaped(text: pl.Expr) -> pl.Expr:
    """Text as the content of a ``<t>`` element."""
    # The closing underscore is not looked for: `_x0041_x0042_` holds two escapes that share one.
    return text.str.replace_all(_ESCAPE_LIKE, "_x005F_${1}").str.replace_many(_ESCAPES)


def column_letters(index: int) -> str:
    """0 → A, 25 → Z, 26 → AA."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters


def column_index(letters: str) -> int:
    """A → 0, Z → 25, AA → 26."""
    index = 0
    for letter in letters:
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1
