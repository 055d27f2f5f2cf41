"""What each kind of value looks like in each format, by writing it with the real writers."""

from __future__ import annotations

import datetime as dt
import io
import re
import zipfile
from decimal import Decimal
from typing import Any

import pyarrow as pa

from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import as_text, field_of, value_type
from export_pipelines.formats.column_facts import column_facts
from export_pipelines.formats.registry import find_format

HEADER = ("PostgreSQL type", "CSV", "JSON, NDJSON", "XML", "XLSX cell", "Parquet (Arrow) type")
_NOON = dt.datetime(2024, 1, 31, 12, 0, 0, 123456)  # noqa: DTZ001 - a timestamp without a zone is one of the kinds
_VALUES: tuple[tuple[str, Any], ...] = (
    ("boolean", True),
    ("integer", -42),
    ("bigint", 9_007_199_254_740_993),
    ("double precision", 0.1),
    ("double precision", float("inf")),
    ("numeric(12,2)", Decimal("1200.50")),
    ("numeric", "1136.4500000000000000"),
    ("numeric", "12345678901234567890.5"),
    ("text", "Rex & Co"),
    ("text", ""),
    ("text", None),
    ("text", "=1+1"),
    ("date", dt.date(2024, 1, 31)),
    ("date", dt.date(1815, 6, 18)),
    ("time without time zone", dt.time(9, 30)),
    ("timestamp without time zone", _NOON.replace(microsecond=0)),
    ("timestamp with time zone", _NOON.replace(microsecond=0, tzinfo=dt.UTC)),
    ("timestamp with time zone", _NOON.replace(tzinfo=dt.UTC)),
    ("jsonb", '{"a": [1, null]}'),
    ("text[]", '["x","y"]'),
    ("uuid", "0190b6c4-0000-7000-8000-000000000001"),
    ("interval", "1 mon 2 days"),
    ("bytea", b"\xde\xad"),
    ("date, as_text", "infinity"),
)
_NOTES = {"": " (empty)", None: " (NULL)"}


def rows() -> list[tuple[str, ...]]:
    """One line a value, in the order of `_VALUES`."""
    return [_row(pg_type, value) for pg_type, value in _VALUES]


def _row(pg_type: str, value: Any) -> tuple[str, ...]:
    base, text, _ = pg_type.partition(", as_text")
    form = as_text(base) if text else value_type(base)
    schema = pa.schema([field_of("v", form)])
    batch = pa.RecordBatch.from_arrays([pa.array([value], form.arrow)], schema=schema)
    facts = column_facts([batch], schema) if _undecided(schema.field(0)) else {}
    head = TableHead(name="t", schema=schema, facts=facts)
    cells = (_csv(batch, head), _json(batch, head), _xml(batch, head))
    shown = [f"`{cell}`" if cell else "nothing" for cell in cells]
    return (pg_type + (_NOTES[value] if value in ("", None) else ""), *shown, _xlsx(batch, head), f"`{form.arrow}`")


def _undecided(field: pa.Field) -> bool:
    undecided = find_format("xlsx").undecided
    return undecided is not None and undecided(field, {})


def _written(name: str, batch: pa.RecordBatch, head: TableHead) -> bytes:
    sink = io.BytesIO()
    writer = find_format(name).open(sink, {})
    writer.begin(head)
    writer.write(batch)
    writer.close()
    return sink.getvalue()


def _csv(batch: pa.RecordBatch, head: TableHead) -> str:
    return _written("csv", batch, head).decode().split("\r\n")[1]


def _json(batch: pa.RecordBatch, head: TableHead) -> str:
    return _written("ndjson", batch, head).decode().strip().removeprefix('{"v":').removesuffix("}")


def _xml(batch: pa.RecordBatch, head: TableHead) -> str:
    found = re.search(r"<row>(.*)</row>", _written("xml", batch, head).decode())
    return found[1] if found else ""


def _xlsx(batch: pa.RecordBatch, head: TableHead) -> str:
    with zipfile.ZipFile(io.BytesIO(_written("xlsx", batch, head))) as workbook:
        sheet = workbook.read("xl/worksheets/sheet1.xml").decode()
        styles = re.findall(r"""formatCode=(["'])(.*?)\1""", workbook.read("xl/styles.xml").decode())
    cell = re.search(r'<c r="A2"([^>]*)>(.*?)</c>', sheet)
    if cell is None:
        return "no cell"
    if 't="inlineStr"' in cell[1]:
        return "text"
    if 't="b"' in cell[1]:
        return "boolean"
    return f"number, `{styles[0][1]}`" if 's="' in cell[1] and styles else "number"
