"""How PostgreSQL types travel."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.types import (
    BEYOND,
    Kind,
    Total,
    as_text,
    field_of,
    kind_of,
    normalize,
    plain_number,
    value_type,
)


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("varchar(20)", "character varying(20)"),
        ("character varying", "character varying"),
        ("int8", "bigint"),
        ("INT4", "integer"),
        ("bool", "boolean"),
        ("decimal(10, 2)", "numeric(10,2)"),
        ("numeric( 10 ,2 )", "numeric(10,2)"),
        ("timestamptz", "timestamp with time zone"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("timestamp", "timestamp without time zone"),
        ("time", "time without time zone"),
        ("text[]", "text[]"),
        ("varchar(5)[]", "character varying(5)[]"),
        ("double  precision", "double precision"),
        ('"Mood"', '"Mood"'),
        ("app.mood", "app.mood"),
    ],
)
def test_a_type_is_known_by_the_name_postgresql_prints(written: str, printed: str) -> None:
    assert normalize(written) == printed
    assert normalize(printed) == printed


@pytest.mark.parametrize(
    ("pg_type", "kind", "arrow", "cast"),
    [
        ("boolean", Kind.BOOLEAN, pa.bool_(), None),
        ("smallint", Kind.INTEGER, pa.int16(), None),
        ("bigint", Kind.INTEGER, pa.int64(), None),
        ("real", Kind.FLOAT, pa.float32(), None),
        ("numeric(12,2)", Kind.DECIMAL, pa.decimal128(12, 2), "text"),
        ("numeric(5)", Kind.DECIMAL, pa.decimal128(5, 0), "text"),
        ("numeric(38,38)", Kind.DECIMAL, pa.decimal128(38, 38), "text"),
        ("numeric", Kind.NUMERIC, pa.string(), "text"),
        ("numeric(39,2)", Kind.NUMERIC, pa.string(), "text"),
        ("numeric(5,-2)", Kind.NUMERIC, pa.string(), "text"),
        ("numeric(2,5)", Kind.NUMERIC, pa.string(), "text"),
        ("varchar(20)", Kind.TEXT, pa.string(), None),
        ("char(3)", Kind.TEXT, pa.string(), None),
        ("uuid", Kind.TEXT, pa.string(), "text"),
        ("money", Kind.TEXT, pa.string(), "text"),
        ("app.mood", Kind.TEXT, pa.string(), "text"),
        ("date", Kind.DATE, pa.date32(), None),
        ("time(3)", Kind.TIME, pa.time64("us"), None),
        ("timetz", Kind.TEXT, pa.string(), "text"),
        ("timestamp(3)", Kind.TIMESTAMP, pa.timestamp("us"), None),
        ("timestamptz", Kind.INSTANT, pa.timestamp("us", tz="UTC"), None),
        ("jsonb", Kind.JSON, pa.string(), "text"),
        ("integer[]", Kind.JSON, pa.string(), "array"),
        ("varchar(5)[]", Kind.JSON, pa.string(), "array"),
        ("timestamptz(3)[]", Kind.JSON, pa.string(), "array"),
        ("jsonb[]", Kind.JSON, pa.string(), "elements"),
        ("app.mood[]", Kind.JSON, pa.string(), "elements"),
        ("bytea", Kind.BYTES, pa.binary(), None),
    ],
)
def test_every_type_travels_exactly_or_as_its_text(
    pg_type: str, kind: Kind, arrow: pa.DataType, cast: str | None
) -> None:
    form = value_type(pg_type)
    assert (form.kind, form.arrow, form.cast) == (kind, arrow, cast)


@given(st.text(max_size=40))
def test_any_type_name_travels_somehow(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)
    assert value_type(name).kind in Kind


def test_a_column_forced_to_text_keeps_its_own_name() -> None:
    form = as_text("int8")
    assert (form.pg_type, form.kind, form.cast) == ("bigint", Kind.TEXT, "text")


@pytest.mark.parametrize(
    ("pg_type", "kind", "cast"),
    [
        ("date", Kind.TEXT, "text"),
        ("time(3)", Kind.TEXT, "time"),
        ("timestamp", Kind.TEXT, "timestamp"),
        ("timestamptz", Kind.TEXT, "instant"),
        ("numeric(12,2)", Kind.NUMERIC, "text"),
    ],
)
def test_a_column_with_values_beyond_its_kind_becomes_text_and_decimals_stay_numbers(
    pg_type: str, kind: Kind, cast: str
) -> None:
    form = as_text(pg_type)
    assert (form.kind, form.arrow, form.cast) == (kind, pa.string(), cast)
    assert value_type(pg_type).kind in BEYOND


@pytest.mark.parametrize("pg_type", ["bigint", "numeric(4,1)", "timestamptz", "jsonb", "bytea"])
def test_the_kind_survives_serialisation(pg_type: str) -> None:
    schema = pa.schema([field_of("c", pg_type, nullable=False)])
    read = pa.ipc.read_schema(schema.serialize())
    assert kind_of(read.field("c")) is value_type(pg_type).kind
    assert not read.field("c").nullable


@pytest.mark.parametrize(
    ("pg_type", "total"),
    [
        ("numeric(24,2)", Total.SUM),
        ("numeric(38,38)", Total.SUM),  # never its text, which DuckDB spells without the zero before the point
        ("double precision", Total.EXTREMES),
        ("text", Total.OCTETS),
        ("jsonb", Total.OCTETS),
        ("timestamptz", Total.MICROSECONDS),
        ("date", Total.DAYS),
        ("boolean", Total.TRUES),
    ],
)
def test_every_kind_has_one_figure_to_compare(pg_type: str, total: Total) -> None:
    assert value_type(pg_type).total is total


@given(
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12),
    st.integers(0, 6),
)
def test_one_number_has_one_spelling(number: Decimal, zeros: int) -> None:
    padded = f"{number:f}" + "0" * zeros
    assert plain_number(padded) == plain_number(f"{number:f}")
    assert Decimal(str(plain_number(padded))) == number


@pytest.mark.parametrize(
    ("figure", "plain"), [(None, None), ("1200", "1200"), ("1200.00", "1200"), ("0.50", "0.5"), ("-0.0", "-0")]
)
def test_trailing_zeros_go_and_whole_numbers_stay(figure: str | None, plain: str | None) -> None:
    assert plain_number(figure) == plain
