"""Reads our own XML files back with lxml, a bounded number of rows at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
from lxml import etree

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.parsing import allow, conformed, reading_session, typed, unreadable
from export_pipelines.formats.xml_names import original_name

_BATCH_ROWS = 8_192
_BATCH_BYTES = 16 * 1024**2
_STEP_ROWS = 64  # between looks at how far the file was read
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_FREE_TEXT = (Kind.TEXT, Kind.JSON)

Record = list[str | None]


def read_xml(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file; memory is bounded by some MB of the file, or 64 of its rows.

    Raises `IntegrityViolation` when the file is not well-formed, is of another table, or has a value that is not of
    its column's type.
    """
    what = f"{path.name} (table {head.name})"
    with path.open("rb") as source, reading_session() as session, unreadable(what):
        try:
            for batch in _batches(_records(source, head), source):
                yield _typed_batch(batch, head.schema, session)
        except (etree.XMLSyntaxError, binascii.Error, UnicodeDecodeError, _Foreign) as error:
            reason = str(error) if isinstance(error, _Foreign) else "it is not well-formed"
            raise IntegrityViolation(f"{what}: {reason}; export again") from None


def _batches(records: Iterator[Record], source: BinaryIO) -> Iterator[list[Record]]:
    """Some thousand records at a time, or as many as some MB of the file hold."""
    batch: list[Record] = []
    start = source.tell()
    while some := list(islice(records, _STEP_ROWS)):
        batch += some
        if len(batch) >= _BATCH_ROWS or source.tell() - start > _BATCH_BYTES:
            yield batch
            batch, start = [], source.tell()
    if batch:
        yield batch


class _Foreign(Exception):
    """The document is not of this table; the message holds no data."""


def _records(source: BinaryIO, head: TableHead) -> Iterator[Record]:
    """The texts of each row in the columns' order, NULL as None."""
    free_text = [i for i, field in enumerate(head.schema) if kind_of(field) in _FREE_TEXT]
    tags: list[str] = []
    events = etree.iterparse(source, tag="row", resolve_entities=False, no_network=True, huge_tree=True)
    for _, row in events:
        parent = row.getparent()
        if parent is None or parent.getparent() is not None:
            continue  # a table or a column may be called "row" as well
        cells = row[:]
        if (found := [cell.tag for cell in cells]) != tags:
            if tags or [original_name(tag) for tag in found] != head.schema.names:
                raise _Foreign(f"a row has {len(found)} elements that are not the {len(head.schema)} columns")
            tags = found
        record = [cell.text for cell in cells]
        if None in record:
            record = [_empty(cell) if text is None else text for cell, text in zip(cells, record, strict=True)]
        for i in free_text:
            if cells[i].get("encoding") == "base64":
                record[i] = base64.b64decode(record[i] or "", validate=True).decode()
        yield record
        del parent[0]  # or the whole document gathers in memory
    if original_name(events.root.tag) != head.name:
        raise _Foreign("the file holds another table")


def _empty(cell: etree._Element) -> str | None:
    return None if cell.get(_NIL) == "true" else ""


def _typed_batch(records: Sequence[Record], schema: pa.Schema, session: duckdb.DuckDBPyConnection) -> pa.RecordBatch:
    texts = [pa.array(column, pa.string()) for column in zip(*records, strict=True)]
    cells = pa.table(texts, names=[f"c{i}" for i in range(len(texts))])
    allow(session, cells.nbytes, len(schema))
    session.register("cells", cells)
    values = ", ".join(f"{_value(f'c{i}', field)} AS v{i}" for i, field in enumerate(schema))
    result = session.sql(f"SELECT {values} FROM cells").to_arrow_table()  # noqa: S608 - positions and types only
    return conformed((column.combine_chunks() for column in result.columns), schema)


def _value(cell: str, field: pa.Field) -> str:
    return typed(f"('\\x' || {cell})" if kind_of(field) is Kind.BYTES else cell, field)
