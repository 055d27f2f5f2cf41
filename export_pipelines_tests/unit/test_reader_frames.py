"""Arrow tables of packages as frames: every value apart from every other, in pandas and in polars."""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import field_of
from export_pipelines.reader.frames import as_pandas, as_polars

ZONED = [
    dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, dt.UTC),
    *(dt.datetime(y, 1, 1, tzinfo=dt.UTC) for y in (1, 9999)),
]
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False],
    "smallint": [-(2**15), 2**15 - 1],
    "bigint": [-(2**63), 2**53 + 1, 2**63 - 1],
    "real": [1.5, float("inf")],
    "double precision": [0.1, 5e-324, float("nan"), float("-inf")],
    "numeric(38,10)": [Decimal("9999999999999999999999999999.9999999999"), Decimal("-0.0000000001")],
    "text": ["", "NULL", "nan", "Zoë 🐾", "  "],
    "bytea": [b"", b"\x00\xff"],
    "date": [dt.date(1, 1, 1), dt.date(9999, 12, 31)],
    "time without time zone": [dt.time(0), dt.time(23, 59, 59, 999_999)],
    "timestamp without time zone": [moment.replace(tzinfo=None) for moment in ZONED],
    "timestamp with time zone": [*ZONED],
    "jsonb": ['{"a": 1.10}', "null"],
}


def table_of(pg_type: str, values: list[Any], name: str = "v") -> pa.Table:
    field = field_of(name, pg_type)
    return pa.table([pa.array([*values, None], field.type)], schema=pa.schema([field]))


def plain(value: Any) -> Any:
    """A cell as the standard library has it, in the standard library's UTC."""
    value = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
    zoned = isinstance(value, dt.datetime) and value.tzinfo is not None
    return value.astimezone(dt.UTC) if zoned else value


@pytest.mark.parametrize("pg_type", VALUES)
def test_pandas_has_every_value_and_null_apart(pg_type: str) -> None:
    values = VALUES[pg_type]
    column = as_pandas(table_of(pg_type, values), parse_json=False)["v"]
    assert isinstance(column.dtype, pd.ArrowDtype)
    *found, null = column.tolist()
    assert null is pd.NA
    assert column.isna().tolist() == [False] * len(values) + [True]
    assert [repr(plain(value)) for value in found] == [repr(value) for value in values]


@pytest.mark.parametrize("pg_type", VALUES)
def test_polars_has_every_value_and_null_apart(pg_type: str) -> None:
    values = VALUES[pg_type]
    *found, null = as_polars(table_of(pg_type, values))["v"].to_list()
    assert null is None
    assert [repr(plain(value)) for value in found] == [repr(value) for value in values]


def test_numbers_without_a_scale_are_decimals_in_pandas() -> None:
    texts = ["0.10", "1e400", "NaN", "-Infinity", "9" * 60]
    column = as_pandas(table_of("numeric", texts), parse_json=False)["v"]
    *found, null = column.tolist()
    assert [str(number) for number in found] == [str(Decimal(text)) for text in texts]
    assert null is pd.NA


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1.10, null, true]}', {"a": [Decimal("1.10"), None, True]}),
        ("12345678901234567890.12", Decimal("12345678901234567890.12")),
        ("1e400", Decimal("1e400")),
        ("9007199254740993", 9007199254740993),
        ("7" * 5000, Decimal("7" * 5000)),
        ('"\\ud800"', "\ud800"),
        ("null", None),
        ("[]", []),
    ],
)
def test_documents_are_parsed_exactly_where_asked(text: str, value: Any) -> None:
    found, null = as_pandas(table_of("jsonb", [text]), parse_json=True)["v"].tolist()
    assert found == value
    assert null is pd.NA


def test_a_document_that_python_cannot_hold_is_refused_without_its_content() -> None:
    deep = "[" * 100_000 + '"secret"' + "]" * 100_000
    with pytest.raises(RequestRejected, match=r"v: row 1 holds a value that Python cannot") as found:
        as_pandas(table_of("jsonb", ["1", deep]), parse_json=True)
    assert "secret" not in str(found.value)
    assert found.value.__cause__ is None


@pytest.mark.parametrize("name", ["*", "^a.*$", "0", "Name", "é"])
def test_columns_keep_their_names(name: str) -> None:
    table = table_of("text", ["x"], name)
    assert list(as_pandas(table, parse_json=False).columns) == as_polars(table).columns == [name]


def test_a_table_without_rows_has_its_types() -> None:
    for pg_type in (*VALUES, "numeric"):
        table = table_of(pg_type, []).slice(1)
        assert as_pandas(table, parse_json=True).shape == as_polars(table).shape == (0, 1)


def test_without_pandas_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r'pip install "export-pipelines\[reader\]"'):
        as_pandas(table_of("text", ["x"]), parse_json=False)
