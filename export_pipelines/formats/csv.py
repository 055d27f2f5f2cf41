"""CSV: one table a file, RFC 4180.

UTF-8, comma, CRLF, a header row. NULL is an empty field, the empty string is ``""``; other fields are quoted only
where they must be. In a table of one column a NULL is therefore an empty line, which counts as a row (as it does for
PostgreSQL's COPY, which has no other spelling of it; some readers skip it unless asked not to). The profile ``excel``
adds a byte order mark and neutralises text that looks like a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any, BinaryIO, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.core.escaping import neutralise
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.csv_reading import BOM, NEUTRALISED, labels_of, read_csv
from export_pipelines.formats.rendering import neutralised, text_frame

_EXACT = Carriage(Carried.EXACT)
_TEXTUAL = {
    Kind.JSON: Carriage(Carried.TEXT, "JSON text"),
    Kind.BYTES: Carriage(Carried.TEXT, r"`\x` and hexadecimal digits"),
}
_END_OF_DATA = "\\."  # on a line of its own; of PostgreSQL's COPY before 18, and of psql before 18 anywhere
_DISARMED = "an apostrophe is put before what a spreadsheet could take for a formula"


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
            titles = labels_of(table)
        if self._excel:
            titles = [neutralise(title) for title in titles]
        header = io.StringIO(newline="")
        alone = titles == [_END_OF_DATA]
        csv.writer(header, lineterminator="\r\n", quoting=csv.QUOTE_ALL if alone else csv.QUOTE_MINIMAL).writerow(
            titles
        )
        self._sink.write((BOM if self._excel else b"") + header.getvalue().encode())

    def write(self, batch: pa.RecordBatch) -> None:
        frame = text_frame(batch)
        if self._excel:
            frame = frame.with_columns(
                neutralised(pl.col(name))
                for name, field in zip(frame.columns, batch.schema, strict=True)
                if kind_of(field) in NEUTRALISED
            )
        rows = io.BytesIO()
        style: Literal["necessary", "never"] = "necessary"
        if frame.width == 1:
            frame, style = frame.select(_alone(pl.first())), "never"
        frame.write_csv(rows, include_header=False, line_terminator="\r\n", quote_style=style)
        self._sink.write(rows.getbuffer())

    def close(self) -> None:
        """Nothing is left to write."""


def _alone(text: pl.Expr) -> pl.Expr:
    r"""The field of a row that has no other: ``\.`` is quoted too, which PostgreSQL takes for the end of the file."""
    plain = (text != "") & (text != _END_OF_DATA) & ~text.str.contains('[",\r\n]')
    quoted = pl.lit('"') + text.str.replace_all('"', '""', literal=True) + pl.lit('"')
    return pl.when(text.is_null()).then(pl.lit("")).when(plain).then(text).otherwise(quoted).alias("field")


def _carries(field: pa.Field, options: Mapping[str, Any]) -> Carriage:
    """CSV has no types: exact is what is plainly spelled, as the package's datapackage.json types it."""
    kind = kind_of(field)
    if CsvOptions.model_validate(dict(options)).csv_profile == "excel" and kind in NEUTRALISED:
        return Carriage(Carried.ESCAPED, f"JSON text; {_DISARMED}" if kind is Kind.JSON else _DISARMED)
    return _TEXTUAL.get(kind, _EXACT)


SPEC = FormatSpec(
    name="csv",
    title="CSV",
    extension="csv",
    media_type="text/csv; charset=utf-8; header=present",
    open=CsvWriter,
    read=read_csv,
    carries=_carries,
    options=CsvOptions,
    plain_text=True,
    joinable=True,
    how_to_open="CSV files are plain tables. Do not open them with a double click: Excel then changes long numbers, "
    "dates and leading zeros without a word. In Excel, choose Data > From Text/CSV, the file origin “65001: Unicode "
    "(UTF-8)” and “Do not detect data types”. LibreOffice asks when it opens the file: choose Unicode (UTF-8) and the "
    "comma, and set the type of all columns to Text.",
    written_with="polars",
    read_with="pyarrow",
)
