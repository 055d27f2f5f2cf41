"""The canonical text of values, checked against literals and against Python's own parsers."""

# ruff: noqa: DTZ001 - timestamps without a zone are a type under test

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.types import Kind, field_of, kind_of
from export_pipelines.formats.rendering import text_frame

UTC = dt.UTC


def rendered(pg_type: str, values: list[Any]) -> list[str | None]:
    schema = pa.schema([field_of("value", pg_type)])
    batch = pa.RecordBatch.from_arrays([pa.array(values, schema.field(0).type)], schema=schema)
    return text_frame(batch).to_series().to_list()


@pytest.mark.parametrize(
    ("pg_type", "value", "text"),
    [
        ("boolean", True, "true"),
        ("boolean", False, "false"),
        ("smallint", -32768, "-32768"),
        ("bigint", 2**63 - 1, "9223372036854775807"),
        ("numeric(12,2)", Decimal("0.10"), "0.10"),
        ("numeric(12,2)", Decimal("-5.00"), "-5.00"),
        ("numeric(38,10)", Decimal("1E+10"), "10000000000.0000000000"),
        ("numeric(38,38)", Decimal("1E-38"), "0." + "0" * 37 + "1"),
        ("numeric(38,0)", Decimal("9" * 38), "9" * 38),
        ("numeric", "NaN", "NaN"),
        ("numeric", "1.2300", "1.2300"),
        ("double precision", float("nan"), "NaN"),
        ("double precision", float("inf"), "Infinity"),
        ("double precision", float("-inf"), "-Infinity"),
        ("double precision", -0.0, "-0.0"),
        ("double precision", 0.1, "0.1"),
        ("real", 0.1, "0.1"),
        ("real", float("-inf"), "-Infinity"),
        ("date", dt.date(1, 1, 1), "0001-01-01"),
        ("date", dt.date(9999, 12, 31), "9999-12-31"),
        ("time", dt.time(0, 0), "00:00:00.000000"),
        ("time", dt.time(23, 59, 59, 999999), "23:59:59.999999"),
        ("timestamp", dt.datetime(2024, 1, 31, 12, 0, 0, 123456), "2024-01-31T12:00:00.123456"),
        ("timestamp", dt.datetime(1, 1, 1), "0001-01-01T00:00:00.000000"),
        ("timestamp", dt.datetime(1969, 12, 31, 23, 59, 59, 999999), "1969-12-31T23:59:59.999999"),
        ("timestamptz", dt.datetime(2024, 1, 31, 12, tzinfo=UTC), "2024-01-31T12:00:00.000000Z"),
        ("timestamptz", dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), "9999-12-31T23:59:59.999999Z"),
        ("bytea", b"\xde\xad\xbe\xef", "\\xdeadbeef"),
        ("bytea", b"", "\\x"),
        ("jsonb", '{"a": 1.10}', '{"a": 1.10}'),
        ("text", " \r\n\t\x01", " \r\n\t\x01"),
        ("uuid", "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000a"),
    ],
)
def test_a_value_has_one_text(pg_type: str, value: Any, text: str) -> None:
    assert rendered(pg_type, [value, None]) == [text, None]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_renders_null_and_no_rows(kind: Kind) -> None:
    pg_type = {
        Kind.BOOLEAN: "boolean", Kind.INTEGER: "bigint", Kind.FLOAT: "real", Kind.DECIMAL: "numeric(9,3)",
        Kind.NUMERIC: "numeric", Kind.TEXT: "text", Kind.DATE: "date", Kind.TIME: "time",
        Kind.TIMESTAMP: "timestamp", Kind.INSTANT: "timestamptz", Kind.JSON: "jsonb", Kind.BYTES: "bytea",
    }[kind]  # fmt: skip
    assert kind_of(field_of("value", pg_type)) is kind
    assert rendered(pg_type, [None, None]) == [None, None]
    assert rendered(pg_type, []) == []


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_doubles_read_back_bit_by_bit_and_are_short(values: list[float]) -> None:
    texts = rendered("double precision", values)
    assert [struct.pack("d", float(text or "")) for text in texts] == [struct.pack("d", value) for value in values]
    assert all(_digits(text or "") <= max(_digits(repr(value)), 1) for text, value in zip(texts, values, strict=True))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_floats_read_back_in_their_own_width(values: list[float]) -> None:
    texts = rendered("real", values)
    assert [struct.pack("f", float(text or "")) for text in texts] == [struct.pack("f", value) for value in values]
    assert all(_digits(text or "") <= 9 for text in texts)  # what single precision needs at most


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=7, min_value=-(10**30), max_value=10**30)))
def test_decimals_are_plain_digits(values: list[Decimal]) -> None:
    assert rendered("numeric(38,7)", values) == [f"{value:f}" if value else "0.0000000" for value in values]


@given(st.lists(st.datetimes()))
def test_timestamps_read_back_by_python(values: list[dt.datetime]) -> None:
    assert [dt.datetime.fromisoformat(text or "") for text in rendered("timestamp", values)] == values


def _digits(text: str) -> int:
    mantissa = text.lower().partition("e")[0]
    return len(mantissa.replace("-", "").replace(".", "").strip("0"))
