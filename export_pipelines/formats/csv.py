"""CSV: one table a file, RFC 4180.

UTF-8, comma, CRLF, a header row. NULL is an empty field, the empty string is ``""``; other fields are quoted only
where they must be. In a table of one column a NULL is therefore an empty line, which counts as a row (as it does for
PostgreSQL's COPY). The profile ``excel`` adds a byte order mark and neutralises text that looks like a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.escaping import ESCAPED
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.parsing import BATCH_ROWS, conformed, quoted, reading_session, typed, unreadable
from export_pipelines.formats.rendering import neutralised, text_frame

_BOM = b"\xef\xbb\xbf"
_NEUTRALISED = (Kind.TEXT, Kind.JSON)  # numbers stay numbers, also negative ones
_MAX_LINE_BYTES = 32 * 1024 * 1024


class CsvOptions(BaseModel):
    """What a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    csv_profile: Literal["rfc4180", "excel"] = Field(
        default="rfc4180", description="rfc4180 is faithful; excel adds a byte order mark and disarms formulas."
    )
    headers: Literal["names", "labels"] = Field(default="names", description="Column names or their labels.")


class CsvWriter:
    """Writes one table; see the module for the dialect."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        self._sink = sink
        self._options = CsvOptions.model_validate(dict(options))
        self._excel = self._options.csv_profile == "excel"

    def begin(self, table: TableHead) -> None:
        titles = list(table.schema.names)
        if self._options.headers == "labels":
            titles = _labels(table)
        header = io.StringIO(newline="")
        csv.writer(header, lineterminator="\r\n").writerow(titles)
        self._sink.write((_BOM if self._excel else b"") + header.getvalue().encode())

    def write(self, batch: pa.RecordBatch) -> None:
        frame = text_frame(batch)
        if self._excel:
            frame = frame.with_columns(
                neutralised(pl.col(field.name)) for field in batch.schema if kind_of(field) in _NEUTRALISED
            )
        rows = io.BytesIO()
        frame.write_csv(rows, include_header=False, line_terminator="\r\n", quote_style="necessary")
        self._sink.write(rows.getbuffer())

    def close(self) -> None:
        """Nothing is left to write."""


def _labels(table: TableHead) -> list[str]:
    return [table.labels.get(name, name) for name in table.schema.names]


def read_csv(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file in either profile, by DuckDB.

    Raises `IntegrityViolation` when the header is not the table's or a cell is not of its column's type.
    """
    excel = _check_header(path, head)
    cells = [f"c{i}" for i in range(len(head.schema))]
    columns = ", ".join(f"{cell}: 'VARCHAR'" for cell in cells)
    values = ", ".join(
        typed(_restored(cell) if excel and kind_of(field) in _NEUTRALISED else cell, field)
        for cell, field in zip(cells, head.schema, strict=True)
    )
    # Every choice is made here: a sniffer that looks at a sample is wrong for the rows it has not seen. One thread
    # reads from the start, because a newline inside quotes cannot be told from the end of a row anywhere else.
    query = f"""
        SELECT {values}
        FROM read_csv($1, columns = {{{columns}}}, auto_detect = false, header = true, delim = ',', quote = '"',
                      escape = '"', nullstr = '', allow_quoted_nulls = false, null_padding = false, parallel = false,
                      max_line_size = {_MAX_LINE_BYTES}, buffer_size = {_MAX_LINE_BYTES})
    """  # noqa: S608 - built from positions and types only
    with reading_session() as connection, unreadable(f"{path.name} (table {head.name})"):
        for batch in connection.sql(query, params=[str(path)]).to_arrow_reader(BATCH_ROWS):
            if batch.num_rows:
                yield conformed(batch.columns, head.schema)


def _check_header(path: Path, head: TableHead) -> bool:
    """Whether the file has the profile ``excel``."""
    with path.open("rb") as raw:
        excel = raw.read(len(_BOM)) == _BOM
    with path.open(encoding="utf-8-sig" if excel else "utf-8", newline="") as text:
        titles = next(csv.reader(text), [])
    if titles not in (list(head.schema.names), _labels(head)):
        raise IntegrityViolation(
            f"{path.name} has a header of {len(titles)} columns that is not the one of table {head.name}, "
            f"which has {len(head.schema)}; export again"
        )
    return excel


def _restored(cell: str) -> str:
    return f"regexp_replace({cell}, {quoted(ESCAPED)}, '\\1')"


SPEC = FormatSpec(
    name="csv",
    title="CSV",
    extension="csv",
    media_type="text/csv; charset=utf-8; header=present",
    open=CsvWriter,
    read=read_csv,
    options=CsvOptions,
    written_with="polars",
    read_with="duckdb",
)
