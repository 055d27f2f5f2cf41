"""Parquet: what other readers find in the files."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import Kind, field_of, kind_of
from export_pipelines.formats import parquet

HEAD = TableHead(name="pets", schema=pa.schema([field_of("id", "bigint", nullable=False), field_of("tags", "jsonb")]))


def batches(rows: int, *, step: int = 10_000) -> Iterator[pa.RecordBatch]:
    for start in range(0, rows, step):
        ids = range(start, min(start + step, rows))
        yield pa.RecordBatch.from_pydict({"id": ids, "tags": [f'["{i}"]' for i in ids]}, schema=HEAD.schema)


def written(path: Path, rows: int, **options: Any) -> pq.ParquetFile:
    with path.open("wb") as sink:
        writer = parquet.SPEC.open(sink, options)
        writer.begin(HEAD)
        for batch in batches(rows):
            writer.write(batch)
        writer.close()
        assert not sink.closed
    return pq.ParquetFile(path)


@pytest.mark.parametrize(
    ("choice", "codec"), [("snappy", "SNAPPY"), ("zstd", "ZSTD"), ("gzip", "GZIP"), ("none", "UNCOMPRESSED")]
)
def test_the_codec_is_the_one_asked_for(tmp_path: Path, choice: str, codec: str) -> None:
    metadata = written(tmp_path / "pets.parquet", 100, parquet_compression=choice).metadata
    assert metadata.row_group(0).column(0).compression == codec


def test_zstd_is_the_default(tmp_path: Path) -> None:
    assert written(tmp_path / "pets.parquet", 1).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("options", [{"parquet_compression": "lzo"}, {"parquet_compresion": "zstd"}])
def test_unknown_options_are_refused(tmp_path: Path, options: dict[str, str]) -> None:
    with (tmp_path / "pets.parquet").open("wb") as sink, pytest.raises(ValidationError):
        parquet.SPEC.open(sink, options)


def test_row_groups_are_bounded_and_carry_statistics(tmp_path: Path) -> None:
    metadata = written(tmp_path / "pets.parquet", 300_000).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert sum(group.num_rows for group in groups) == metadata.num_rows == 300_000
    assert max(group.num_rows for group in groups) < 2 * parquet.ROW_GROUP_ROWS
    assert len(groups) > 1
    assert groups[0].column(0).statistics.min == 0
    assert groups[-1].column(0).statistics.max == 299_999


def test_fields_keep_their_kind_and_postgresql_type(tmp_path: Path) -> None:
    schema = written(tmp_path / "pets.parquet", 1).schema_arrow
    assert schema.equals(HEAD.schema, check_metadata=True)
    assert [kind_of(field) for field in schema] == [Kind.INTEGER, Kind.JSON]


def test_json_is_plain_text_to_every_reader(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    written(path, 2)
    assert pl.read_parquet(path).schema["tags"] == pl.String
    with duckdb.connect() as session:
        found = session.execute("SELECT tags FROM read_parquet($1)", [str(path)]).fetchall()
    assert found == [('["0"]',), ('["1"]',)]


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([field_of("id", "bigint", nullable=False)]),
        pa.schema([field_of("id", "bigint"), field_of("label", "jsonb")]),
        pa.schema([field_of("id", "integer"), field_of("tags", "jsonb")]),
    ],
    ids=["a column less", "another name", "another type"],
)
def test_a_file_with_other_columns_is_a_violation(tmp_path: Path, schema: pa.Schema) -> None:
    path = tmp_path / "pets.parquet"
    written(path, 2)
    with pytest.raises(IntegrityViolation, match="columns"):
        list(parquet.SPEC.read(path, TableHead(name="pets", schema=schema)))


def test_a_truncated_file_is_a_violation(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    written(path, 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityViolation, match=r"pets\.parquet"):
        list(parquet.SPEC.read(path, HEAD))


def test_a_second_table_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "pets.parquet").open("wb") as sink:
        writer = parquet.SPEC.open(sink, {})
        writer.begin(HEAD)
        with pytest.raises(ValueError, match="one table"):
            writer.begin(HEAD)
        writer.close()


def test_an_abandoned_file_is_not_completed() -> None:
    sink = io.BytesIO()
    writer = parquet.SPEC.open(sink, {})
    writer.begin(HEAD)
    for batch in batches(200_000):
        writer.write(batch)
    size_bytes = len(sink.getvalue())
    del writer
    gc.collect()
    assert len(sink.getvalue()) == size_bytes > 100_000
    sink.close()
