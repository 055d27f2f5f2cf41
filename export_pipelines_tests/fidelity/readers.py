"""Finished files as strangers read them: none of the project's readers, nothing that wrote them.

Each reader answers the cells of each column by ``id``. What is to be undone is undone by the format's own rule,
and only for the few cells that carry its mark.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import duckdb
import openpyxl
import psycopg
from openpyxl.utils.escape import unescape
from psycopg import sql

from export_pipelines.core.types import Kind

NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
BOM = "\ufeff"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value as it was found; NULL has ``value`` None."""

    value: Any  # text where the format has no value of its own for it
    native: bool  # whether the format says by itself what it is
    marked: bool = False  # whether a mark had to be taken away


Cells = dict[int, Cell]
Columns = dict[str, Cells]
Kinds = Mapping[str, Kind]
Reader = Callable[[Path, Kinds, psycopg.Connection[Any]], Columns]
"""(file, columns with their kinds, a PostgreSQL) → their cells."""


def read_csv(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """PostgreSQL's own COPY, which tells NULL from the empty text; Python's csv must agree but for that."""
    names = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in kinds)
    connection.execute(sql.SQL("CREATE TEMP TABLE loaded (id text, {})").format(names))
    with connection.cursor().copy("COPY loaded FROM STDIN (FORMAT csv, HEADER)") as copy:
        copy.write(path.read_bytes())
    rows = connection.execute("SELECT * FROM loaded").fetchall()
    connection.execute("DROP TABLE loaded")
    csv.field_size_limit(16 << 20)
    with path.open(newline="", encoding="utf-8") as file:
        header, *others = csv.reader(file)
    assert others == [[text or "" for text in row] for row in rows]
    excel = header[0].startswith(BOM)
    return {
        name: {int(row[0]): _csv_cell(row[place], kind, excel=excel) for row in rows}
        for place, (name, kind) in enumerate(kinds.items(), start=1)
    }


_FORMULA = re.compile("'([' \u00a0]*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")


def _csv_cell(text: str | None, kind: Kind, *, excel: bool) -> Cell:
    marked = bool(excel and text and kind in (Kind.TEXT, Kind.JSON) and _FORMULA.match(text))
    return Cell(value=text[1:] if marked and text else text, native=text is None or _plain(text, kind), marked=marked)


def _plain(text: str, kind: Kind) -> bool:
    """Whether Python's own types read the text as a value of the kind."""
    try:
        _PLAIN[kind](text)
    except (ValueError, ArithmeticError, KeyError):
        return False
    return True


_PLAIN: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOLEAN: ["false", "true"].index,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.NUMERIC: Decimal,
    Kind.TEXT: str,
    Kind.DATE: dt.date.fromisoformat,
    Kind.TIME: dt.time.fromisoformat,
    Kind.TIMESTAMP: dt.datetime.fromisoformat,
    Kind.INSTANT: dt.datetime.fromisoformat,
}


def read_json(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """The standard library's parser; of embedded JSON the text that it parsed."""
    text = path.read_text(encoding="utf-8")
    assert isinstance(_decoder.decode(text), list)
    return _json_columns(_objects(text), kinds)


def read_ndjson(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """As JSON, a line at a time."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return _json_columns((_members(line, 0)[0] for line in text[:-1].split("\n")), kinds)


_decoder = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)  # int() refuses thousands of digits
Members = dict[str, tuple[Any, str]]
"""Of an object: each value as it was parsed, and its text with the blanks around it."""
_BLANKS = re.compile("[ \\t]*")
_NATIVE_JSON: dict[Kind, tuple[type, ...]] = {
    Kind.BOOLEAN: (bool,),
    Kind.INTEGER: (Decimal,),
    Kind.FLOAT: (Decimal,),
    Kind.DECIMAL: (Decimal,),
    Kind.NUMERIC: (Decimal,),
    Kind.TEXT: (str,),
}


def _json_columns(objects: Iterable[Members], kinds: Kinds) -> Columns:
    rows = {int(members["id"][1]): members for members in objects}
    return {
        name: {number: _json_cell(*members[name], kind) for number, members in rows.items()}
        for name, kind in kinds.items()
    }


def _json_cell(value: Any, raw: str, kind: Kind) -> Cell:
    if kind is Kind.JSON:
        marked = bool(re.fullmatch(" +null", raw))
        shown = raw[1:] if marked else None if raw == "null" else raw
        return Cell(value=shown, native=not isinstance(value, str), marked=marked)
    native = value is None or type(value) in _NATIVE_JSON.get(kind, ())
    return Cell(value=raw if isinstance(value, Decimal) else value, native=native)


def _objects(text: str) -> Iterator[Members]:
    """The objects of an array."""
    position = text.find("{")
    while position >= 0:
        members, position = _members(text, position)
        yield members
        position = text.find("{", position)


def _members(text: str, start: int) -> tuple[Members, int]:
    """The members of the object at ``start`` with their values and the text of these, and the object's end."""
    members = {}
    position = start + 1
    while text[position - 1] != "}":
        name, colon = _decoder.raw_decode(text, position)
        begin = colon + 1
        value, end = _decoder.raw_decode(text, _BLANKS.match(text, begin).end())  # type: ignore[union-attr]
        while text[end] not in ",}":
            end += 1
        members[name] = (value, text[begin:end])
        position = end + 1
    return members, position


LONG_TEXTS = "Long texts"


def read_xlsx(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """openpyxl, and the sheet of long texts where a cell has one."""
    book = openpyxl.load_workbook(path)
    sheet = book.worksheets[0]
    long: dict[str, str] = {}
    overflow = book[LONG_TEXTS].iter_rows(min_row=2, values_only=True) if LONG_TEXTS in book.sheetnames else ()
    for name, cell, _part, text in overflow:
        assert name == sheet.title
        long[cell] = long.get(cell, "") + text
    rows = list(sheet.iter_rows(min_row=2))
    return {
        name: {int(row[0].value): _xlsx_cell(row[place], long.get(row[place].coordinate), kind) for row in rows}
        for place, (name, kind) in enumerate(kinds.items(), start=1)
    }


def _xlsx_cell(cell: Any, long: str | None, kind: Kind) -> Cell:
    value = cell.value
    # openpyxl takes an empty text for nothing; the cell's type still tells.
    if value is None and cell.data_type in ("inlineStr", "s"):
        value = ""
    whole = long or value
    text = unescape(whole) if isinstance(whole, str) else whole
    native = not isinstance(value, str) or kind in (Kind.TEXT, Kind.JSON)
    return Cell(value=text, native=native, marked=text != whole)


def read_xml(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """expat, through the standard library."""
    rows = [{cell.tag: cell for cell in row} for row in ET.parse(path).getroot()]
    return {
        name: {int(row["id"].text or ""): _xml_cell(row[name], kind) for row in rows} for name, kind in kinds.items()
    }


def _xml_cell(cell: ET.Element, kind: Kind) -> Cell:
    if cell.get(NIL) == "true":
        return Cell(value=None, native=True)
    text, marked = cell.text or "", cell.get("encoding") == "base64"
    if marked:
        text = base64.b64decode(text).decode()
    shown = f"\\x{text}" if kind is Kind.BYTES else text
    return Cell(value=shown, native=_plain_xml(text, kind), marked=marked)


def _plain_xml(text: str, kind: Kind) -> bool:
    if kind is Kind.BYTES:
        return re.fullmatch("([0-9a-f]{2})*", text) is not None
    if kind is Kind.NUMERIC:
        return re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", text) is not None  # xs:decimal
    return _plain(text, Kind.TEXT if kind is Kind.JSON else kind)


_PARQUET_TYPES = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.INTEGER: "SMALLINT|INTEGER|BIGINT",
    Kind.FLOAT: "FLOAT|DOUBLE",
    Kind.DECIMAL: r"DECIMAL\(\d+,\d+\)",
    Kind.TEXT: "VARCHAR",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.INSTANT: "TIMESTAMP WITH TIME ZONE",
    Kind.BYTES: "BLOB",
}


def read_parquet(path: Path, kinds: Kinds, connection: psycopg.Connection[Any]) -> Columns:
    """DuckDB, and its own text of each value."""
    columns: Columns = {}
    with duckdb.connect() as files:
        files.execute("SET TimeZone = 'UTC'")
        for name, kind in kinds.items():
            text = rf"'\x' || hex({name})" if kind is Kind.BYTES else f"{name}::VARCHAR"
            query = f"SELECT id, {text}, typeof({name}) FROM read_parquet(?)"
            expected = re.compile(_PARQUET_TYPES.get(kind, "never"))
            columns[name] = {
                number: Cell(value=value, native=expected.fullmatch(found) is not None)
                for number, value, found in files.execute(query, [str(path)]).fetchall()
            }
    return columns


READERS: dict[str, Reader] = {
    "csv": read_csv,
    "json": read_json,
    "ndjson": read_ndjson,
    "xlsx": read_xlsx,
    "xml": read_xml,
    "parquet": read_parquet,
}


def as_input(value: Any, kind: Kind, *, array: bool) -> str:
    """A cell's value as PostgreSQL takes it for its type."""
    if kind is Kind.JSON and array:
        parsed = json.loads(value, parse_int=str, parse_float=str, parse_constant=str)
        return parsed if isinstance(parsed, str) else _array_literal(parsed)
    if isinstance(value, bool):
        return str(value).lower()
    if kind is Kind.DATE and isinstance(value, dt.datetime):
        return value.date().isoformat()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat() + ("Z" if kind is Kind.INSTANT else "")
    return str(value)


def _array_literal(element: Any) -> str:
    if element is None:
        return "NULL"
    if isinstance(element, list):
        return "{" + ",".join(map(_array_literal, element)) + "}"
    text = str(element).lower() if isinstance(element, bool) else str(element)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def restore(connection: psycopg.Connection[Any], pg_type: str, texts: dict[int, str | None]) -> None:
    """The texts as a table ``restored`` of that type; PostgreSQL refuses what does not fit."""
    connection.execute(sql.SQL("CREATE TEMP TABLE restored (id int, v {})").format(sql.SQL(pg_type)))
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO restored VALUES (%s, %s)", list(texts.items()))
