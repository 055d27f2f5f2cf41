"""JSON: one table a file, an array of objects, each on a line of its own.

With ``json_pretty`` objects are laid out over several lines with two blanks a level. That only ever adds newlines,
blanks after them and one blank after each colon, so taking these away gives the embedded JSON values back unchanged.
The objects are made by `export_pipelines.formats.json_objects` and read by `export_pipelines.formats.json_reading`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.formats.json_objects import carries, key
from export_pipelines.formats.json_reading import CHUNK_BYTES, member_end, rows_of
from export_pipelines.formats.ndjson import line_chunks, record_lines

_SEPARATOR = ",\n"
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_layout_token = re.compile(rf"{_STRING}|[\[{{]\s*[\]}}]|[\[{{,]\s*|[\]}}]|:")
_added_blank = re.compile(rf"({_STRING})|: ")


class JsonOptions(BaseModel):
    """What a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_pretty: bool = Field(default=False, description="Indent for human eyes; slower and larger.")


class JsonWriter:
    """Writes one table; zero rows are ``[]``."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        self._sink = sink
        self._pretty = JsonOptions.model_validate(dict(options)).json_pretty
        self._lead = b"[\n"

    def begin(self, table: TableHead) -> None:
        """A JSON array says nothing of its table."""

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        self._sink.write(self._lead)
        if self._pretty:
            objects = bytes(record_lines(batch, "\n")).decode().removesuffix("\n").split("\n")
            self._sink.write(_SEPARATOR.join("  " + indented(text, 1) for text in objects).encode())
        else:
            self._sink.write(record_lines(batch, _SEPARATOR)[: -len(_SEPARATOR)])
        self._lead = _SEPARATOR.encode()

    def close(self) -> None:
        self._sink.write(b"[]\n" if self._lead == b"[\n" else b"\n]\n")


def indented(value: str, level: int) -> str:
    """JSON text over several lines; every byte of it is kept in order."""
    depth = level

    def lay_out(match: re.Match[str]) -> str:
        nonlocal depth
        text = match.group()
        if text[0] == ":":
            return ": "
        if text[0] == '"' or (text[0] in "[{" and text[-1] in "]}"):
            return text
        if text[0] in "]}":
            depth -= 1
            return "\n" + "  " * depth + text
        depth += text[0] != ","
        return text + "\n" + "  " * depth

    return _layout_token.sub(lay_out, value)


def read_json(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file, without nested ones; raises `IntegrityViolation` when a value is not of its type."""
    yield from rows_of(object_chunks(path), head, path.name)


def read_nested(path: Path, route: tuple[str, ...], head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a nested table of a JSON or NDJSON file, in the order of the file.

    ``route`` names the fields that lead there from the root, for example ``("medical_records", "lab_results")``. One
    record of the root and its descendants are held in memory at a time, with some MB of rows.
    """
    objects: Iterable[str] = (text for lines in object_chunks(path) for text in lines)
    for field in route:
        objects = _children(objects, field, path.name)
    yield from rows_of(_chunked(objects), head, path.name)


def object_chunks(path: Path) -> Iterator[list[str]]:
    """The objects of a JSON array in either layout, or the lines of NDJSON, some MB at a time."""
    pretty: list[str] = []
    for lines in line_chunks(path):
        objects: list[str] = []
        for line in lines:
            if line.startswith("{"):
                objects.append(line.removesuffix(","))
            elif line.startswith("  "):
                pretty.append(line.lstrip(" "))
                if line in ("  }", "  },"):
                    objects.append(_compact(pretty))
                    pretty = []
            elif line not in ("[", "]", "[]", ""):
                raise IntegrityViolation(f"{path.name} has a line that is not a record's; export again")
        yield objects
    if pretty:
        raise IntegrityViolation(f"{path.name} ends inside a record; export again")


def _children(objects: Iterable[str], field: str, source: str) -> Iterator[str]:
    """The texts of the elements of an array that each object has."""
    lead = f",{key(field)}"
    for text in objects:
        found = text.find(lead)
        once = found >= 0 and text.find(lead, found + 1) < 0  # then it is the member, which must be there
        position = found + len(lead) if once else _member(text, field, source)
        position += 1  # after the bracket
        while text[position : position + 1] not in ("]", ""):
            end = member_end(text, position)
            yield text[position:end]
            position = end + (text[end] == ",")


def _member(text: str, name: str, source: str) -> int:
    """Where the value of a member of an object starts, found by walking over the members before it."""
    position = 1
    while text[position : position + 1] not in ("}", ""):
        colon = member_end(text, position)
        if json.loads(text[position:colon]) == name:
            return colon + 1
        end = member_end(text, colon + 1)
        position = end + (text[end] == ",")
    raise IntegrityViolation(f"{source} has a record without its field {name!r}; export again")


def _compact(lines: list[str]) -> str:
    text = "".join(lines).removesuffix(",")
    return _added_blank.sub(lambda match: match[1] or ":", text)


def _chunked(objects: Iterable[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for text in objects:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


SPEC = FormatSpec(
    name="json",
    title="JSON",
    extension="json",
    media_type="application/json",
    open=JsonWriter,
    read=read_json,
    carries=carries,
    read_nested=read_nested,
    options=JsonOptions,
    nests=True,
    read_ahead=False,
    plain_text=True,
    how_to_open="JSON files are meant for programs. A browser or a text editor shows what is in them; to work with the "
    "data in a spreadsheet, ask for the export as an Excel workbook.",
    written_with="polars",
    read_with="duckdb",
)
