"""Rows from the text of JSON objects, one object a line, exactly.

How a file is cut into objects is the business of the formats and of `export_pipelines.formats.nesting`. DuckDB reads
the members. It holds a number as a double and prints JSON anew, so numbers beyond 15 digits and JSON values are cut
out of the text itself, before, with the scanner of the standard library where a value's end is not obvious.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from json.scanner import make_scanner

import duckdb
import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.json_objects import key
from export_pipelines.formats.parsing import allow, conformed, quoted, reading_session, typed, unreadable

CHUNK_BYTES = 4 * 1024 * 1024
_DOUBLE_DIGITS = 15  # any decimal of so many digits survives a double
_NULL = "null"

_BLANKS = " \t\n\r"
_blank = re.compile(f"[{_BLANKS}]*")
_scalar = re.compile(r'"[^"]*"|[^,}\]]*')
_bracket = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')
_surrogate = re.compile(r"\\u[dD][89a-fA-F]")
_json_null = re.compile(r" +null")
# (text, start) → (value, end), in C; numbers are not converted, only their end is wanted
_scan = make_scanner(json.JSONDecoder(parse_float=str, parse_int=str))  # type: ignore[arg-type]  # typeshed: itself

Cut = Callable[[str, int], int]  # (line, start of a value) → its end


def rows_of(chunks: Iterable[Sequence[str]], head: TableHead, source: str) -> Iterator[pa.RecordBatch]:
    """Typed batches, one for each chunk of objects. ``source`` names the file in an `IntegrityViolation`."""
    lifts = _lifts(head.schema)
    query = _query(head.schema, lifts)
    with reading_session() as connection:
        for lines in chunks:
            if not lines:
                continue
            with unreadable(f"{source} (table {head.name})"):
                rest, lifted = _lift(lines, lifts)
                yield _parse(connection, query, rest, lifted, head.schema)


def member_end(text: str, start: int) -> int:
    """The end of the JSON value at ``start``, with the blanks around it."""
    try:
        _, end = _scan(text, start if text[start] not in _BLANKS else _skip(text, start))
        return end if text[end] not in _BLANKS else _skip(text, end)
    except RecursionError:
        return _skip(text, _deep_end(text, start))
    except (StopIteration, ValueError, IndexError):  # without the cause: it carries the text
        raise IntegrityViolation("a JSON value in the file is incomplete; export again") from None


def _deep_end(text: str, start: int) -> int:
    """The end of a value with more levels than the scanner's stack: PostgreSQL stores thousands of them."""
    depth = 0
    for match in _bracket.finditer(text, start):
        depth += (match[0] in "[{") - (match[0] in "]}")
        if depth == 0:
            return match.end()
    raise IntegrityViolation("a JSON value in the file is incomplete; export again")


def _skip(text: str, start: int) -> int:
    match = _blank.match(text, start)
    return match.end() if match else start


def _lifts(schema: pa.Schema) -> dict[str, tuple[str, Cut]]:
    """For each column to be cut out: the text before its value and how to find the value's end."""
    found: dict[str, tuple[str, Cut]] = {}
    following: list[str | None] = [*(f",{key(name)}" for name in schema.names[1:]), None]
    for position, (field, after) in enumerate(zip(schema, following, strict=True)):
        kind = kind_of(field)
        before = ("," if position else "{") + key(field.name)
        if kind is Kind.JSON:
            found[field.name] = (before, _json_cut(after))
        elif kind is Kind.NUMERIC or (kind is Kind.DECIMAL and field.type.precision > _DOUBLE_DIGITS):
            found[field.name] = (before, _scalar_end)
    return found


def _scalar_end(text: str, start: int) -> int:
    match = _scalar.match(text, start)
    return match.end() if match else start


def _json_cut(after: str | None) -> Cut:
    """Quick where the next member's key occurs once in what follows; else the value is scanned."""

    def cut(text: str, start: int) -> int:
        end = text.find(after, start) if after is not None else -1
        if after is not None and end >= 0 and text.find(after, end + 1) < 0:
            return end
        return member_end(text, start)

    return cut


def _lift(lines: Sequence[str], lifts: dict[str, tuple[str, Cut]]) -> tuple[Sequence[str], dict[str, list[str | None]]]:
    """The lines for DuckDB, and the texts of the values cut out of them.

    Type json may hold half of a surrogate pair as an escape, which DuckDB refuses wherever it stands in a line: there
    the values are really taken out.
    """
    rest = list(lines)
    columns: dict[str, list[str | None]] = {name: [] for name in lifts}
    steps = [(before, len(before), cut, columns[name].append) for name, (before, cut) in lifts.items()]
    for number, line in enumerate(lines if steps else ()):
        position, cuts, halves = 0, [0], _surrogate.search(line) is not None
        for before, length, cut, append in steps:
            # The first hit is the member itself: between two cut-out members there are only strings, where a quote
            # is always escaped, and numbers.
            found = line.find(before, position)
            if found < 0:
                raise IntegrityViolation("a record in the file lacks a column of its table; export again")
            position = cut(line, found + length)
            value = line[found + length : position]
            append(None if value == _NULL else value)
            if halves:
                cuts += [found + length, position]
        if halves:
            kept = zip(cuts[::2], [*cuts[1::2], len(line)], strict=True)
            rest[number] = _NULL.join(line[start:end] for start, end in kept)
    return rest, columns


def _query(schema: pa.Schema, lifts: dict[str, tuple[str, Cut]]) -> str:
    plain = [field for field in schema if field.name not in lifts]
    pointers = ", ".join(quoted("/" + field.name.replace("~", "~0").replace("/", "~1")) for field in plain)
    values = {field.name: typed(f"m[{i}]", field) for i, field in enumerate(plain, start=1)}
    cells = itertools.count()
    for name in lifts:
        field = schema.field(name)
        cell = f"c{next(cells)}"
        values[name] = typed(cell if kind_of(field) is Kind.JSON else f"trim({cell}, '\"')", field)
    listed = ", ".join(values[name] for name in schema.names)
    members = f"json_extract_string(line, [{pointers}])" if plain else "NULL"
    return f"SELECT {listed} FROM (SELECT *, {members} AS m FROM records)"  # noqa: S608 - names are quoted


def _parse(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    lines: Sequence[str],
    lifted: dict[str, list[str | None]],
    schema: pa.Schema,
) -> pa.RecordBatch:
    cells = {f"c{i}": pa.array(map(_text_of_json, values), pa.string()) for i, values in enumerate(lifted.values())}
    records = pa.table({"line": pa.array(lines, pa.string()), **cells})
    allow(connection, records.nbytes, len(schema))
    connection.register("records", records)
    table = connection.sql(query).to_arrow_table().combine_chunks()
    return conformed((column.combine_chunks() for column in table.columns), schema)


def _text_of_json(raw: str | None) -> str | None:
    """Undoes the blank that `json_objects` puts before a JSON null."""
    return raw[1:] if raw is not None and raw[0] == " " and _json_null.fullmatch(raw) else raw
