"""Finished files as strangers read them: none of the project's readers, nothing that wrote them.

Each reader answers the cells of the column ``v`` by ``id``. What is to be undone is undone by the format's own rule,
and only for the few cells that carry its mark.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import functools
import json
import re
from collections.abc import Callable, Iterator
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
Reader = Callable[[Path, str, Kind, psycopg.Connection[Any]], Cells]
"""(data folder, table, kind, a PostgreSQL) → cells."""


def read_csv(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """PostgreSQL's own COPY, which tells NULL from the empty text; Python's csv must agree but for that."""
    path = folder / f"{table}.csv"
    connection.execute("CREATE TEMP TABLE loaded (id int, v text)")
    with connection.cursor().copy("COPY loaded FROM STDIN (FORMAT csv, HEADER)") as copy:
        copy.write(path.read_bytes())
    found: dict[int, str | None] = dict(connection.execute("SELECT id, v FROM loaded").fetchall())
    connection.execute("DROP TABLE loaded")
    csv.field_size_limit(16 << 20)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert {int(row[0]): row[1] for row in rows} == {number: text or "" for number, text in found.items()}
    excel = header[0].startswith(BOM)
    return {number: _csv_cell(text, kind, excel=excel) for number, text in found.items()}


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


def read_json(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """The standard library's parser; of embedded JSON the text that it parsed."""
    text = (folder / f"{table}.json").read_text(encoding="utf-8")
    assert isinstance(_decoder.decode(text), list)
    return dict(_json_cells(text, kind))


def read_ndjson(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """As JSON, a line at a time."""
    text = (folder / f"{table}.ndjson").read_text(encoding="utf-8")
    assert text.endswith("\n")
    found: Cells = {}
    for line in text[:-1].split("\n"):
        found |= dict(_json_cells(line, kind))
    return found


_decoder = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)  # int() refuses thousands of digits
_BLANKS = re.compile("[ \\t]*")
_NATIVE_JSON: dict[Kind, tuple[type, ...]] = {
    Kind.BOOLEAN: (bool,),
    Kind.INTEGER: (Decimal,),
    Kind.FLOAT: (Decimal,),
    Kind.DECIMAL: (Decimal,),
    Kind.NUMERIC: (Decimal,),
    Kind.TEXT: (str,),
}


def _json_cells(text: str, kind: Kind) -> Iterator[tuple[int, Cell]]:
    position = text.find("{")
    while position >= 0:
        members, position = _members(text, position)
        value, raw = members["v"]
        if kind is Kind.JSON:
            marked = bool(re.fullmatch(" +null", raw))
            shown = raw[1:] if marked else None if raw == "null" else raw
            yield int(members["id"][1]), Cell(value=shown, native=not isinstance(value, str), marked=marked)
        else:
            native = value is None or type(value) in _NATIVE_JSON.get(kind, ())
            yield int(members["id"][1]), Cell(value=raw if isinstance(value, Decimal) else value, native=native)
        position = text.find("{", position)


def _members(text: str, start: int) -> tuple[dict[str, tuple[Any, str]], int]:
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


@functools.lru_cache(maxsize=1)
def _workbook(path: Path) -> Any:
    return openpyxl.load_workbook(path)


def read_xlsx(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """openpyxl, and the sheet of long texts where a cell says so."""
    (path,) = folder.glob("*.xlsx")
    book = _workbook(path)
    long = _long_texts(path)
    found = {}
    for row in book[table].iter_rows(min_row=2):
        cell = row[1] if len(row) > 1 else None
        value = cell.value if cell is not None else None
        # openpyxl takes an empty text for nothing; the cell's type still tells.
        if value is None and cell is not None and cell.data_type in ("inlineStr", "s"):
            value = ""
        whole = long.get((table, cell.coordinate)) if cell is not None else None
        text = unescape(whole or value) if isinstance(value, str) else value
        native = not isinstance(value, str) or kind in (Kind.TEXT, Kind.JSON)
        found[int(row[0].value)] = Cell(value=text, native=native, marked=text != (whole or value))
    return found


@functools.lru_cache(maxsize=1)
def _long_texts(path: Path) -> dict[tuple[str, str], str]:
    book, found = _workbook(path), {}
    if LONG_TEXTS in book.sheetnames:
        for sheet, cell, _part, text in book[LONG_TEXTS].iter_rows(min_row=2, values_only=True):
            found[sheet, cell] = found.get((sheet, cell), "") + text
    return found


def read_xml(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """expat, through the standard library."""
    found = {}
    for row in ET.parse(folder / f"{table}.xml").getroot():
        number, value = row
        assert number.text is not None
        text: str | None = value.text or ""
        if value.get("encoding") == "base64":
            text = base64.b64decode(value.text or "").decode()
        if value.get(NIL) == "true":
            text = None
        native = text is None or _plain_xml(text, kind)
        shown = f"\\x{text}" if kind is Kind.BYTES and text is not None else text
        found[int(number.text)] = Cell(value=shown, native=native, marked=value.get("encoding") is not None)
    return found


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


def read_parquet(folder: Path, table: str, kind: Kind, connection: psycopg.Connection[Any]) -> Cells:
    """DuckDB, and its own text of each value."""
    text = r"'\x' || hex(v)" if kind is Kind.BYTES else "v::VARCHAR"
    with duckdb.connect() as files:
        files.execute("SET TimeZone = 'UTC'")
        rows = files.execute(
            f"SELECT id, {text}, typeof(v) FROM read_parquet(?)", [str(folder / f"{table}.parquet")]
        ).fetchall()
    return {
        number: Cell(value=value, native=re.fullmatch(_PARQUET_TYPES.get(kind, "never"), found) is not None)
        for number, value, found in rows
    }


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
