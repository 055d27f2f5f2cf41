"""Values nobody thought of, of every kind, through every format's writer, found again by a reader of strangers."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, field_of, kind_of
from export_pipelines.formats.registry import find_format
from export_pipelines_tests.fidelity.matrix import VARIANTS, Variant
from export_pipelines_tests.fidelity.readers import READERS
from export_pipelines_tests.lanes import examples

_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
_digits = st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**27), max_value=10**27)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=32),
    "double precision": st.floats(),
    "numeric(38,10)": _digits,
    "numeric": _digits.map(lambda number: f"{number:f}") | st.sampled_from(["NaN", "Infinity", "-Infinity"]),
    "text": _texts | st.sampled_from("=+-@\t\r\n'").flatmap(lambda start: _texts.map(lambda text: start + text)),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=st.just(dt.UTC)),
    "jsonb": st.builds(json.dumps, _json, ensure_ascii=st.booleans()),
    "bytea": st.binary(max_size=40),
}
NAMES = {pg_type: f"c{number}" for number, pg_type in enumerate(STRATEGIES)}
SCHEMA = pa.schema([field_of("id", "integer"), *(field_of(name, pg_type) for pg_type, name in NAMES.items())])
KINDS = {name: kind_of(SCHEMA.field(name)) for name in NAMES.values()}
_rows = st.lists(st.tuples(*(st.none() | strategy for strategy in STRATEGIES.values())), min_size=1, max_size=8)


def plain(number: Any) -> str:
    """Digits without trailing zeros, which a cell of a workbook does not keep."""
    text = f"{Decimal(str(number)):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


FROM_CELL: dict[Kind, Callable[[Any], Any]] = {
    Kind.BOOLEAN: lambda value: {"true": True, "false": False}.get(value, value),
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.DECIMAL: plain,
    Kind.NUMERIC: plain,
    Kind.DATE: lambda value: value.date() if isinstance(value, dt.datetime) else dt.date.fromisoformat(value),
    Kind.TIME: lambda value: value if isinstance(value, dt.time) else dt.time.fromisoformat(value),
    Kind.TIMESTAMP: lambda value: value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value),
    Kind.INSTANT: lambda value: (
        value.replace(tzinfo=dt.UTC) if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
    ),
    Kind.BYTES: lambda value: bytes.fromhex(value.removeprefix("\\x")),
}


@pytest.fixture(scope="module")
def connection(database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database("random"), autocommit=True) as connected:
        yield connected


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.title)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows)
def test_any_value_is_found_again_by_strangers(
    tmp_path: Path, connection: psycopg.Connection[Any], variant: Variant, rows: list[tuple[Any, ...]]
) -> None:
    path = tmp_path / f"things.{variant.format}"
    columns = [range(len(rows)), *zip(*rows, strict=True)]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    with path.open("wb") as sink:
        writer = find_format(variant.format).open(sink, variant.options)
        writer.begin(TableHead(name="things", schema=SCHEMA))
        writer.write(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
        writer.close()
    found = READERS[variant.format](path, KINDS, connection)
    for array, (name, kind) in zip(arrays[1:], KINDS.items(), strict=True):
        made = FROM_CELL.get(kind, str)
        cells = [found[name][number].value for number in range(len(rows))]
        values = [value if value is None else made(value) for value in cells]
        expected = array.to_pylist()
        if kind in (Kind.NUMERIC, Kind.DECIMAL):
            expected = [value if value is None else plain(value) for value in expected]
        if kind is Kind.INSTANT:
            expected = [value if value is None else value.astimezone(dt.UTC) for value in expected]
        if kind is Kind.FLOAT and SCHEMA.field(name).type == pa.float32():
            values = pa.array(values, pa.float32()).to_pylist()
        assert list(map(repr, values)) == list(map(repr, expected)), name
