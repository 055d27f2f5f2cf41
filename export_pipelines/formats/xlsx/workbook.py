"""XLSX: one workbook, a sheet for each table, further sheets where Excel's limits want them.

Sheets are written while rows arrive; nothing but names is kept until the end. How a value becomes a cell is
`export_pipelines.formats.xlsx.cells`, the parts around the sheets are `export_pipelines.formats.xlsx.parts`, the
container is `export_pipelines.archives.zip_stream` and reading back is `export_pipelines.formats.xlsx.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import frame_of, text_of
from export_pipelines.formats.xlsx.cells import EXACT_DIGITS, CellRule, cell_rule, facts_of, rows_xml
from export_pipelines.formats.xlsx.long_texts import LONG_TEXTS, LongTexts
from export_pipelines.formats.xlsx.parts import Sheet, SheetNames, Styles, closing_parts, opening_parts
from export_pipelines.formats.xlsx.reading import read_xlsx
from export_pipelines.formats.xlsx.sheets import MAX_COLUMNS, SheetStream

_SAMPLE_ROWS = 200  # that the widths of columns are taken from
_NARROWEST, _WIDEST = 8, 60  # characters
_MARGIN = 3  # for the filter's button


class XlsxOptions(BaseModel):
    """What a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    excel_sheets: bool = Field(default=True, description="A sheet per table; otherwise a workbook per table.")
    headers: Literal["names", "labels"] = Field(default="names", description="Column names or their labels.")


class XlsxWriter:
    """Writes tables one after another; memory is bounded by one batch, long texts wait on disk."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        self._labels = XlsxOptions.model_validate(dict(options)).headers == "labels"
        self._archive = ZipStream(sink)
        self._names = SheetNames()
        self._styles = Styles()
        self._finished: list[Sheet] = []
        self._sheet: SheetStream | None = None
        self._sheet_name = ""
        self._long = LongTexts()
        self._table: TableHead | None = None
        self._schema = pa.schema([])  # of the table, columns named by position: any name may be a pattern to polars
        self._rules: list[CellRule] = []
        self._widths: list[int] = []
        for name, part in opening_parts().items():
            self._archive.add(name, part)

    def begin(self, table: TableHead) -> None:
        """Raises `RequestRejected` when a table has more columns than a sheet."""
        if len(table.schema) > MAX_COLUMNS:
            raise RequestRejected(
                f"{len(table.schema)} columns do not fit in a sheet, which holds {MAX_COLUMNS}; select fewer or "
                "choose csv or parquet",
                field=table.name,
            )
        self._end_table()
        self._table, self._widths = table, []
        self._schema = pa.schema([field.with_name(f"c{i}") for i, field in enumerate(table.schema)])
        self._rules = [cell_rule(field, self._styles.index) for field in self._schema]

    def write(self, batch: pa.RecordBatch) -> None:
        frame = frame_of(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        while frame.height:
            sheet = self._sheet_with_room(frame)
            rows = frame.head(sheet.room_rows)
            facts, first_row = facts_of(rows, self._rules), sheet.rows + 1
            self._long.gather(rows, self._rules, facts, sheet=self._sheet_name, first_row=first_row)
            sheet.write(rows_xml(rows, self._rules, facts, first_row))
            frame = frame.slice(rows.height)

    def close(self) -> None:
        for number, batch in enumerate(self._long.batches()):
            if number == 0:
                self.begin(LONG_TEXTS)
            self.write(batch)
        self._end_table()
        if not self._finished:
            raise ValueError("close() before begin(): a workbook needs at least one sheet")
        for name, part in closing_parts(self._finished, self._styles).items():
            self._archive.add(name, part)
        self._archive.close()

    def _sheet_with_room(self, sample: pl.DataFrame) -> SheetStream:
        """The current sheet or, where there is none or it is full, the next one."""
        if self._sheet is not None and self._sheet.room_rows == 0:
            self._end_sheet()
        if self._sheet is None:
            titles = self._titles()
            self._widths = self._widths or _widths(titles, self._schema, sample)
            entry = self._archive.stream(f"xl/worksheets/sheet{len(self._finished) + 1}.xml")
            self._sheet_name = self._names.claim(self._table.name if self._table else "")
            self._sheet = SheetStream(entry, titles, self._widths)
        return self._sheet

    def _titles(self) -> list[str]:
        if self._table is None:
            raise ValueError("write() before begin(): no table was started")
        names = self._table.schema.names
        return [self._table.labels.get(name, name) for name in names] if self._labels else list(names)

    def _end_table(self) -> None:
        if self._table is not None and self._sheet is None:  # no rows: the header alone
            self._sheet_with_room(frame_of(pa.RecordBatch.from_pylist([], schema=self._schema)))
        self._end_sheet()
        self._table = None

    def _end_sheet(self) -> None:
        if self._sheet is not None and self._table is not None:
            self._sheet.close()
            table = "" if self._table is LONG_TEXTS else self._table.name
            self._finished.append(Sheet(name=self._sheet_name, table=table, area=self._sheet.area))
        self._sheet = None


def _widths(titles: Sequence[str], schema: pa.Schema, sample: pl.DataFrame) -> list[int]:
    """Widths of columns in characters."""
    lengths = sample.head(_SAMPLE_ROWS).select(text_of(field).str.len_chars().max() for field in schema).row(0)
    return [
        min(max(_NARROWEST, len(title) + _MARGIN, (length or 0) + 1), _WIDEST)
        for title, length in zip(titles, lengths, strict=True)
    ]


_EXACT = Carriage(Carried.EXACT)
_DIGITS = Carriage(Carried.MIXED, f"a number up to {EXACT_DIGITS} digits, text beyond")
_LONG = "beyond 32,767 characters the whole of it is in the sheet `Long texts`"
_ESCAPES = f"control characters are written `_xHHHH_`, which Excel shows as what they are; {_LONG}"
_FINE = "finer than a millisecond"
_CARRIED = {
    Kind.NUMERIC: Carriage(Carried.MIXED, f"{_DIGITS.note}; a spreadsheet does not show the zeros at its end"),
    Kind.FLOAT: Carriage(Carried.MIXED, "a number; text for `NaN`, infinities and the least ones below 2.2e-308"),
    Kind.TEXT: Carriage(Carried.ESCAPED, _ESCAPES),
    Kind.JSON: Carriage(Carried.ESCAPED, f"JSON text; {_ESCAPES}"),
    Kind.DATE: Carriage(Carried.MIXED, "a date; ISO 8601 text before 1 March 1900"),
    Kind.TIME: Carriage(Carried.MIXED, f"a time; text where it is {_FINE}"),
    Kind.TIMESTAMP: Carriage(Carried.MIXED, f"a date with time; ISO 8601 text before 1 March 1900 or {_FINE}"),
    Kind.INSTANT: Carriage(Carried.MIXED, f"a date with time in UTC; ISO 8601 text before 1 March 1900 or {_FINE}"),
    Kind.BYTES: Carriage(Carried.TEXT, rf"`\x` and hexadecimal digits; {_LONG}"),
}


def _carries(field: pa.Field, _options: Mapping[str, Any]) -> Carriage:
    kind = kind_of(field)
    long = field.type == pa.int64() if kind is Kind.INTEGER else False
    if kind is Kind.DECIMAL:
        long = field.type.precision > EXACT_DIGITS
    return _DIGITS if long else _CARRIED.get(kind, _EXACT)


SPEC = FormatSpec(
    name="xlsx",
    title="Excel workbook",
    extension="xlsx",
    media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    open=XlsxWriter,
    read=read_xlsx,
    carries=_carries,
    aliases=("excel",),
    options=XlsxOptions,
    many_tables=True,
    together_option="excel_sheets",
    compressible=False,
    written_with="polars, isal",
    read_with="zipfile, pyarrow, duckdb",
)
