"""Values that somebody stored to make an export impossible, or to make it lie."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats.registry import find_format
from export_pipelines.validation.row_digest import account

DEEP = 3_000  # levels; PostgreSQL takes twice as many, Python's scanner of JSON a third
HOSTILE_JSON = {
    "deep arrays": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"]":' * DEEP + '"\\"["' + "}" * DEEP,
    "the next key as text": '{"b":2,  "x":",\\"z\\":",  "z": ",\\"z\\":\\"v\\"}"}',
    "a number beyond all": "1e99999",
    "a key twice": '{"a":1,"a":2}',
}


@pytest.mark.parametrize("order", [("a", "j", "z"), ("a", "z", "j"), ("j", "a", "z")])
@pytest.mark.parametrize(("format_name", "options"), [("json", {}), ("json", {"json_pretty": True}), ("ndjson", {})])
@pytest.mark.parametrize("value", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_json_that_is_legal_is_exported_and_read_back(
    tmp_path: Path, value: str, format_name: str, options: dict[str, bool], order: tuple[str, ...]
) -> None:
    cells = {
        "a": (field_of("a", "integer"), pa.array([1], pa.int32())),
        "j": (field_of("j", "json"), pa.array([value])),
        "z": (field_of("z", "text"), pa.array(['v","j":[[['])),
    }
    schema = pa.schema([cells[name][0] for name in order])
    head = TableHead(name="t", schema=schema)
    batch = pa.record_batch([cells[name][1] for name in order], schema=schema)
    spec, path = find_format(format_name), tmp_path / "file"
    with path.open("wb") as sink:
        writer = spec.open(sink, options)
        writer.begin(head)
        writer.write(batch)
        writer.close()
    assert pa.Table.from_batches(list(spec.read(path, head))).equals(pa.Table.from_batches([batch]))


def test_columns_that_differ_in_case_are_counted_each_by_itself() -> None:
    schema = pa.schema([field_of(name, "integer") for name in ("id", "Id", "id_1")])
    batch = pa.record_batch(
        [pa.array([1], pa.int32()), pa.array([20], pa.int32()), pa.array([300], pa.int32())], schema
    )
    found = account([batch], schema).aggregates.columns
    assert {name: figures.total for name, figures in found.items()} == {"id": "1", "Id": "20", "id_1": "300"}
