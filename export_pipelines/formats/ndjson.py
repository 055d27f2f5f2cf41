"""NDJSON: one table a file, one JSON object a line.

The objects are made by `export_pipelines.formats.json_objects` and read by `export_pipelines.formats.json_reading`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.formats.json_objects import carries, object_text
from export_pipelines.formats.json_reading import CHUNK_BYTES, rows_of
from export_pipelines.formats.rendering import by_position, frame_of


class NdjsonOptions(BaseModel):
    """There is nothing to choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NdjsonWriter:
    """Writes one table; zero rows are an empty file."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        NdjsonOptions.model_validate(dict(options))
        self._sink = sink

    def begin(self, table: TableHead) -> None:
        """An NDJSON file has no header."""

    def write(self, batch: pa.RecordBatch) -> None:
        self._sink.write(record_lines(batch, "\n"))

    def close(self) -> None:
        """Nothing is left to write."""


def record_lines(batch: pa.RecordBatch, terminator: str) -> memoryview:
    """The rows as JSON objects, each followed by ``terminator``."""
    lines = io.BytesIO()
    objects = frame_of(by_position(batch)).select(object_text(batch.schema))
    objects.write_csv(lines, include_header=False, quote_style="never", line_terminator=terminator)
    return lines.getbuffer()


def line_chunks(path: Path) -> Iterator[list[str]]:
    """The lines of a file without their newline, some MB at a time; a longer line comes alone."""
    with path.open("rb") as file:
        while lines := file.readlines(CHUNK_BYTES):
            yield b"".join(lines).decode().removesuffix("\n").split("\n")


def read_ndjson(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file; raises `IntegrityViolation` when a value is not of its column's type."""
    yield from rows_of(line_chunks(path), head, path.name)


SPEC = FormatSpec(
    name="ndjson",
    title="NDJSON (one JSON object a line)",
    extension="ndjson",
    media_type="application/x-ndjson",
    open=NdjsonWriter,
    read=read_ndjson,
    carries=carries,
    aliases=("jsonl",),
    options=NdjsonOptions,
    read_ahead=False,
    plain_text=True,
    joinable=True,
    how_to_open="NDJSON files are meant for programs: each line is one record. A text editor shows what is in them; to "
    "work with the data in a spreadsheet, ask for the export as an Excel workbook.",
    written_with="polars",
    read_with="duckdb",
)
