"""Cuts ``<row>`` elements of our own workbooks into the contents of their cells, with Arrow's kernels.

Only the shapes of row and cell that we write are accepted; every other byte is `Malformed`. That makes up for not
using an XML parser, which needs twice to four times as long. Types and sheets belong to
`export_pipelines.formats.xlsx.reading`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.types import Kind

_NUMBER_TOKENS, _TEXT_TOKENS = 4, 6  # of a cell, split at each ">"
_NUMBER_ATTRIBUTES = re.compile(r'( s="[0-9]+")?')
_TEXT_ONLY = (Kind.TEXT, Kind.JSON, Kind.BYTES)
_NO_TEXTS = pa.array([], pa.string())
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}  # the last one last, or it would make new ones
_ILLEGAL = r"[\x00-\x08\x0b-\x1f\x{fffe}\x{ffff}]"
_CAPITALS, _DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"


Contents = list[tuple[pa.Array, pa.Array]]
"""For each column the contents of its number cells and of its text cells, NULL elsewhere."""


class Malformed(Exception):
    """Something is not as this project writes it; the message holds no data."""


def expect(condition: object, message: str) -> None:
    """Raise `Malformed` unless the condition holds."""
    if not condition:
        raise Malformed(message)


def _all(truths: pa.Array) -> bool:
    return bool(pc.all(truths, skip_nulls=False, min_count=0).as_py())


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The cells of a chunk of rows in reading order, cut into tokens at each ``>``."""

    row: pa.Array  # index in the chunk
    column: pa.Array  # index in the schema
    attributes: pa.Array  # text after the reference
    tokens: pa.Array  # of all cells
    first_token: pa.Array  # index in ``tokens``
    is_number: pa.Array

    def token(self, cells: pa.Array, place: int) -> pa.Array:
        return self.tokens.take(pc.add(self.first_token.take(cells), place))


def cell_contents(chunk: bytes, first_row: int, kinds: Sequence[Kind]) -> tuple[Contents, int]:
    """The contents of a chunk of rows, and the number of rows."""
    rows = pc.split_pattern(pa.array([chunk], pa.binary()).cast(pa.string()), "</row>").flatten()[:-1]
    cells = _cells(rows, first_row, len(kinds))
    columns = []
    for index, kind in enumerate(kinds):
        mine = pc.equal(cells.column, index)
        numbers = pc.indices_nonzero(pc.and_(mine, cells.is_number))
        texts = pc.indices_nonzero(pc.and_not(mine, cells.is_number))
        columns.append(
            (
                _aligned(cells.row.take(numbers), _number_contents(cells, numbers, kind), len(rows)),
                _aligned(cells.row.take(texts), _text_contents(cells, texts), len(rows)),
            )
        )
    return columns, len(rows)


def _cells(rows: pa.Array, first_row: int, width: int) -> _Cells:
    names = pa.array(range(first_row, first_row + len(rows))).cast(pa.string())
    parts = pc.split_pattern(rows, ">", max_splits=1)
    starts = pc.binary_join_element_wise('<row r="', names, '"', "")
    expect(_all(pc.equal(pc.list_element(parts, 0), starts)), "rows are not numbered one after the other")
    lists = pc.split_pattern(pc.list_element(parts, 1), "</c>")
    texts, row = lists.flatten(), pc.list_parent_indices(lists)
    filled = pc.not_equal(texts, "")
    texts, row = texts.filter(filled), row.filter(filled)
    expect(len(filled) - len(texts) == len(rows), "a row does not end after its cells")

    split = pc.split_pattern(texts, ">")
    tokens, first_token, lengths = split.flatten(), split.offsets[:-1], pc.list_value_length(split)
    opening = pc.split_pattern(tokens.take(first_token), '"', max_splits=2)
    expect(_all(pc.equal(pc.list_element(opening, 0), "<c r=")), "an element is not a cell")
    column = _column_of(pc.list_element(opening, 1), names.take(row), width)
    place = pc.add(pc.multiply(row.cast(pa.int64()), width), column)
    expect(_all(pc.greater(place[1:], place[:-1])), "cells of a row are not in order")
    is_number = pc.equal(lengths, _NUMBER_TOKENS)
    expect(_all(pc.or_(is_number, pc.equal(lengths, _TEXT_TOKENS))), "a cell has another shape than ours")
    return _Cells(
        row=row,
        column=column,
        attributes=pc.list_element(opening, 2),
        tokens=tokens,
        first_token=first_token,
        is_number=is_number,
    )


def _column_of(references: pa.Array, row_names: pa.Array, width: int) -> pa.Array:
    """The index of the column that each reference such as ``C7`` names."""
    expect(_all(pc.equal(pc.ascii_ltrim(references, characters=_CAPITALS), row_names)), "a cell is of another row")
    letters = pc.ascii_rtrim(references, characters=_DIGITS)
    column = pc.index_in(letters, value_set=pa.array([_letters(i) for i in range(width)]))
    expect(column.null_count == 0, "a cell lies outside the table's columns")
    return column


def _letters(index: int) -> str:
    head, last = divmod(index, 26)
    return (_letters(head - 1) if head else "") + chr(65 + last)


def _number_contents(cells: _Cells, chosen: pa.Array, kind: Kind) -> pa.Array:
    if len(chosen) == 0:
        return _NO_TEXTS
    attributes = cells.attributes.take(chosen).unique().to_pylist()
    if kind is Kind.BOOLEAN:
        expect(set(attributes) <= {' t="b"'}, "a truth value is not marked as one")
    else:
        expect(all(_NUMBER_ATTRIBUTES.fullmatch(text) for text in attributes), "a number has unknown attributes")
    expect(kind not in _TEXT_ONLY, "a text column holds a number cell")
    expect(_all_equal(cells.token(chosen, 1), "<v"), "a number is not a value")
    return _without(cells.token(chosen, 2), "</v")


def _text_contents(cells: _Cells, chosen: pa.Array) -> pa.Array:
    if len(chosen) == 0:
        return _NO_TEXTS
    expect(_all_equal(cells.attributes.take(chosen), ' t="inlineStr"'), "a text is not an inline string")
    for place, token in ((1, "<is"), (2, '<t xml:space="preserve"'), (4, "</is"), (5, "")):
        expect(_all_equal(cells.token(chosen, place), token), "a text has another shape than ours")
    texts = _without(cells.token(chosen, 3), "</t")
    return _plain(texts)


def _plain(texts: pa.Array) -> pa.Array:
    """Texts without entities and escapes; what an XML parser would refuse is refused here as well."""
    expect(_all(pc.invert(pc.match_substring_regex(texts, _ILLEGAL))), "a text has a character that XML cannot hold")
    if pc.any(pc.match_substring(texts, "&")).as_py():
        known = sum(_count(texts, entity) for entity in _ENTITIES)
        expect(_count(texts, "&") == known, "a text has an unknown entity")
        for entity, character in _ENTITIES.items():
            texts = pc.replace_substring(texts, entity, character)
    escaped = pc.match_substring(texts, "_x")
    if pc.any(escaped).as_py():
        plain = pa.array([unescaped(text) for text in texts.filter(escaped).to_pylist()], pa.string())
        texts = pc.replace_with_mask(texts, escaped, plain)
    return texts


def _count(texts: pa.Array, part: str) -> int:
    return int(pc.sum(pc.count_substring(texts, part)).as_py())


def unescaped(text: str) -> str:
    """Text without ``_xHHHH_``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def _all_equal(texts: pa.Array, expected: str) -> bool:
    return _all(pc.equal(texts, expected))


def _without(texts: pa.Array, ending: str) -> pa.Array:
    expect(_all(pc.ends_with(texts, ending)), "a cell does not end after its content")
    return pc.binary_slice(texts.cast(pa.binary()), 0, -len(ending)).cast(pa.string())


def _aligned(row: pa.Array, contents: pa.Array, rows: int) -> pa.Array:
    """Contents at the place of their rows."""
    if len(row) in (0, rows):
        return contents if rows == len(row) else pa.nulls(rows, pa.string())
    return contents.take(pc.index_in(pa.array(range(rows), row.type), value_set=row))
