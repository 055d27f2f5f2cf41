"""XLSX: what other programs find in the workbooks, and what our reader refuses."""

# ruff: noqa: DTZ001 - a timestamp without a zone is a type of its own

from __future__ import annotations

import datetime as dt
import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree
from openpyxl.utils.escape import unescape
from python_calamine import CalamineWorkbook

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.fidelity import Carried
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, field_of
from export_pipelines.formats import xlsx
from export_pipelines.formats.column_facts import column_facts
from export_pipelines.formats.xlsx import reading, sheets
from export_pipelines.formats.xlsx.columns import settled
from export_pipelines.formats.xlsx.cutting import Malformed, cell_contents
from export_pipelines.formats.xlsx.parts import SheetNames

UTC = dt.UTC
Tables = Mapping[str, tuple[Mapping[str, str], Mapping[str, Sequence[Any]]]]


def head_of(name: str, types: Mapping[str, str], /, **labels: str) -> TableHead:
    return TableHead(name=name, schema=pa.schema([field_of(*item) for item in types.items()]), labels=labels)


def workbook(path: Path, tables: Tables, **options: Any) -> Path:
    """Writes tables given as (types, columns)."""
    with path.open("wb") as sink:
        writer = xlsx.SPEC.open(sink, options)
        for name, (types, columns) in tables.items():
            head = head_of(name, types)
            writer.begin(head)
            writer.write(pa.RecordBatch.from_pydict(dict(columns), schema=head.schema))
        writer.close()
    return path


def one_column(path: Path, pg_type: str, values: Sequence[Any], **options: Any) -> Path:
    return workbook(path, {"things": ({"value": pg_type}, {"value": values})}, **options)


def settled_column(path: Path, pg_type: str, values: Sequence[Any]) -> Path:
    """A column as exports write it: its form chosen for all of its values."""
    head = head_of("things", {"value": pg_type})
    batches = [pa.RecordBatch.from_pydict({"value": [value]}, schema=head.schema) for value in values]
    with path.open("wb") as sink:
        writer = xlsx.SPEC.open(sink, {})
        writer.begin(replace(head, facts=column_facts(batches, head.schema)))
        for batch in batches:
            writer.write(batch)
        writer.close()
    assert [row["value"] for batch in xlsx.SPEC.read(path, head) for row in batch.to_pylist()] == list(values)
    return path


def cells(path: Path) -> list[Any]:
    """openpyxl's cells of the first column, without the header."""
    return [row[0] for row in openpyxl.load_workbook(path).worksheets[0].iter_rows(min_row=2)]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return tmp_path / "book.xlsx"


@pytest.mark.parametrize(
    ("pg_type", "value", "expected"),
    [
        ("boolean", True, True),
        ("bigint", 999_999_999_999_999, 999_999_999_999_999),
        ("bigint", -999_999_999_999_999, -999_999_999_999_999),
        ("bigint", 10**15, "1000000000000000"),
        ("bigint", 2**60, "1152921504606846976"),
        ("bigint", -(2**63), "-9223372036854775808"),
        ("numeric(12,2)", Decimal("1234.50"), 1234.5),
        ("numeric(12,2)", Decimal("-0.01"), -0.01),
        ("numeric(38,10)", Decimal("12345.0000000001"), 12345.0000000001),
        ("numeric(38,10)", Decimal("1234567890123.4567890123"), "1234567890123.4567890123"),
        ("numeric", "0.10", 0.1),
        ("numeric", "NaN", "NaN"),
        ("numeric", "-Infinity", "-Infinity"),
        ("numeric", "1" * 16, "1" * 16),
        ("numeric", "0." + "0" * 400 + "1", "0." + "0" * 400 + "1"),
        ("double precision", 0.1 + 0.2, 0.30000000000000004),
        ("double precision", 1.7976931348623157e308, 1.7976931348623157e308),
        ("double precision", 5e-324, "5e-324"),
        ("double precision", math.nan, "NaN"),
        ("double precision", -math.inf, "-Infinity"),
        ("real", 1e-45, 1e-45),
        ("date", dt.date(1900, 3, 1), dt.datetime(1900, 3, 1)),
        ("date", dt.date(9999, 12, 31), dt.datetime(9999, 12, 31)),
        ("date", dt.date(1900, 2, 28), "1900-02-28"),
        ("date", dt.date(1, 1, 1), "0001-01-01"),
        ("timestamp", dt.datetime(2024, 2, 29, 23, 59, 59), dt.datetime(2024, 2, 29, 23, 59, 59)),
        ("timestamp", dt.datetime(9999, 12, 31, 23, 59, 59, 999000), dt.datetime(9999, 12, 31, 23, 59, 59, 999000)),
        ("timestamp", dt.datetime(2024, 2, 29, 12, 0, 0, 123456), "2024-02-29T12:00:00.123456"),
        ("timestamp", dt.datetime(1899, 12, 31), "1899-12-31T00:00:00.000000"),
        ("timestamptz", dt.datetime(2024, 3, 31, 1, 30, 0, 7000, tzinfo=UTC), dt.datetime(2024, 3, 31, 1, 30, 0, 7000)),
        ("timestamptz", dt.datetime(2024, 3, 31, 1, 30, 0, 1, tzinfo=UTC), "2024-03-31T01:30:00.000001Z"),
        ("time", dt.time(13, 14, 15), dt.time(13, 14, 15)),
        ("time", dt.time(23, 59, 59, 999999), "23:59:59.999999"),
        ("bytea", b"\xde\xad", "\\xdead"),
        ("jsonb", '{"a": 1}', '{"a": 1}'),
        ("uuid", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000000"),
        ("text", "007", "007"),
        ("text", "2024-01-31", "2024-01-31"),
        ("text", "TRUE", "TRUE"),
    ],
)
def test_a_cell_is_typed_only_where_nothing_is_lost(book: Path, pg_type: str, value: Any, expected: Any) -> None:
    [cell] = cells(one_column(book, pg_type, [value], excel_values="exact"))
    assert cell.value == pytest.approx(expected, rel=1e-6) if pg_type == "real" else cell.value == expected
    assert isinstance(cell.value, type(expected))


@pytest.mark.parametrize(
    ("pg_type", "value", "number_format"),
    [
        ("bigint", 123_456_789_012, "0"),
        ("numeric(12,2)", Decimal("1.50"), "0.00"),
        ("numeric(12,0)", Decimal(1), "0"),
        ("double precision", 1.5, "General"),
        ("date", dt.date(2024, 1, 31), "yyyy-mm-dd"),
        ("timestamp", dt.datetime(2024, 1, 31, 12), "yyyy-mm-dd hh:mm:ss"),
        ("timestamp", dt.datetime(2024, 1, 31, 12, 0, 0, 5000), "yyyy-mm-dd hh:mm:ss.000"),
        ("timestamptz", dt.datetime(2024, 1, 31, 12, tzinfo=UTC), 'yyyy-mm-dd hh:mm:ss"Z"'),
        ("time", dt.time(12), "hh:mm:ss"),
    ],
)
def test_numbers_show_all_that_they_hold(book: Path, pg_type: str, value: Any, number_format: str) -> None:
    [cell] = cells(one_column(book, pg_type, [value]))
    assert cell.number_format == number_format


NOON, FINE = dt.datetime(2024, 1, 31, 12), dt.datetime(2024, 1, 31, 12, 0, 0, 123_456)


@pytest.mark.parametrize(
    ("pg_type", "values", "number_format"),
    [
        ("bigint", [7, 123_456_789_012, -1], "0"),
        ("numeric(12,2)", [Decimal("1.50"), Decimal("-0.01")], "0.00"),
        ("numeric(38,10)", [Decimal("1.5"), Decimal("1234567890.1234567891")], "0.0000000000"),
        ("numeric", ["1136.4500000000000000", "12.0000000000000000", "-3"], "0.00"),
        ("numeric", ["0.33333333333333333333", "1136.4500000000000000"], "0.00"),
        ("numeric", ["0.33333333333333333333", "1.5000000000000000"], "0.0000"),
        ("numeric", ["0.00000033333333333333", "0.5"], "General"),
        ("numeric", ["4711", "12"], "0"),
        ("double precision", [1.5, 0.1 + 0.2], "General"),
        ("date", [dt.date(1900, 3, 1), dt.date(9999, 12, 31)], "yyyy-mm-dd"),
        ("timestamp", [NOON, FINE, dt.datetime(2024, 1, 31, 12, 0, 0, 5000)], "yyyy-mm-dd hh:mm:ss"),
        ("timestamp", [dt.datetime(9999, 12, 31, 23, 59, 59, 999_000)], "yyyy-mm-dd hh:mm:ss"),
        ("timestamptz", [NOON.replace(tzinfo=UTC), FINE.replace(tzinfo=UTC)], "yyyy-mm-dd hh:mm:ss"),
        ("time", [dt.time(0), dt.time(0, 0, 0, 1), dt.time(12), dt.time(23, 59, 59, 999_499)], "hh:mm:ss"),
    ],
)
def test_a_column_of_numbers_or_times_has_one_type_and_one_format(
    book: Path, pg_type: str, values: list[Any], number_format: str
) -> None:
    found = cells(settled_column(book, pg_type, values))
    assert {(cell.data_type in "nd", cell.number_format) for cell in found} == {(True, number_format)}
    for cell, value in zip(found, values, strict=True):
        if pg_type in ("time", "timestamp", "timestamptz"):  # openpyxl knows milliseconds
            assert cell.is_date
            since, there = (_micros(moment) for moment in (value, cell.value))
            assert abs(since - there) <= 1_000
        elif pg_type == "date":
            assert cell.value.date() == value
        else:
            assert cell.value == float(value)


def _micros(moment: dt.datetime | dt.time) -> int:
    plain = moment if isinstance(moment, dt.datetime) else dt.datetime.combine(dt.date(2000, 1, 1), moment)
    return (plain.replace(tzinfo=None) - dt.datetime(2000, 1, 1)) // dt.timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("pg_type", "values", "reason"),
    [
        ("bigint", [7, 10**15], "more than 15 digits"),
        ("bigint", [7, -(2**63)], "more than 15 digits"),
        ("numeric(38,10)", [Decimal(1), Decimal(10**15)], "15 digits before the point"),
        ("numeric", ["1.5", "NaN"], "no finite number"),
        ("numeric", ["1.5", "-Infinity"], "no finite number"),
        ("numeric", ["1.5", "1" * 16], "15 digits before the point"),
        ("numeric", ["1.5", "0." + "0" * 100 + "1"], "100 decimals"),
        ("double precision", [1.5, math.inf], "no finite number"),
        ("double precision", [1.5, 5e-324], "below 2.2e-308"),
        ("date", [dt.date(2024, 1, 31), dt.date(1900, 2, 28)], "before 1 March 1900"),
        ("timestamp", [NOON, dt.datetime(1, 1, 1)], "before 1 March 1900"),
        ("timestamp", [NOON, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)], "year 9999"),
        ("time", [dt.time(12), dt.time(23, 59, 59, 999_999)], "last millisecond of the day"),
        ("timestamptz", [NOON.replace(tzinfo=UTC), dt.datetime(1899, 1, 1, tzinfo=UTC)], "before 1 March 1900"),
    ],
)
def test_one_value_that_excel_cannot_hold_makes_its_whole_column_text(
    book: Path, pg_type: str, values: list[Any], reason: str
) -> None:
    head = head_of("things", {"value": pg_type})
    found = cells(settled_column(book, pg_type, values))
    assert {cell.data_type in ("s", "inlineStr") for cell in found} == {True}
    facts = column_facts([pa.RecordBatch.from_pydict({"value": values}, schema=head.schema)], head.schema)
    carriage = settled(head.schema.field(0), facts["value"])
    assert carriage.carried is Carried.TEXT
    assert reason in carriage.note


@pytest.mark.parametrize(
    ("pg_type", "value", "kept"),
    [
        ("numeric", "0.33333333333333333333", "spreadsheets keep 15"),
        ("numeric(38,10)", Decimal("123456789012.1234567891"), "spreadsheets keep 15"),
        ("timestamp", FINE, "spreadsheets keep milliseconds"),
        ("timestamptz", FINE.replace(tzinfo=UTC), "spreadsheets keep milliseconds"),
        ("time", dt.time(0, 0, 0, 1), "spreadsheets keep milliseconds"),
    ],
)
def test_what_a_spreadsheet_rounds_is_said_and_the_file_has_all_of_it(
    book: Path, pg_type: str, value: Any, kept: str
) -> None:
    head = head_of("things", {"value": pg_type})
    facts = column_facts([pa.RecordBatch.from_pydict({"value": [value]}, schema=head.schema)], head.schema)
    carriage = settled(head.schema.field(0), facts["value"])
    assert carriage.carried is Carried.ROUNDED_WHEN_OPENED
    assert kept in carriage.note
    settled_column(book, pg_type, [value])  # which reads it back, exactly


@pytest.mark.parametrize(
    ("pg_type", "first", "second"),
    [
        ("timestamp", dt.datetime(9999, 12, 31, 12, 0, 0, 1), dt.datetime(9999, 12, 31, 12, 0, 0, 2)),
        ("timestamp", dt.datetime(1900, 3, 1), dt.datetime(1900, 3, 1, 0, 0, 0, 1)),
        ("numeric", "1.0000000000000000000001", "1.0000000000000000000002"),
        ("numeric", "1.50", "1.500"),
    ],
)
def test_values_that_a_spreadsheet_takes_for_one_differ_in_the_file(
    book: Path, pg_type: str, first: Any, second: Any
) -> None:
    settled_column(book, pg_type, [first, second])


@given(st.datetimes(dt.datetime(1900, 3, 1), dt.datetime(9999, 12, 31, 23, 59, 59, 999_499)))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_microsecond_is_told_from_its_neighbours(book: Path, moment: dt.datetime) -> None:
    settled_column(book, "timestamp", [moment, moment.replace(microsecond=0)])


def test_the_header_says_that_instants_are_utc(book: Path) -> None:
    types = {"id": "bigint", "at": "timestamptz", "local": "timestamp"}
    columns = {"id": [1], "at": [NOON.replace(tzinfo=UTC)], "local": [NOON]}
    for options, title in (({}, "at (UTC)"), ({"excel_values": "exact"}, "at")):
        workbook(book, {"things": (types, columns)}, **options)
        assert [cell.value for cell in openpyxl.load_workbook(book).worksheets[0][1]] == ["id", title, "local"]
        assert sum(batch.num_rows for batch in xlsx.SPEC.read(book, head_of("things", types))) == 1


HOSTILE = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "'quoted", "<a>&amp;</a>", "]]>", "&#65;", "a&b", '"'),
    *("  lead", "trail  ", "a\nb", "a\r\nb", "\r", "\t", "\x01", "\x1f", "\ufffe", "\uffff", "\x7f", "\u2028"),
    *(
        "_x0041_",
        "_x0041_x0042_",
        "_x005F_x000D_",
        "_X0041_",
        "_x_x0041_",
        "_xzzzz_",
        "x" * 32_767,
        "🐕‍🦺",
        "\U0010ffff",
    ),
]


def test_hostile_texts_reach_other_readers_unchanged_and_never_as_formulas(book: Path) -> None:
    found = cells(one_column(book, "text", HOSTILE))
    # openpyxl leaves ST_Xstring escapes in inline strings to its caller.
    assert [unescape(cell.value) for cell in found] == HOSTILE
    assert {cell.data_type for cell in found} <= {"s", "inlineStr"}


def test_two_libraries_read_the_same_table(book: Path) -> None:
    columns: dict[str, tuple[str, list[Any]]] = {
        "id": ("bigint", [1, 2**60, None]),
        "price": ("numeric(12,2)", [Decimal("1.10"), None, Decimal("-5.00")]),
        "paid": ("boolean", [True, None, False]),
        "name": ("text", ["<Rex> & co", "=1+1", "  blanks  "]),
        "seen_at": ("timestamp", [dt.datetime(2024, 1, 31, 12, 0, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 1), None]),
    }
    types = {name: pg_type for name, (pg_type, _) in columns.items()}
    workbook(book, {"pets": (types, {name: values for name, (_, values) in columns.items()})})
    by_openpyxl = [list(row) for row in openpyxl.load_workbook(book).worksheets[0].iter_rows(values_only=True)]
    by_calamine = CalamineWorkbook.from_path(book).get_sheet_by_index(0).to_python()
    assert by_openpyxl == [[None if value == "" else value for value in row] for row in by_calamine]
    assert by_openpyxl[1:] == [
        [1, 1.1, True, "<Rex> & co", dt.datetime(2024, 1, 31, 12, 0, 1)],
        [str(2**60), None, None, "=1+1", "2024-01-01T00:00:00.000001"],
        [None, -5, False, "  blanks  ", None],
    ]


def test_null_has_no_cell_and_the_empty_text_has_one(book: Path) -> None:
    one_column(book, "text", ["", None])
    with zipfile.ZipFile(book) as archive:
        sheet = etree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
    references = [cell.get("r") for cell in sheet.iter("{*}c")]
    assert references == ["A1", "A2"]


LONG = {"one unit each": "x" * 32_768, "two units each": "🐕" * 16_384, "escapes": "_x0041_\x01\r\n" * 9_000}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("pg_type", ["text", "jsonb"])
def test_a_text_longer_than_a_cell_is_whole_in_a_sheet_of_its_own(book: Path, pg_type: str, text: str) -> None:
    one_column(book, pg_type, ["short", text, None, text[1:]])
    things, long = openpyxl.load_workbook(book).worksheets
    assert long.title == "Long texts"
    assert unescape(things["A3"].value) == text[:16_000] + ' … [the whole text is in the sheet "Long texts"]'
    header, *parts = long.iter_rows(values_only=True)
    assert header == ("sheet", "cell", "part", "text")
    assert [part[:2] for part in parts if part[2] == 1] == [("things", "A3")] + [("things", "A5")] * (len(parts) > 3)
    assert "".join(unescape(part) for _, cell, _, part in parts if cell == "A3") == text
    written = [unescape(part) for *_, part in parts] + [unescape(things["A3"].value)]
    assert max(len(part.encode("utf-16-le")) // 2 for part in written) <= 32_767


def test_long_texts_of_several_tables_and_sheets_find_their_cells(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_ROWS", 4)
    texts = [f"{number} " + "é" * 40_000 if number % 2 else f"{number}" for number in range(9)]
    types = {"id": "bigint", "note": "text", "json": "json"}
    columns = {"id": list(range(9)), "note": texts, "json": [f'"{text}"' for text in reversed(texts)]}
    tables = dict.fromkeys(("first", "second"), (types, columns))
    workbook(book, tables)
    assert openpyxl.load_workbook(book).sheetnames[-1].startswith("Long texts (")
    for name in tables:
        read = pa.Table.from_batches(list(xlsx.SPEC.read(book, head_of(name, types))))
        assert read.to_pydict() == columns


def test_long_texts_are_read_a_few_at_a_time(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CHUNK_BYTES", 1 << 16)
    texts = [f"{number} " + "x" * 100_000 for number in range(6)]
    one_column(book, "text", texts)
    batches = list(xlsx.SPEC.read(book, head_of("things", {"value": "text"})))
    assert [text for batch in batches for text in batch["value"].to_pylist()] == texts
    assert max(batch.num_rows for batch in batches) == 1


@pytest.mark.parametrize(
    ("part", "old", "reason"),
    [
        ("xl/worksheets/sheet1.xml", "0 xxxx", "a cell is not the beginning of its long text"),
        ("xl/worksheets/sheet2.xml", "0 xxxx", "a cell is not the beginning of its long text"),
        ("xl/worksheets/sheet2.xml", ">A2<", "a long text has no place"),
    ],
)
def test_a_long_text_that_is_not_the_cells_is_refused(
    tmp_path: Path, book: Path, part: str, old: str, reason: str
) -> None:
    one_column(book, "text", ["0 " + "x" * 40_000])
    forged = tmp_path / "forged.xlsx"
    with zipfile.ZipFile(book) as archive, zipfile.ZipFile(forged, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            if name == part:
                assert old.encode() in content
                content = content.replace(old.encode(), old.replace("x", "y").replace("A2", "2A").encode(), 1)
            target.writestr(name, content)
    with pytest.raises(IntegrityViolation, match=reason):
        list(xlsx.SPEC.read(forged, head_of("things", {"value": "text"})))


def test_the_header_is_bold_frozen_and_filtered(book: Path) -> None:
    workbook(book, {"pets": ({"id": "bigint", "name": "text"}, {"id": [1, 2], "name": ["a", "b"]})})
    sheet = openpyxl.load_workbook(book).worksheets[0]
    assert [cell.font.bold for cell in sheet[1]] == [True, True]
    assert not sheet["A2"].font.bold
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == "A1:B3"


def test_labels_head_the_columns_when_asked(book: Path) -> None:
    head = head_of("pets", {"id": "bigint", "name": "text"}, name="Name & <title>")
    with book.open("wb") as sink:
        writer = xlsx.SPEC.open(sink, {"headers": "labels"})
        writer.begin(head)
        writer.close()
    assert [cell.value for cell in openpyxl.load_workbook(book).worksheets[0][1]] == ["id", "Name & <title>"]
    assert list(xlsx.SPEC.read(book, head)) == []


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["pets", "PETS"], ["pets", "PETS (2)"]),
        (["a" * 40, "a" * 41], ["a" * 31, "a" * 27 + " (2)"]),
        (["[a]:b*c?d/e\\f"], ["_a__b_c_d_e_f"]),
        (["history"], ["history_"]),
        (["''"], ["sheet"]),
        (["🐕" * 20], ["🐕" * 15]),
    ],
)
def test_sheet_names_suit_excel(wanted: list[str], names: list[str]) -> None:
    claimed = SheetNames()
    assert [claimed.claim(name) for name in wanted] == names


def test_tables_whose_sheets_had_to_be_renamed_are_still_found(book: Path) -> None:
    names = ["t" * 40 + "_a", "t" * 40 + "_b"]
    workbook(book, {name: ({"id": "integer"}, {"id": [i]}) for i, name in enumerate(names)})
    for i, name in enumerate(names):
        [batch] = xlsx.SPEC.read(book, head_of(name, {"id": "integer"}))
        assert batch.column(0).to_pylist() == [i]


def test_more_rows_than_a_sheet_holds_continue_in_the_next(book: Path) -> None:
    head = head_of("events", {"n": "integer"})
    rows, step = 1_048_577, 100_000
    with book.open("wb") as sink:
        writer = xlsx.SPEC.open(sink, {})
        writer.begin(head)
        for start in range(0, rows, step):
            numbers = pa.array(range(start, min(start + step, rows)), pa.int32())
            writer.write(pa.RecordBatch.from_arrays([numbers], schema=head.schema))
        writer.close()
    sheets = CalamineWorkbook.from_path(book)
    assert sheets.sheet_names == ["events", "events (2)"]
    assert [sheets.get_sheet_by_name(name).height for name in sheets.sheet_names] == [1_048_576, 3]
    found = pa.chunked_array([batch.column(0) for batch in xlsx.SPEC.read(book, head)])
    assert found.equals(pa.chunked_array([pa.array(range(rows), pa.int32())]))


@pytest.mark.parametrize("rows", [1_048_575])
def test_a_sheet_that_is_exactly_full_has_no_empty_successor(book: Path, rows: int) -> None:
    one_column(book, "smallint", pa.array([7] * rows, pa.int16()))
    assert CalamineWorkbook.from_path(book).sheet_names == ["things"]


def test_too_many_columns_for_a_sheet_are_refused(book: Path) -> None:
    head = TableHead(name="wide", schema=pa.schema([field_of(f"c{i}", "integer") for i in range(16_385)]))
    with book.open("wb") as sink, pytest.raises(RequestRejected, match=r"16385 columns.*16384"):
        xlsx.SPEC.open(sink, {}).begin(head)


def test_every_part_is_well_formed_and_declared(book: Path) -> None:
    workbook(book, {"pets": ({"v": "text"}, {"v": HOSTILE[:-5]}), "a'b": ({"v": "date"}, {"v": [None]})})
    with zipfile.ZipFile(book) as archive:
        assert archive.testzip() is None
        types = etree.fromstring(archive.read("[Content_Types].xml"))
        declared = {override.get("PartName") for override in types.iter("{*}Override")}
        parts = {f"/{name}" for name in archive.namelist() if not name.endswith(".rels")} - {"/[Content_Types].xml"}
        assert declared == parts
        for name in archive.namelist():
            etree.fromstring(archive.read(name))


# What our reader refuses.


def replaced(path: Path, part: str, old: bytes, new: bytes) -> None:
    """Rewrites one part of a workbook with valid checksums."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(content, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(old, new) if name == part else data)
    path.write_bytes(content.getvalue())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'<row r="3">', b'<row r="4">'),
        (b'<c r="A3"', b'<c r="A2"'),
        (b'<c r="A3"', b'<c r="C3"'),
        (b"first", b"fi&rst"),
        (b"first", b"fi\x01rst"),
        (b"first", b"<b>first</b>"),
        (b' t="inlineStr"', b' t="str"'),
        (b"</sheetData>", b""),
        (b"<sheetData>", b"<data>"),
        (b">id<", b">key<"),
        (b' s="2"', b' t="b"'),
        (b"first", b"fi\xffrst"),
    ],
)
def test_a_sheet_that_is_not_as_we_write_it_is_a_violation(book: Path, old: bytes, new: bytes) -> None:
    types = {"id": "integer", "name": "text"}
    workbook(book, {"pets": (types, {"id": [1, 2], "name": ["first", "second"]})})
    replaced(book, "xl/worksheets/sheet1.xml", old, new)
    with pytest.raises(IntegrityViolation, match=r"book\.xlsx.*export again"):
        list(xlsx.SPEC.read(book, head_of("pets", types)))


def test_a_changed_byte_is_a_violation(book: Path) -> None:
    one_column(book, "text", [f"value {i}" for i in range(1000)])
    content = bytearray(book.read_bytes())
    content[len(content) // 2] ^= 0xFF
    book.write_bytes(bytes(content))
    with pytest.raises(IntegrityViolation):
        list(xlsx.SPEC.read(book, head_of("things", {"value": "text"})))


def test_a_table_that_is_not_in_the_workbook_is_a_violation(book: Path) -> None:
    one_column(book, "text", ["x"])
    with pytest.raises(IntegrityViolation, match="no sheet"):
        list(xlsx.SPEC.read(book, head_of("other", {"value": "text"})))


@pytest.mark.parametrize(
    "row",
    [
        '<c r="B2"><v>1</v></c><c r="A2"><v>1</v></c>',
        '<c r="A2"><v>1</v></c><c r="A2"><v>2</v></c>',
        '<c r="A2"><f>1+1</f><v>2</v></c>',
        '<c r="A2"><v>1</v></c></c>',
        '<d r="A2"><v>1</v></c>',
        '<c r="A2" x="1"><v>1</v></c>',
    ],
    ids=["unordered", "twice", "formula", "closed twice", "another element", "another attribute"],
)
def test_cells_out_of_shape_are_malformed(row: str) -> None:
    with pytest.raises(Malformed):
        cell_contents(f'<row r="2">{row}</row>'.encode(), 2, [Kind.INTEGER, Kind.INTEGER])


def sheets_of(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        yield from (name for name in archive.namelist() if re.search("sheet[0-9]+", name))


def test_a_sheet_of_too_much_xml_continues_in_the_next(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export_pipelines.formats.xlsx.sheets.MAX_XML_BYTES", 10_000)
    head = head_of("things", {"value": "text"})
    with book.open("wb") as sink:
        writer = xlsx.SPEC.open(sink, {})
        writer.begin(head)
        for start in range(0, 300, 100):
            texts = [f"{start + i:0100}" for i in range(100)]
            writer.write(pa.RecordBatch.from_pydict({"value": texts}, schema=head.schema))
        writer.close()
    assert len(list(sheets_of(book))) == 3
    found = [text for batch in xlsx.SPEC.read(book, head) for text in batch.column(0).to_pylist()]
    assert found == [f"{i:0100}" for i in range(300)]
