"""XLSX: one workbook, a sheet for each table, further sheets where Excel's limits want them.

Sheets are written while rows arrive; nothing but names is kept until the end. Which form a column has is
`export_pipelines.formats.xlsx.columns`, how a value becomes a cell `export_pipelines.formats.xlsx.cells`, the parts
around the sheets are `export_pipelines.formats.xlsx.parts`, the container is `export_pipelines.archives.zip_stream` and
reading back is `export_pipelines.formats.xlsx.reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Literal

import polars as pl
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.core.columns import positional
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.fidelity import Carriage, Carried, ColumnFacts
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import by_position, frame_of, text_of
from export_pipelines.formats.xlsx.cells import CellRule, cell_rule, facts_of, rows_xml
from export_pipelines.formats.xlsx.columns import EXACT_DIGITS, number_format, settled
from export_pipelines.formats.xlsx.long_texts import LONG_TEXTS, LongTexts
from export_pipelines.formats.xlsx.parts import Sheet, SheetNames, Styles, closing_parts, opening_parts
from export_pipelines.formats.xlsx.reading import read_xlsx
from export_pipelines.formats.xlsx.sheets import MAX_COLUMNS, SheetStream

_SAMPLE_ROWS = 200  # that the widths of columns are taken from
_NARROWEST, _WIDEST = 8, 60  # characters
_MARGIN = 3  # for the filter's button
_TIMES = (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.INSTANT)
_GENERAL_LENGTH = 11  # characters that the format General shows at most


class XlsxOptions(BaseModel):
    """What a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    excel_sheets: bool = Field(default=True, description="A sheet per table; otherwise a workbook per table.")
    headers: Literal["names", "labels"] = Field(default="names", description="Column names or their labels.")
    excel_values: Literal["readable", "exact"] = Field(
        default="readable",
        description="readable gives each column one type, so that it sorts and adds up; exact makes a cell text where "
        "Excel would round it.",
    )


class XlsxWriter:
    """Writes tables one after another; memory is bounded by one batch, long texts wait on disk."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        chosen = XlsxOptions.model_validate(dict(options))
        self._labels, self._readable = chosen.headers == "labels", chosen.excel_values == "readable"
        self._archive = ZipStream(sink)
        self._names = SheetNames()
        self._styles = Styles()
        self._finished: list[Sheet] = []
        self._sheet: SheetStream | None = None
        self._sheet_name = ""
        self._long = LongTexts()
        self._table: TableHead | None = None
        self._schema = pa.schema([])  # of the table, columns named by position: any name may be a pattern to polars
        self._facts: list[ColumnFacts | None] = []
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
        self._schema = positional(table.schema)
        facts = table.facts if self._readable else {}
        self._facts = [facts.get(name) for name in table.schema.names]
        self._rules = [
            cell_rule(field, self._styles.index, known) for field, known in zip(self._schema, self._facts, strict=True)
        ]

    def write(self, batch: pa.RecordBatch) -> None:
        frame = frame_of(by_position(batch))
        while frame.height:
            sheet = self._sheet_with_rows_left(frame)
            rows = frame.head(sheet.rows_left)
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

    def _sheet_with_rows_left(self, sample: pl.DataFrame) -> SheetStream:
        """The current sheet or, where there is none or it is full, the next one."""
        if self._sheet is not None and self._sheet.rows_left == 0:
            self._end_sheet()
        if self._sheet is None:
            titles = self._titles()
            self._widths = self._widths or _widths(titles, self._schema, self._facts, sample)
            entry = self._archive.stream(f"xl/worksheets/sheet{len(self._finished) + 1}.xml")
            self._sheet_name = self._names.claim(self._table.name if self._table else "")
            self._sheet = SheetStream(entry, titles, self._widths)
        return self._sheet

    def _titles(self) -> list[str]:
        if self._table is None:
            raise ValueError("write() before begin(): no table was started")
        table = self._table
        titles = [table.labels.get(name, name) if self._labels else name for name in table.schema.names]
        if not self._readable:
            return titles
        return [
            f"{title} (UTC)" if kind_of(field) is Kind.INSTANT else title
            for title, field in zip(titles, table.schema, strict=True)
        ]

    def _end_table(self) -> None:
        if self._table is not None and self._sheet is None:  # no rows: the header alone
            self._sheet_with_rows_left(frame_of(pa.RecordBatch.from_pylist([], schema=self._schema)))
        self._end_sheet()
        self._table = None

    def _end_sheet(self) -> None:
        if self._sheet is not None and self._table is not None:
            self._sheet.close()
            table = "" if self._table is LONG_TEXTS else self._table.name
            self._finished.append(Sheet(name=self._sheet_name, table=table, area=self._sheet.area))
        self._sheet = None


def _widths(
    titles: Sequence[str], schema: pa.Schema, facts: Sequence[ColumnFacts | None], sample: pl.DataFrame
) -> list[int]:
    """Widths of columns in characters."""
    shown = [_shown_length(field, known) for field, known in zip(schema, facts, strict=True)]
    lengths = sample.head(_SAMPLE_ROWS).select(length.max() for length in shown).row(0)
    return [
        min(max(_NARROWEST, len(title) + _MARGIN, (length or 0) + 1), _WIDEST)
        for title, length in zip(titles, lengths, strict=True)
    ]


def _shown_length(field: pa.Field, facts: ColumnFacts | None) -> pl.Expr:
    """How many characters a spreadsheet shows of each value of a column."""
    text = text_of(field)
    if facts is None or settled(field, facts).carried is Carried.TEXT:
        return text.str.len_chars().alias(field.name)
    code = number_format(field, facts)
    if kind_of(field) in _TIMES:
        return pl.lit(len(code)).alias(field.name)
    if code == "General":
        return text.str.len_chars().clip(upper_bound=_GENERAL_LENGTH).alias(field.name)
    decimals = len(code.partition(".")[2])
    whole = text.str.split_exact(".", 1).struct.field("field_0").str.len_chars()
    return (whole + (decimals + 1 if decimals else 0)).alias(field.name)


_EXACT = Carriage(Carried.EXACT)
_LONG = "beyond 32,767 characters the whole of it is in the sheet `Long texts`"
_ESCAPES = f"control characters are written `_xHHHH_`, which Excel shows as what they are; {_LONG}"
_DIGITS = Carriage(Carried.MIXED, f"a number up to {EXACT_DIGITS} digits, text beyond")
_FINE = "finer than a millisecond"
_IN_ANY_CASE = {
    Kind.TEXT: Carriage(Carried.ESCAPED, _ESCAPES),
    Kind.JSON: Carriage(Carried.ESCAPED, f"JSON text; {_ESCAPES}"),
    Kind.BYTES: Carriage(Carried.TEXT, rf"`\x` and hexadecimal digits; {_LONG}"),
}
_EACH_BY_ITSELF = {
    Kind.NUMERIC: Carriage(Carried.MIXED, f"{_DIGITS.note}; a spreadsheet does not show the zeros at its end"),
    Kind.FLOAT: Carriage(Carried.MIXED, "a number; text for `NaN`, infinities and the least ones below 2.2e-308"),
    Kind.DATE: Carriage(Carried.MIXED, "a date; ISO 8601 text before 1 March 1900"),
    Kind.TIME: Carriage(Carried.MIXED, f"a time; text where it is {_FINE}"),
    Kind.TIMESTAMP: Carriage(Carried.MIXED, f"a date with time; ISO 8601 text before 1 March 1900 or {_FINE}"),
    Kind.INSTANT: Carriage(Carried.MIXED, f"a date with time in UTC; ISO 8601 text before 1 March 1900 or {_FINE}"),
}
_WHOLE_COLUMN = "the whole column is text where a value"
_OPENED = f"the file has every digit, spreadsheets keep {EXACT_DIGITS}"
_MILLISECONDS = "the file has microseconds, spreadsheets keep milliseconds"
_NUMBER = f"a number; {_OPENED}; {_WHOLE_COLUMN} has more than {EXACT_DIGITS} before the point"
_LATE = f"{_WHOLE_COLUMN} is in the last millisecond of the day"
_EARLY = f"{_WHOLE_COLUMN} is before 1 March 1900"
_BY_COLUMN = {
    Kind.INTEGER: Carriage(Carried.MIXED, f"a number; {_WHOLE_COLUMN} has more than {EXACT_DIGITS} digits"),
    Kind.DECIMAL: Carriage(Carried.MIXED, _NUMBER),
    Kind.NUMERIC: Carriage(Carried.MIXED, f"{_NUMBER}, or is no finite number"),
    Kind.FLOAT: Carriage(Carried.MIXED, f"a number; {_WHOLE_COLUMN} is `NaN`, infinite or below 2.2e-308"),
    Kind.DATE: Carriage(Carried.MIXED, f"a date; {_EARLY}"),
    Kind.TIME: Carriage(Carried.MIXED, f"a time; {_MILLISECONDS}; {_LATE}"),
    Kind.TIMESTAMP: Carriage(Carried.MIXED, f"a date with time; {_MILLISECONDS}; {_EARLY}"),
    Kind.INSTANT: Carriage(Carried.MIXED, f"a date with time in UTC; {_MILLISECONDS}; {_EARLY}"),
}


def _carries(field: pa.Field, options: Mapping[str, Any]) -> Carriage:
    kind = kind_of(field)
    if kind in _IN_ANY_CASE:
        return _IN_ANY_CASE[kind]
    if kind in (Kind.INTEGER, Kind.DECIMAL) and not _may_be_long(field):
        return _EXACT
    if XlsxOptions.model_validate(dict(options)).excel_values == "readable":
        return _BY_COLUMN.get(kind, _EXACT)
    return _DIGITS if kind in (Kind.INTEGER, Kind.DECIMAL) else _EACH_BY_ITSELF.get(kind, _EXACT)


def _may_be_long(field: pa.Field) -> bool:
    """Whether an integer or decimal of that type may have more digits than a double keeps."""
    if kind_of(field) is Kind.INTEGER:
        return bool(field.type == pa.int64())
    return bool(field.type.precision > EXACT_DIGITS)


def _undecided(field: pa.Field, options: Mapping[str, Any]) -> bool:
    kind = kind_of(field)
    if kind in (Kind.INTEGER, Kind.DECIMAL) and not _may_be_long(field):
        return False
    return kind in _BY_COLUMN and XlsxOptions.model_validate(dict(options)).excel_values == "readable"


SPEC = FormatSpec(
    name="xlsx",
    title="Excel workbook",
    extension="xlsx",
    media_type="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    open=XlsxWriter,
    read=read_xlsx,
    carries=_carries,
    undecided=_undecided,
    settles=settled,
    aliases=("excel",),
    options=XlsxOptions,
    many_tables=True,
    together_option="excel_sheets",
    compressible=False,
    how_to_open="Open the workbook with Excel or LibreOffice. Each table is a sheet of its own: choose it at the "
    "bottom of the window. The arrows in the first row sort and filter. If the program asks, you may “enable editing”; "
    "save your changes under another name, so that this file stays as it was checked.",
    written_with="polars, isal",
    read_with="zipfile, pyarrow, duckdb",
)
