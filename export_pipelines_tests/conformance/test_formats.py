"""What every format promises: the rows that went in come out, in order, typed, each value exact.

A new format is covered by existing. Reading goes through the format's own reader, which is another library than the
one that wrote.
"""

# ruff: noqa: DTZ001 - timestamps without a zone are a type under test

from __future__ import annotations

import datetime as dt
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats.column_facts import column_facts
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines_tests.lanes import EXHAUSTIVE, examples


def _variants(spec: FormatSpec) -> list[dict[str, Any]]:
    """The defaults, then each choice of each option on its own."""
    fields = spec.options.model_fields if spec.options is not None and issubclass(spec.options, BaseModel) else {}
    found: list[dict[str, Any]] = [{}]
    for name, field in fields.items():
        choices = (False, True) if field.annotation is bool else get_args(field.annotation)
        found += [{name: choice} for choice in choices if choice != field.default]
    return found


VARIANTS = [
    pytest.param(spec, options, id="-".join((spec.name, *(f"{name}={value}" for name, value in options.items()))))
    for spec in all_formats().values()
    for options in _variants(spec)
]
every_variant = pytest.mark.parametrize(("spec", "options"), VARIANTS)
every_format = pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in all_formats().items()])

UTC = dt.UTC
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False, None],
    "smallint": [-(2**15), 0, 2**15 - 1, None],
    "integer": [-(2**31), 0, 2**31 - 1, None],
    "bigint": [-(2**63), 2**63 - 1, 2**53 + 1, 0, None],
    "numeric(12,2)": [Decimal("-9999999999.99"), Decimal("0.00"), Decimal("0.10"), Decimal("1.00"), None],
    "numeric(38,0)": [Decimal("9" * 38), Decimal("-" + "9" * 38), Decimal(0), None],
    "numeric(38,38)": [Decimal("0." + "0" * 37 + "1"), Decimal("-0." + "9" * 38), None],
    "numeric": ["NaN", "Infinity", "-Infinity", "0.10", "-5", "1" + "0" * 200, "0." + "0" * 200 + "10", None],
    "real": [0.1, 16777216.0, 3.4028234663852886e38, 1e-45, float("nan"), float("inf"), -0.0, None],
    "double precision": [0.1, 1e16, 5e-324, 1.7976931348623157e308, float("nan"), float("-inf"), -0.0, 1 / 3, None],
    "date": [dt.date(1, 1, 1), dt.date(1899, 12, 31), dt.date(1900, 2, 28), dt.date(9999, 12, 31), None],
    "time": [dt.time(0, 0), dt.time(23, 59, 59, 999999), dt.time(12, 0, 0, 1), None],
    "timestamp": [
        dt.datetime(1900, 3, 1, 0, 0, 0, 1),
        dt.datetime(1, 1, 1),
        dt.datetime(1969, 12, 31, 23, 59, 59, 999999),
        dt.datetime(9999, 12, 31),
        None,
    ],
    "timestamptz": [
        dt.datetime(1, 1, 1, tzinfo=UTC),
        dt.datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=UTC),
        dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ],
    "bytea": [b"", b"\x00\xff\\x", bytes(range(256)), None],
    "jsonb": ['{"a": [1.10, 1e400, 12345678901234567890.12]}', '"x"', "null", "-1.50", "[]", '{"n": null}', None],
    "text[]": ['["a", null, "\\""]', "[]", None],
    "uuid": ["00000000-0000-0000-0000-000000000000", None],
    "inet": ["10.0.0.1/8", None],
    "tsvector": ["'a':1 'b':2", None],
}
_CONTROL = [chr(code) for code in range(1, 32)]
TEXTS = [
    *_CONTROL,
    *(f"a{character}b" for character in _CONTROL),
    *('"', '""', "'", "''", ",", ";", "\\", "\\n", "a\r\nb", "\r\n", "\n\n", "\x7f", "\u0085", "\u2028", "\u2029"),
    *(" ", "  lead", "trail  ", "\ttab\t", "\u00a0", "\ufeff", "\u200b", "\ufffd", "\uffff"),
    *("e\u0301", "é", "🐕\u200d🦺", "\U0010ffff", "<a>&amp;</a>", "]]>", "<!--"),
    *("NULL", "null", "\\N", "None", "NaN", "true", "0", "007", "1e5", "-1", "2024-01-31", "", "_x0041_", "_x005F_"),
    *("=1+1", "'=1+1", "''=1", "+1", "@x", "-x", " =1", "\t=1", "\r=1", "'text", "' =", "\uff1d1"),
    *('{"a":1}', '","id":1}', "[", "]\n", "},{", "x" * 300),
]  # fmt: skip


def head_of(columns: dict[str, str], name: str = "things") -> TableHead:
    labels = {column: f"Label, of {column}" for column in columns}
    schema = pa.schema([field_of(column, pg_type) for column, pg_type in columns.items()])
    return TableHead(name=name, schema=schema, title=name.title(), labels=labels)


def batch_of(head: TableHead, columns: Iterable[Sequence[Any]]) -> pa.RecordBatch:
    arrays = [pa.array(values, field.type) for values, field in zip(columns, head.schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=head.schema)


def with_facts(head: TableHead, batches: Iterable[pa.RecordBatch], spec: FormatSpec, options: Any) -> TableHead:
    """The head as an export hands it over, with facts of the columns that the format is undecided about."""
    schema = pa.schema([field for field in head.schema if spec.undecided and spec.undecided(field, options)])
    places = [head.schema.names.index(name) for name in schema.names]
    chosen = (pa.RecordBatch.from_arrays([batch.column(i) for i in places], schema=schema) for batch in batches)
    return replace(head, facts=column_facts(chosen, schema) if places else {})


def write(path: Path, spec: FormatSpec, options: dict[str, Any], tables: dict[str, tuple[TableHead, Any]]) -> None:
    with path.open("wb") as sink:
        writer = spec.open(sink, options)
        for head, batches in tables.values():
            writer.begin(with_facts(head, batches, spec, options))
            for batch in batches:
                writer.write(batch)
        writer.close()
        assert not sink.closed


def read(path: Path, spec: FormatSpec, head: TableHead) -> pa.Table:
    batches = list(spec.read(path, head))
    assert all(batch.schema.equals(head.schema, check_metadata=True) for batch in batches)
    return pa.Table.from_batches(batches, head.schema)


def assert_round_trip(
    folder: Path, spec: FormatSpec, options: dict[str, Any], head: TableHead, batches: list[pa.RecordBatch]
) -> None:
    path = folder / f"{head.name}.{spec.extension}"
    write(path, spec, options, {head.name: (head, batches)})
    expected = pa.Table.from_batches(batches, head.schema)
    found = read(path, spec, head)
    assert found.num_rows == expected.num_rows
    for name in head.schema.names:  # repr tells -0.0 from 0.0 and finds NaN equal to NaN
        assert list(map(repr, found[name].to_pylist())) == list(map(repr, expected[name].to_pylist())), name


@every_variant
@pytest.mark.parametrize("pg_type", VALUES)
def test_every_value_of_a_type_survives(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any], pg_type: str
) -> None:
    head = head_of({"id": "bigint", "value": pg_type, "after": "text"})
    values = VALUES[pg_type]
    count = len(values)
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, [range(count), values, ["x"] * count])])


def changed_texts(folder: Path, spec: FormatSpec, options: dict[str, Any]) -> list[str]:
    """Which of the texts do not survive, each in a file of its own."""

    def survives(text: str) -> bool:
        try:
            assert_round_trip(folder, spec, options, TEXTS_HEAD, [texts_batch([text])])
        except Exception:  # noqa: BLE001 - whatever it is, the text is named
            return False
        return True

    return [text for text in TEXTS if not survives(text)]


TEXTS_HEAD = head_of({"before": "text", "value": "text", "json": "jsonb"})


def texts_batch(texts: Sequence[str]) -> pa.RecordBatch:
    """Each text at the beginning of a row, at the end and between others."""
    rows = [row for text in texts for row in (("x", text, '["a"]'), (text, "x", None), (None, text, "{}"))]
    return batch_of(TEXTS_HEAD, list(zip(*rows, strict=True)))


@every_variant
def test_every_text_survives(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    try:
        assert_round_trip(tmp_path, spec, options, TEXTS_HEAD, [texts_batch(TEXTS)])
    except Exception:
        assert changed_texts(tmp_path, spec, options) == []
        raise  # each survives alone, not all together


@EXHAUSTIVE
@every_variant
def test_every_text_survives_in_a_file_of_its_own(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    assert changed_texts(tmp_path, spec, options) == []


@every_variant
def test_every_value_survives_in_a_column_of_its_own(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    """Where a format chooses one form for a column, the neighbours of a value decide about it."""
    cases = [(pg_type, value) for pg_type, values in VALUES.items() for value in values if value is not None]
    head = head_of({f"c{i}": pg_type for i, (pg_type, _) in enumerate(cases)})
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, [[value, None] for _, value in cases])])


@every_variant
def test_a_table_of_one_column_keeps_null_apart_from_the_empty_text(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any]
) -> None:
    head = head_of({"value": "text"})
    values = [None, "", None, None, "x", "", None]
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, [values])])


@every_variant
@pytest.mark.parametrize("with_empty_batch", [False, True])
def test_a_table_without_rows_is_a_valid_file(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any], with_empty_batch: bool
) -> None:
    head = head_of({"id": "bigint", "at": "timestamptz"})
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, [[], []])] if with_empty_batch else [])


@every_variant
def test_many_batches_of_uneven_size_keep_their_order(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any]
) -> None:
    head = head_of({"id": "bigint", "value": "text"})
    numbers = itertools.count()
    batches = [
        batch_of(head, [ids := list(itertools.islice(numbers, size)), [f"é{i}" for i in ids]])
        for size in (1, 0, 40_000, 7, 33_000)
    ]
    assert_round_trip(tmp_path, spec, options, head, batches)


@every_variant
def test_a_sliced_batch_writes_its_slice_only(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    head = head_of({"id": "bigint", "ok": "boolean", "value": "text", "amount": "numeric(12,2)"})
    columns = [range(9), [True, None, False] * 3, list("abcdefghi"), [Decimal(i) for i in range(9)]]
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, columns).slice(2, 5)])


@every_variant
def test_two_hundred_columns_stay_in_place(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    types = list(VALUES)
    head = head_of({f"c{i}": types[i % len(types)] for i in range(200)})
    columns = [[VALUES[types[i % len(types)]][0], None] for i in range(200)]
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, columns)])


@every_variant
def test_a_cell_of_a_megabyte_survives_or_is_refused(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    head = head_of({"id": "bigint", "value": "text", "json": "jsonb", "bytes": "bytea"})
    text, document = 'é,"\n ' * 200_000, '{"a": "' + "x" * 1_000_000 + '"}'
    batch = batch_of(head, [[1, 2], [text, None], [None, document], [b"\x00" * 500_000, b""]])
    try:
        assert_round_trip(tmp_path, spec, options, head, [batch])
    except RequestRejected as refusal:
        assert str(refusal).startswith("things.value: ")  # noqa: PT017 - either outcome is right


@every_variant
def test_column_names_may_be_any_text(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    names = ("id", "a,b", 'quo"te', "sla/sh~1", "back\\slash", "blank name", "1st", "ünï", "xml", "$ref", "a.b", "=x")
    types = itertools.cycle(("text", "jsonb", "numeric", "bigint"))
    head = head_of({name: next(types) for name in names})
    columns = [{"text": ["t", None], "jsonb": ['{"id":1}', None], "numeric": ["1.50", None]}.get(
        field.metadata[b"pg_type"].decode(), [7, None]) for field in head.schema]  # fmt: skip
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, columns)])


@every_variant
def test_column_names_may_differ_in_case_only(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    head = head_of({"id": "bigint", "Id": "text", "ID": "jsonb"})
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, [[1, 2], ["a", None], [None, "[1]"]])])


@every_variant
def test_json_values_may_hold_the_names_of_their_neighbours(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any]
) -> None:
    head = head_of({"first": "json", "id": "bigint", "second": "json", "big": "numeric", "third": "json"})
    tricky = [
        '{"first":1,"id":2,"second":{"big":3,"id":4},"third":5}',
        '[{"x":",\\"id\\":"}]',
        '{"id":[{"id":{}}]}',
        "[ ]",
    ]
    batch = batch_of(head, [tricky, [1, 2, None, 4], tricky[::-1], ["1.0", None, "NaN", "2.50"], [*tricky[1:], None]])
    assert_round_trip(tmp_path, spec, options, head, [batch])


@every_format
def test_several_tables_share_a_file_where_the_format_says_so(tmp_path: Path, spec: FormatSpec) -> None:
    if not spec.many_tables:
        pytest.skip("one table a file")
    first, second = head_of({"id": "bigint"}, "first"), head_of({"name": "text", "at": "date"}, "second")
    batches = [batch_of(first, [[1, 2, 3]])], [batch_of(second, [["a", None], [dt.date(2024, 1, 31), None]])]
    path = tmp_path / f"all.{spec.extension}"
    write(path, spec, {}, {"first": (first, batches[0]), "second": (second, batches[1])})
    for head, (batch,) in zip((first, second), batches, strict=True):
        assert read(path, spec, head).to_pylist() == batch.to_pylist()


class _Pipe(io.RawIOBase):
    """A sink that can only be written to, like an upload."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += data
        return memoryview(data).nbytes


@every_variant
def test_a_sink_needs_neither_seek_nor_tell(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    head = head_of({"id": "bigint"})
    pipe = _Pipe()
    writer = spec.open(pipe, options)  # type: ignore[arg-type]
    writer.begin(head)
    writer.write(batch_of(head, [[1, 2, 3]]))
    writer.close()
    path = tmp_path / f"piped.{spec.extension}"
    path.write_bytes(pipe.content)
    assert not pipe.closed
    assert read(path, spec, head)["id"].to_pylist() == [1, 2, 3]


@every_variant
def test_the_same_rows_make_the_same_bytes(tmp_path: Path, spec: FormatSpec, options: dict[str, Any]) -> None:
    head = head_of({"id": "bigint", "value": "text"})
    batch = batch_of(head, [range(100), [f"v{i}" for i in range(100)]])
    contents = set()
    for number in range(2):
        path = tmp_path / f"{number}.{spec.extension}"
        write(path, spec, options, {"things": (head, [batch])})
        contents.add(path.read_bytes())
    assert len(contents) == 1


@every_format
def test_a_value_of_another_type_is_reported_without_showing_it(tmp_path: Path, spec: FormatSpec) -> None:
    written = head_of({"id": "bigint", "value": "text"})
    path = tmp_path / f"things.{spec.extension}"
    write(path, spec, {}, {"things": (written, [batch_of(written, [[1, 2], ["7", "secret"]])])})
    with pytest.raises(IntegrityViolation) as caught:
        list(spec.read(path, head_of({"id": "bigint", "value": "integer"})))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@every_format
def test_a_format_names_itself_completely(spec: FormatSpec) -> None:
    assert find_format(spec.name.upper()) is spec
    assert all((spec.title, spec.extension, spec.media_type, spec.written_with, spec.read_with))
    assert spec.written_with != spec.read_with


_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
_rows = st.lists(
    st.tuples(
        st.none() | _texts,
        st.none() | st.floats(),
        st.none()
        | st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**27), max_value=10**27),
        st.none() | st.datetimes(),
        st.none() | st.binary(max_size=9),
        st.none() | st.integers(-(2**63), 2**63 - 1),
    ),
    max_size=12,
)


@every_variant
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_rows)
def test_random_rows_survive(
    tmp_path: Path, spec: FormatSpec, options: dict[str, Any], rows: list[tuple[Any, ...]]
) -> None:
    types = ("text", "double precision", "numeric(38,10)", "timestamp", "bytea", "bigint")
    head = head_of({f"c{i}": pg_type for i, pg_type in enumerate(types)})
    columns: Iterator[Sequence[Any]] = ([row[i] for row in rows] for i in range(len(types)))
    assert_round_trip(tmp_path, spec, options, head, [batch_of(head, columns)])
