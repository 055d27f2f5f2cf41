"""What CSV, JSON and NDJSON files look like inside, read by the standard library."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats.registry import find_format

NASTY = [*map(chr, range(1, 33)), '"', "\\", "\x7f", "\u2028", "🐕", "a\r\nb", "", "NULL", "\\u0041", "/"]


def written(spec_name: str, columns: Mapping[str, tuple[str, Sequence[Any]]], **options: Any) -> bytes:
    schema = pa.schema([field_of(name, pg_type) for name, (pg_type, _) in columns.items()])
    arrays = [pa.array(values, field.type) for field, (_, values) in zip(schema, columns.values(), strict=True)]
    sink = io.BytesIO()
    writer = find_format(spec_name).open(sink, options)
    writer.begin(TableHead(name="things", schema=schema, labels={"id": 'The "id", of it'}))
    writer.write(pa.RecordBatch.from_arrays(arrays, schema=schema))
    writer.close()
    return sink.getvalue()


def records(content: bytes) -> list[Any]:
    return [json.loads(line, parse_float=Decimal) for line in content.decode().splitlines()]


def test_csv_tells_null_from_the_empty_text() -> None:
    assert written("csv", {"a": ("text", [None, ""]), "b": ("integer", [1, None])}) == b'a,b\r\n,1\r\n"",\r\n'


def test_csv_of_one_column_has_a_line_for_every_row() -> None:
    assert written("csv", {"a": ("text", [None, "", None])}) == b'a\r\n\r\n""\r\n\r\n'


def test_csv_quotes_what_postgresql_takes_for_the_end_of_the_file() -> None:
    values = [r"\.", r"\.x", "a,b", 'say "so"', "two\nlines", "two\rlines", " blank ", None]
    expected = [r'"\."', r"\.x", '"a,b"', '"say ""so"""', '"two\nlines"', '"two\rlines"', " blank ", ""]
    content = written("csv", {r"\.": ("text", values)})
    assert content == "".join(f"{line}\r\n" for line in [r'"\."', *expected]).encode()
    assert written("csv", {"a": ("integer", [1, None])}) == b"a\r\n1\r\n\r\n"


def test_python_reads_the_same_cells_from_csv() -> None:
    content = written("csv", {"id": ("integer", list(range(len(NASTY)))), "text": ("text", NASTY)})
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    assert rows == [["id", "text"], *([str(i), text] for i, text in enumerate(NASTY))]


def test_csv_headers_may_be_labels() -> None:
    content = written("csv", {"id": ("integer", [1]), "b": ("text", ["x"])}, headers="labels")
    assert content == b'"The ""id"", of it",b\r\n1,x\r\n'


def test_the_excel_profile_disarms_text_but_not_numbers() -> None:
    values: list[tuple[str, list[Any]]] = [
        ("numeric", ["-5"]),
        ("integer", [-1]),
        ("text", ["=1+1"]),
        ("jsonb", ["-1"]),
    ]
    assert (
        written("csv", dict(zip("nitj", values, strict=True)), csv_profile="excel")
        == b"\xef\xbb\xbfn,i,t,j\r\n-5,-1,'=1+1,'-1\r\n"
    )


@pytest.mark.parametrize("header", [b"", b"id\r\n", b"id,c\r\n", b"id,b,c\r\n"])
def test_csv_with_another_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "things.csv"
    path.write_bytes(header)
    head = TableHead(name="things", schema=pa.schema([field_of("id", "integer"), field_of("b", "text")]))
    with pytest.raises(IntegrityViolation, match=r"not the one of table things, which has 2"):
        list(find_format("csv").read(path, head))


@pytest.mark.parametrize("spec", ["csv", "json", "ndjson"])
def test_an_unknown_option_is_refused(spec: str) -> None:
    with pytest.raises(ValidationError, match="colour"):
        find_format(spec).open(io.BytesIO(), {"colour": "red"})


def test_python_reads_the_same_values_from_ndjson() -> None:
    content = written("ndjson", {"id": ("integer", list(range(len(NASTY)))), "text": ("text", NASTY)})
    assert content.count(b"\n") == len(NASTY)
    assert [json.loads(line) for line in content.decode().split("\n")[:-1]] == [
        {"id": i, "text": text} for i, text in enumerate(NASTY)
    ]


@pytest.mark.parametrize(
    ("pg_type", "value", "text"),
    [
        ("boolean", True, "true"),
        ("bigint", 2**63 - 1, "9223372036854775807"),
        ("numeric(20,4)", Decimal("1.5"), "1.5000"),
        ("numeric", "0.10", "0.10"),
        ("numeric", "-Infinity", '"-Infinity"'),
        ("double precision", float("nan"), '"NaN"'),
        ("double precision", float("inf"), '"Infinity"'),
        ("double precision", 1e16, "1e+16"),
        ("bytea", b"\xff", r'"\\xff"'),
        ("jsonb", '{"a": [1.10]}', '{"a": [1.10]}'),
        ("json", '{\n\t"a":\r\n1}', '{ \t"a":  1}'),
        ("text", "é\u2028", '"é\u2028"'),
    ],
)
def test_json_spells_a_value_like_this(pg_type: str, value: Any, text: str) -> None:
    content = written("ndjson", {"id": ("integer", [1, 2]), "value": (pg_type, [value, None])})
    assert content.decode() == f'{{"id":1,"value":{text}}}\n{{"id":2,"value":null}}\n'


def test_a_json_null_is_null_for_others_and_not_sql_null_for_us(tmp_path: Path) -> None:
    values = ["null", " null", None, "[null]"]
    content = written("ndjson", {"id": ("integer", range(4)), "value": ("json", values)})
    assert [record["value"] for record in records(content)] == [None, None, None, [None]]
    path = tmp_path / "things.ndjson"
    path.write_bytes(content)
    head = TableHead(name="things", schema=pa.schema([field_of("id", "integer"), field_of("value", "json")]))
    assert [value for batch in find_format("ndjson").read(path, head) for value in batch["value"].to_pylist()] == values


@pytest.mark.parametrize("pretty", [False, True])
def test_json_is_one_valid_document(pretty: bool) -> None:
    values = ['{"a": [], "b": {"c": [1, {}]}}', None, '"},\\n{"']
    content = written("json", {"id": ("integer", [1, 2, 3]), "value": ("jsonb", values)}, json_pretty=pretty)
    assert [record["value"] for record in json.loads(content)] == [json.loads(value or "null") for value in values]


def test_json_has_a_record_a_line() -> None:
    assert written("json", {"id": ("integer", [1, 2])}) == b'[\n{"id":1},\n{"id":2}\n]\n'
    assert written("json", {"id": ("integer", [])}) == b"[]\n"


def test_pretty_json_is_indented_by_two() -> None:
    tags = ['["a","b: c"]']
    content = written("json", {"id": ("integer", [1]), "tags": ("text[]", tags)}, json_pretty=True)
    assert content.decode().splitlines() == [
        "[",
        "  {",
        '    "id": 1,',
        '    "tags": [',
        '      "a",',
        '      "b: c"',
        "    ]",
        "  }",
        "]",
    ]


@pytest.mark.parametrize(
    "content", [b'[\n{"id":1},\n{"id":\n]\n', b'[\n  {\n    "id": 1', b'[\n{"id":"secret"}\n]\n', b"secret"]
)
def test_a_damaged_json_file_is_reported_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "things.json"
    path.write_bytes(content)
    head = TableHead(name="things", schema=pa.schema([field_of("id", "integer")]))
    with pytest.raises(IntegrityViolation) as caught:
        list(find_format("json").read(path, head))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("spec", ["csv", "json", "ndjson"])
def test_more_large_cells_than_the_reader_has_memory_are_read_back(tmp_path: Path, spec: str) -> None:
    head = TableHead(name="things", schema=pa.schema([field_of("id", "integer"), field_of("value", "text")]))
    path = tmp_path / f"things.{spec}"
    text = 'x,"\r\n' * 200_000
    with path.open("wb") as sink:
        writer = find_format(spec).open(sink, {})
        writer.begin(head)
        for number in range(150):
            columns = [pa.array([number], pa.int32()), pa.array([text])]
            writer.write(pa.RecordBatch.from_arrays(columns, schema=head.schema))
        writer.close()
    rows = 0
    for batch in find_format(spec).read(path, head):
        assert set(batch["value"].to_pylist()) == {text}
        assert batch["id"].to_pylist() == list(range(rows, rows + batch.num_rows))
        rows += batch.num_rows
    assert rows == 150
