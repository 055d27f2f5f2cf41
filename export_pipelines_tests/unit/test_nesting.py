"""Nested records equal a naive nesting in plain Python, and no row is lost or doubled."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats import nest_sorting
from export_pipelines.formats.json import read_nested
from export_pipelines.formats.nesting import Document, NestNode, nest
from export_pipelines.formats.registry import find_format
from export_pipelines_tests.lanes import examples

Rows = list[dict[str, Any]]
PETS = {"id": "bigint", "clinic": "uuid", "name": "text", "weight": "numeric(5,2)"}
RECORDS = {"id": "bigint", "pet_id": "bigint", "clinic": "uuid", "note": "text", "attrs": "jsonb"}
LABS = {"id": "bigint", "record_id": "integer", "value": "numeric"}


def head_of(name: str, columns: dict[str, str]) -> TableHead:
    return TableHead(name=name, schema=pa.schema([field_of(column, kind) for column, kind in columns.items()]))


def stream_of(head: TableHead, rows: Rows, size: int = 3) -> Callable[[], Iterator[pa.RecordBatch]]:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            columns = [pa.array([row[field.name] for row in part], field.type) for field in head.schema]
            yield pa.RecordBatch.from_arrays(columns, schema=head.schema)

    return batches


def node_of(name: str, columns: dict[str, str], rows: Rows, *children: NestNode, **relation: Any) -> NestNode:
    head = head_of(name, columns)
    return NestNode(head=head, batches=stream_of(head, rows), children=children, order=("id",), **relation)


def clinic(pets: Rows, records: Rows, labs: Rows) -> NestNode:
    lab = node_of("lab_results", LABS, labs, key=("record_id",), parent_key=("id",), field="lab_results")
    record = node_of("medical_records", RECORDS, records, lab, key=("pet_id", "clinic"), parent_key=("id", "clinic"),
                     field="medical_records")  # fmt: skip
    return node_of("pets", PETS, pets, record)


def pet(number: int, clinic_id: str = "a") -> dict[str, Any]:
    return {"id": number, "clinic": clinic_id, "name": f'"pet"\n{number}', "weight": Decimal("1.50")}


def record(number: int, pet_id: int | None, clinic_id: str | None = "a") -> dict[str, Any]:
    return {"id": number, "pet_id": pet_id, "clinic": clinic_id, "note": "],[", "attrs": '{"id": 1.10}'}


def lab(number: int, record_id: int | None) -> dict[str, Any]:
    return {"id": number, "record_id": record_id, "value": "0.100"}


def naive(parents: Rows, children: Rows, key: tuple[str, ...], parent_key: tuple[str, ...], field: str) -> Rows:
    """Puts the children into their parents; the answer is the orphans."""
    homes: dict[tuple[Any, ...], Rows] = {}
    for parent in parents:
        parent[field] = []
        homes.setdefault(tuple(parent[name] for name in parent_key), parent[field])
    orphans: Rows = []
    for child in sorted(children, key=lambda row: int(row["id"])):
        values = tuple(child[name] for name in key)
        (orphans if None in values else homes.get(values, orphans)).append(child)
    return orphans


def written(document: Document, folder: Path, spec_name: str = "ndjson", **options: Any) -> Path:
    spec = find_format(spec_name)
    path = folder / f"{'_'.join(document.route) or 'root'}.{spec.extension}"
    with path.open("wb") as sink:
        writer = spec.open(sink, options)
        writer.begin(document.head)
        for batch in document.batches():
            writer.write(batch)
        writer.close()
    return path


def parsed(document: Document, folder: Path) -> Rows:
    lines = written(document, folder).read_text().splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


def expected_of(rows: Rows) -> Rows:
    """What a JSON reader makes of rows of these tables."""

    def value(name: str, content: Any) -> Any:
        if name == "attrs" and content is not None:
            return json.loads(content, parse_float=Decimal)
        if name == "value" and content is not None:
            return Decimal(content)
        return expected_of(content) if isinstance(content, list) else content

    return [{name: value(name, content) for name, content in row.items()} for row in rows]


_few = st.integers(1, 4)
_pets = st.lists(st.builds(pet, _few, st.sampled_from("ab")), max_size=6)
_records = st.lists(st.builds(record, _few, st.none() | _few, st.none() | st.sampled_from("ab")), max_size=8)
_labs = st.lists(st.builds(lab, st.integers(1, 99), st.none() | st.integers(1, 5)), max_size=8)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pets=_pets, records=_records, labs=_labs)
def test_random_trees_equal_a_naive_nesting(tmp_path: Path, pets: Rows, records: Rows, labs: Rows) -> None:
    tree = clinic([dict(row) for row in pets], [dict(row) for row in records], [dict(row) for row in labs])
    lost_labs = naive(records, labs, ("record_id",), ("id",), "lab_results")
    lost_records = naive(pets, records, ("pet_id", "clinic"), ("id", "clinic"), "medical_records")
    expected = {
        (): pets,
        ("medical_records",): lost_records,
        ("medical_records", "lab_results"): lost_labs,
    }
    with nest(tree, scratch=tmp_path) as documents:
        found = {document.route: parsed(document, tmp_path) for document in documents}
        counted: Counter[str] = Counter()
        for document in documents:
            for below, count in document.rows.items():
                counted["/".join((*document.route, *below))] += count
    for route, rows in expected.items():
        ours, theirs = found.get(route, []), expected_of(rows)
        if route:  # orphans come in the order of their stream, where equal ids are as good as each other
            ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
        assert ours == theirs
    assert counted[""] == len(pets)
    assert counted["medical_records"] == len(records)
    assert counted["medical_records/lab_results"] == len(labs)


@pytest.mark.parametrize(("spec", "options"), [("ndjson", {}), ("json", {}), ("json", {"json_pretty": True})])
def test_nested_rows_are_read_back_by_their_route(tmp_path: Path, spec: str, options: dict[str, Any]) -> None:
    pets, records = [pet(1), pet(2)], [record(10, 2), record(11, 2), record(12, 7)]
    labs = [lab(100, 11), lab(101, 11), lab(102, 12), lab(103, None)]
    with nest(clinic(pets, records, labs), scratch=tmp_path) as documents:
        paths = {document.route: written(document, tmp_path, spec, **options) for document in documents}
    root, orphan_records = paths[()], paths["medical_records",]
    record_head, lab_head = head_of("medical_records", RECORDS), head_of("lab_results", LABS)
    assert _listed(find_format(spec).read(root, head_of("pets", PETS))) == pets
    assert _listed(read_nested(root, ("medical_records",), record_head)) == records[:2]
    assert _listed(read_nested(root, ("medical_records", "lab_results"), lab_head)) == labs[:2]
    assert _listed(read_nested(orphan_records, (), record_head)) == records[2:]
    assert _listed(read_nested(orphan_records, ("lab_results",), lab_head)) == labs[2:3]
    assert _listed(read_nested(paths["medical_records", "lab_results"], (), lab_head)) == labs[3:]


def _listed(batches: Iterable[pa.RecordBatch]) -> Rows:
    return [row for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("pets", [[], [pet(1), pet(2)]], ids=["no parents", "no children"])
def test_empty_tables_make_empty_arrays(tmp_path: Path, pets: Rows) -> None:
    with nest(clinic(pets, [], []), scratch=tmp_path) as documents:
        (root,) = documents
        assert [row["medical_records"] for batch in root.batches() for row in batch.to_pylist()] == ["[]"] * len(pets)
        assert root.rows == {(): len(pets), ("medical_records",): 0, ("medical_records", "lab_results"): 0}


def test_a_parent_with_fifty_thousand_children_keeps_them_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nest_sorting, "BUFFER_BYTES", 64 * 1024)
    records = [record(number, 2) for number in range(50_000)] + [record(60_000 + number, number) for number in range(9)]
    head = head_of("medical_records", RECORDS)
    child = NestNode(head=head, batches=stream_of(head, records[::-1], 7000), key=("pet_id",), parent_key=("id",),
                     field="medical_records", order=("id",))  # fmt: skip
    with nest(node_of("pets", PETS, [pet(number) for number in range(9)], child), scratch=tmp_path) as documents:
        (root,) = documents
        found = parsed(root, tmp_path)
    assert [len(row["medical_records"]) for row in found] == [1, 1, 50_001, 1, 1, 1, 1, 1, 1]
    assert [row["id"] for row in found[2]["medical_records"]] == [*range(50_000), 60_002]


def test_two_child_tables_stand_side_by_side(tmp_path: Path) -> None:
    names = {"id": "bigint", "pet_name": "text"}
    second = node_of("aliases", names, [{"id": 1, "pet_name": '"pet"\n2'}], key=("pet_name",), parent_key=("name",),
                     field="aliases")  # fmt: skip
    tree = clinic([pet(1), pet(2)], [record(10, 1)], [])
    tree = NestNode(head=tree.head, batches=tree.batches, order=("id",), children=(*tree.children, second))
    with nest(tree, scratch=tmp_path) as documents:
        found = parsed(documents[0], tmp_path)
    assert [(len(row["medical_records"]), len(row["aliases"])) for row in found] == [(1, 0), (0, 1)]


def test_a_document_can_be_streamed_again(tmp_path: Path) -> None:
    with nest(clinic([pet(1)], [record(10, 1)], []), scratch=tmp_path) as documents:
        assert list(documents[0].batches()) == list(documents[0].batches())


def test_the_scratch_folder_is_left_empty(tmp_path: Path) -> None:
    with nest(clinic([pet(1)], [record(10, 1), record(11, 5)], []), scratch=tmp_path):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_a_field_that_is_already_a_column_is_refused(tmp_path: Path) -> None:
    tree = node_of("pets", PETS, [], node_of("names", LABS, [], key=("id",), parent_key=("id",), field="name"))
    with (
        pytest.raises(RequestRejected, match="nest_as: pets already has a column 'name'"),
        nest(tree, scratch=tmp_path),
    ):
        pass
