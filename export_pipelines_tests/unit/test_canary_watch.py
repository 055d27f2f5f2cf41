"""The canary's marker is found wherever it stands in a file, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from export_pipelines.core.catalog import Canary
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.planning import format_options
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import field_of, value_type
from export_pipelines.formats.registry import all_formats
from export_pipelines.validation.canary import CanaryWatch

MARKER = "canary-0123456789abcdef"
WATCH = CanaryWatch(Canary(tenant="nobody", marker=MARKER))
SCHEMA = pa.schema(
    [
        field_of("id", value_type("bigint"), nullable=False),
        field_of("note", value_type("text"), nullable=True),
        field_of("extra", value_type("jsonb"), nullable=True),
    ]
)
HEAD = TableHead(name="notes", schema=SCHEMA, labels={})
HARMLESS = [(1, "a note", '{"a": 1}'), (2, MARKER[:-1], None), (3, MARKER.upper(), '["canary"]'), (4, None, None)]


def searched(spec: FormatSpec, path: Path) -> None:
    """As validation searches."""
    if spec.plain_text:
        WATCH.search_file(path, path.name)
        return
    for _ in WATCH.search_values(spec.read(path, HEAD), path.name):
        pass


def written(spec: FormatSpec, folder: Path, rows: Iterable[tuple[Any, ...]], options: Mapping[str, Any]) -> Path:
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    path = folder / f"notes.{spec.extension}"
    with path.open("wb") as sink:
        writer = spec.open(sink, format_options(spec, options, all_formats()))
        writer.begin(HEAD)
        writer.write(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        writer.close()
    return path


@pytest.mark.parametrize("options", [{}, {"csv_profile": "excel"}, {"json_pretty": True}])
@pytest.mark.parametrize("name", list(all_formats()))
@pytest.mark.parametrize(
    "row",
    [
        (5, MARKER, None),
        (5, f"before\n\"=<{MARKER}>,'\tafter", None),
        (5, f"={MARKER}", None),
        (5, "ä" * 40_000 + MARKER, None),  # longer than a cell of a workbook
        (5, None, json.dumps({"deep": [{"inside": f"é {MARKER}"}]})),
        (5, None, json.dumps({MARKER: 1})),
    ],
    ids=["alone", "between characters that are escaped", "like a formula", "in a long text", "in JSON", "as a name"],
)
def test_the_marker_is_found_in_every_format(
    tmp_path: Path, name: str, row: tuple[Any, ...], options: dict[str, Any]
) -> None:
    spec = all_formats()[name]
    path = written(spec, tmp_path, [*HARMLESS, row, *HARMLESS], options)
    with pytest.raises(IntegrityViolation, match=f"{path.name} holds the canary's marker"):
        searched(spec, path)


@pytest.mark.parametrize("name", list(all_formats()))
def test_rows_without_the_marker_raise_no_alarm(tmp_path: Path, name: str) -> None:
    spec = all_formats()[name]
    searched(spec, written(spec, tmp_path, HARMLESS, {}))


def test_two_neighbours_that_only_together_spell_the_marker_raise_no_alarm() -> None:
    batch = pa.record_batch({"a": [MARKER[:9], MARKER[9:]]})
    assert list(WATCH.search_values([batch], "a.parquet")) == [batch]


def test_a_slice_is_not_blamed_for_what_lies_outside_it() -> None:
    whole = pa.record_batch({"a": ["x", MARKER]})
    assert list(WATCH.search_values([whole.slice(0, 1)], "a.parquet")) == [whole.slice(0, 1)]
    with pytest.raises(IntegrityViolation):
        list(WATCH.search_values([whole.slice(1, 1)], "a.parquet"))


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    ids=["text", "large", "dictionary"],
)
def test_every_form_of_text_is_searched(kind: pa.DataType) -> None:
    batch = pa.record_batch([pa.array(["x", None, MARKER]).cast(kind)], ["a"])
    with pytest.raises(IntegrityViolation):
        list(WATCH.search_values([batch], "a.parquet"))


@pytest.mark.parametrize("shift", range(-len(MARKER) - 1, 2))
def test_the_marker_is_found_over_the_edge_of_what_is_read_at_a_time(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "wide.csv"
    path.write_bytes(b"x" * (2**20 + shift) + MARKER.encode() + b"y" * 2**20)
    with pytest.raises(IntegrityViolation):
        WATCH.search_file(path, path.name)


def test_an_empty_file_and_a_catalog_without_a_canary_have_nothing_to_find(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    WATCH.search_file(tmp_path / "empty.csv", "empty.csv")
    (tmp_path / "marked.csv").write_text(MARKER)
    nothing = CanaryWatch(None)
    nothing.search_file(tmp_path / "marked.csv", "marked.csv")
    assert (WATCH.seen, nothing.seen) == (0, None)


@pytest.mark.parametrize("marker", ["short", "with spaces in between", "under_scores_are_not", "<" * 20, "a" * 201, ""])
def test_a_marker_that_a_format_could_escape_or_that_could_occur_by_chance_is_refused(marker: str) -> None:
    with pytest.raises(ValueError, match="marker"):
        Canary(tenant="nobody", marker=marker)
