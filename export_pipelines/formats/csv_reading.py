"""Reads the CSV files of `export_pipelines.formats.csv`, of either profile, exactly.

The file is cut between rows here and pyarrow reads the pieces. Cutting by bytes keeps memory bounded when cells are
large; DuckDB, for one, holds the rows of a vector at a time, which is 2,048 of them whatever their size.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.escaping import ESCAPED, restore
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.parsing import conformed, unreadable

BOM = b"\xef\xbb\xbf"
NEUTRALISED = (Kind.TEXT, Kind.JSON)  # numbers stay numbers, also negative ones
_CHUNK_BYTES = 4 * 1024 * 1024
_ROW_END = b"\r\n"
_QUOTE = b'"'


def labels_of(table: TableHead) -> list[str]:
    """The titles of the columns for people."""
    return [table.labels.get(name, name) for name in table.schema.names]


def read_csv(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file; memory follows the larger of some MB and one row.

    Raises `IntegrityViolation` when the header is not the table's, a row is cut short or a cell is not of its type.
    """
    excel = _check_header(path, head)
    for chunk in _row_chunks(path):
        with unreadable(f"{path.name} (table {head.name})"):
            cells = _cells(chunk, head.schema)
            columns = [_value(column, field, excel) for column, field in zip(cells.columns, head.schema, strict=True)]
            batch = conformed(columns, head.schema)
        yield batch


def _check_header(path: Path, head: TableHead) -> bool:
    """Whether the file has the profile ``excel``."""
    with path.open("rb") as raw:
        excel = raw.read(len(BOM)) == BOM
    with path.open(encoding="utf-8-sig" if excel else "utf-8", newline="") as text:
        titles = next(csv.reader(text), [])
    if excel:
        titles = [restore(title) for title in titles]
    if titles not in (list(head.schema.names), labels_of(head)):
        raise IntegrityViolation(
            f"{path.name} has a header of {len(titles)} columns that is not the one of table {head.name}, "
            f"which has {len(head.schema)}; export again"
        )
    return excel


def _row_chunks(path: Path) -> Iterator[bytes]:
    """Whole rows, without the header. A row ends where the quotes before it are even in number."""
    with path.open("rb") as file:
        rest = b""
        header = True
        while data := file.read(max(_CHUNK_BYTES, len(rest))):  # a row of many MB is not searched again and again
            rest += data
            if header:
                end = _first_end(rest)
                rest, header = rest[end:], end == 0
            end = 0 if header else _last_end(rest)
            if end:
                yield rest[:end]
                rest = rest[end:]
    if rest:
        raise IntegrityViolation(f"{path.name} ends inside a row; export again")


def _first_end(data: bytes) -> int:
    """Where the first row ends, 0 when it does not."""
    end = data.find(_ROW_END)
    while end >= 0 and data.count(_QUOTE, 0, end) % 2:
        end = data.find(_ROW_END, end + 1)
    return end + len(_ROW_END) if end >= 0 else 0


def _last_end(data: bytes) -> int:
    """Where the last whole row ends, 0 when there is none."""
    end = data.rfind(_ROW_END)
    quotes = data.count(_QUOTE, 0, max(end, 0))
    while end >= 0 and quotes % 2:
        before = data.rfind(_ROW_END, 0, end)
        quotes -= data.count(_QUOTE, max(before, 0), end)
        end = before
    return end + len(_ROW_END) if end >= 0 else 0


def _cells(rows: bytes, schema: pa.Schema) -> pa.Table:
    names = [f"c{i}" for i in range(len(schema))]
    types = [pa.string() if kind_of(field) is Kind.BYTES else field.type for field in schema]
    return pyarrow.csv.read_csv(
        pa.BufferReader(rows),
        read_options=pyarrow.csv.ReadOptions(column_names=names, block_size=len(rows) + 1),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict(zip(names, types, strict=True)),
            true_values=["true"],
            false_values=["false"],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _value(column: pa.ChunkedArray, field: pa.Field, excel: bool) -> pa.Array:
    cells = column.combine_chunks()
    if kind_of(field) is Kind.BYTES:
        return pa.array((cell and bytes.fromhex(cell[2:]) for cell in cells.to_pylist()), field.type)
    if excel and kind_of(field) in NEUTRALISED:
        return pc.replace_substring_regex(cells, ESCAPED, r"\1")
    return cells
