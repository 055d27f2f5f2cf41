"""Reads our own workbooks back in bounded memory, sharing nothing with the writer.

A full XML parser needs 7 seconds and more for a million rows of eight cells (expat; lxml 10, openpyxl 30) and
calamine keeps whole sheets in memory. So this reader accepts only the shapes of row and cell that we write, cuts them
with Arrow's kernels and refuses every other byte. Workbooks of other programs are a matter of imports.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from lxml import etree

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.parsing import conformed, reading_session, typed, unreadable

_CHUNK_BYTES = 4 << 20  # of XML; the pieces of a chunk take about ten times as much
_NUMBER_TOKENS, _TEXT_TOKENS = 4, 6  # of a cell, split at each ">"
_NUMBER_ATTRIBUTES = re.compile(r'( s="[0-9]+")?')
_TEXT_ONLY = (Kind.TEXT, Kind.JSON, Kind.BYTES)
_NO_TEXTS = pa.array([], pa.string())
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")
_EPOCH_MS = 25_569 * 86_400_000  # 1970-01-01 as a serial in milliseconds
_SERIALS = {
    Kind.DATE: "DATE '1899-12-30' + CAST({cell} AS INTEGER)",
    Kind.TIME: "CAST(make_timestamp({millis} * 1000) AS TIME)",
    Kind.TIMESTAMP: f"make_timestamp(({{millis}} - {_EPOCH_MS}) * 1000)",
    Kind.INSTANT: f"make_timestamp(({{millis}} - {_EPOCH_MS}) * 1000)",
}


def read_xlsx(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a table from all its sheets.

    Raises `IntegrityViolation` when there is no sheet of it, its header differs or a byte is not as we write it.
    """
    what = f"{path.name} (table {head.name})"
    with _sound(what), zipfile.ZipFile(path) as archive, reading_session() as session:
        parts = _sheet_parts(archive, head.name)
        if not parts:
            raise IntegrityViolation(f"{what}: the workbook has no sheet of this table; export again")
        for part in parts:
            with archive.open(part) as xml:
                yield from _rows_of(xml, head, session)


@contextlib.contextmanager
def _sound(what: str) -> Iterator[None]:
    with unreadable(what):
        try:
            yield
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, etree.XMLSyntaxError, _Malformed) as error:
            reason = str(error) if isinstance(error, _Malformed) else "it is not a whole workbook"
            raise IntegrityViolation(f"{what}: {reason}; export again") from None


class _Malformed(Exception):
    """Something is not as this project writes it; the message holds no data."""


def _expect(condition: object, message: str) -> None:
    if not condition:
        raise _Malformed(message)


def _all(truths: pa.Array) -> bool:
    return bool(pc.all(truths, skip_nulls=False, min_count=0).as_py())


def _sheet_parts(archive: zipfile.ZipFile, table: str) -> list[str]:
    """Names of the parts that hold a table, in the workbook's order."""
    tables = _parsed(archive, "docProps/custom.xml").xpath("//*[local-name()='lpwstr']")
    sheets = _parsed(archive, "xl/workbook.xml").xpath("//*[local-name()='sheet']/@*[local-name()='id']")
    relations = _parsed(archive, "xl/_rels/workbook.xml.rels")
    targets = {relation.get("Id"): relation.get("Target") for relation in relations}
    _expect(len(tables) == len(sheets), "its sheets and their tables differ in number")
    return [f"xl/{targets[id_]}" for id_, name in zip(sheets, tables, strict=True) if name.text == table]


def _parsed(archive: zipfile.ZipFile, part: str) -> etree._Element:
    return etree.fromstring(archive.read(part), etree.XMLParser(resolve_entities=False, no_network=True))


def _rows_of(xml: IO[bytes], head: TableHead, session: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """One sheet."""
    chunks = _row_chunks(xml)
    _check_header(next(chunks), head)
    first_row = 2
    for chunk in chunks:
        columns, rows = _columns(chunk, first_row, [kind_of(field) for field in head.schema])
        yield _typed_batch(columns, head.schema, session)
        first_row += rows


def _row_chunks(xml: IO[bytes]) -> Iterator[bytes]:
    """The first ``<row>`` element, then the others, many whole ones at a time."""
    head, start, rest = xml.read(_CHUNK_BYTES).partition(b"<sheetData>")
    header, end, rest = rest.partition(b"</row>")
    _expect(start and end and head.startswith(b"<?xml "), "a sheet does not begin with a header row")
    yield header + end
    while True:
        cut = rest.rfind(b"</row>") + len(b"</row>")
        if cut >= len(b"</row>"):
            yield rest[:cut]
            rest = rest[cut:]
        data = xml.read(_CHUNK_BYTES)
        if not data:
            break
        rest += data
    _expect(rest.startswith(b"</sheetData>") and rest.endswith(b"</worksheet>"), "a sheet does not end after its rows")


def _check_header(row: bytes, head: TableHead) -> None:
    texts = ["".join(cell.itertext()) for cell in etree.fromstring(row, etree.XMLParser(resolve_entities=False))]
    titles = [_unescaped(text) for text in texts]
    names = head.schema.names
    labels = [head.labels.get(name, name) for name in names]
    _expect(titles in (names, labels), f"a sheet's header of {len(titles)} columns is not the table's {len(names)}")


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


def _columns(chunk: bytes, first_row: int, kinds: Sequence[Kind]) -> tuple[list[tuple[pa.Array, pa.Array]], int]:
    """For each column the contents of its number cells and of its text cells, NULL elsewhere; number of rows."""
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
    _expect(_all(pc.equal(pc.list_element(parts, 0), starts)), "rows are not numbered one after the other")
    lists = pc.split_pattern(pc.list_element(parts, 1), "</c>")
    texts, row = lists.flatten(), pc.list_parent_indices(lists)
    filled = pc.not_equal(texts, "")
    texts, row = texts.filter(filled), row.filter(filled)
    _expect(len(filled) - len(texts) == len(rows), "a row does not end after its cells")

    split = pc.split_pattern(texts, ">")
    tokens, first_token, lengths = split.flatten(), split.offsets[:-1], pc.list_value_length(split)
    opening = pc.split_pattern(tokens.take(first_token), '"', max_splits=2)
    reference = pc.list_element(opening, 1)
    letters = pc.ascii_rtrim(reference, characters="0123456789")
    column = pc.index_in(letters, value_set=pa.array([_letters(i) for i in range(width)]))
    _expect(column.null_count == 0, "a cell lies outside the table's columns")
    _expect(_all(pc.equal(pc.list_element(opening, 0), "<c r=")), "an element is not a cell")
    _expect(
        _all(pc.equal(pc.ascii_ltrim(reference, characters="ABCDEFGHIJKLMNOPQRSTUVWXYZ"), names.take(row))),
        "a cell's reference is not of its row",
    )
    place = pc.add(pc.multiply(row.cast(pa.int64()), width), column)
    _expect(_all(pc.greater(place[1:], place[:-1])), "cells of a row are not in order")
    is_number = pc.equal(lengths, _NUMBER_TOKENS)
    _expect(_all(pc.or_(is_number, pc.equal(lengths, _TEXT_TOKENS))), "a cell has another shape than ours")
    return _Cells(
        row=row,
        column=column,
        attributes=pc.list_element(opening, 2),
        tokens=tokens,
        first_token=first_token,
        is_number=is_number,
    )


def _letters(index: int) -> str:
    head, last = divmod(index, 26)
    return (_letters(head - 1) if head else "") + chr(65 + last)


def _number_contents(cells: _Cells, chosen: pa.Array, kind: Kind) -> pa.Array:
    if len(chosen) == 0:
        return _NO_TEXTS
    attributes = cells.attributes.take(chosen).unique().to_pylist()
    if kind is Kind.BOOLEAN:
        _expect(set(attributes) <= {' t="b"'}, "a truth value is not marked as one")
    else:
        _expect(all(_NUMBER_ATTRIBUTES.fullmatch(text) for text in attributes), "a number has unknown attributes")
    _expect(kind not in _TEXT_ONLY, "a text column holds a number cell")
    _expect(_all_equal(cells.token(chosen, 1), "<v"), "a number is not a value")
    return _without(cells.token(chosen, 2), "</v")


def _text_contents(cells: _Cells, chosen: pa.Array) -> pa.Array:
    if len(chosen) == 0:
        return _NO_TEXTS
    _expect(_all_equal(cells.attributes.take(chosen), ' t="inlineStr"'), "a text is not an inline string")
    for place, token in ((1, "<is"), (2, '<t xml:space="preserve"'), (4, "</is"), (5, "")):
        _expect(_all_equal(cells.token(chosen, place), token), "a text has another shape than ours")
    texts = _without(cells.token(chosen, 3), "</t")
    if pc.any(pc.match_substring(texts, "&")).as_py():
        for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            texts = pc.replace_substring(texts, entity, character)
    escaped = pc.match_substring(texts, "_x")
    if pc.any(escaped).as_py():
        plain = pa.array([_unescaped(text) for text in texts.filter(escaped).to_pylist()], pa.string())
        texts = pc.replace_with_mask(texts, escaped, plain)
    return texts


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def _all_equal(texts: pa.Array, expected: str) -> bool:
    return _all(pc.equal(texts, expected))


def _without(texts: pa.Array, ending: str) -> pa.Array:
    _expect(_all(pc.ends_with(texts, ending)), "a cell does not end after its content")
    return pc.binary_slice(texts.cast(pa.binary()), 0, -len(ending)).cast(pa.string())


def _aligned(row: pa.Array, contents: pa.Array, rows: int) -> pa.Array:
    """Contents at the place of their rows."""
    if len(row) in (0, rows):
        return contents if rows == len(row) else pa.nulls(rows, pa.string())
    return contents.take(pc.index_in(pa.array(range(rows), row.type), value_set=row))


def _typed_batch(
    columns: Sequence[tuple[pa.Array, pa.Array]], schema: pa.Schema, session: duckdb.DuckDBPyConnection
) -> pa.RecordBatch:
    arrays = {f"{form}{i}": array for i, pair in enumerate(columns) for form, array in zip("nt", pair, strict=True)}
    session.register("cells", pa.table(arrays))
    values = ", ".join(_value(i, field) for i, field in enumerate(schema))
    result = session.sql(f"SELECT {values} FROM cells").to_arrow_table()  # noqa: S608 - positions and types only
    return conformed((column.combine_chunks() for column in result.columns), schema)


def _value(index: int, field: pa.Field) -> str:
    """SQL for a value: the number cell ``n`` or the text cell ``t`` of a row."""
    serial = _SERIALS.get(kind_of(field))
    if serial is None:
        return f"{typed(f'coalesce(n{index}, t{index})', field)} AS v{index}"
    millis = f"CAST(round(CAST(n{index} AS DOUBLE) * 86400000) AS BIGINT)"
    return f"coalesce({serial.format(cell=f'n{index}', millis=millis)}, {typed(f't{index}', field)}) AS v{index}"
