"""Canonical Parquet: written in a thread behind its reader, and whole or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export_pipelines.core.errors import Cancelled, Unavailable
from export_pipelines.core.types import field_of
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline import canonical
from export_pipelines.pipeline.canonical import read_canonical, write_canonical
from export_pipelines.pipeline.progress import Unwatched

SCHEMA = pa.schema([field_of("id", "bigint"), field_of("state", "text"), field_of("amount", "numeric(12,2)")])
KEY = "stage/t.parquet"
ROWS = 1_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch a group."""
    monkeypatch.setattr(canonical, "ROW_GROUP_BYTES", 1)


def batch(start: int, rows: int = ROWS) -> pa.RecordBatch:
    ids = range(start, start + rows)
    cells = [list(ids), [f"state {i % 3}" for i in ids], [None if i % 7 else i for i in ids]]
    columns = [pa.array(cell, field.type) for cell, field in zip(cells, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def write(store: LocalStore, batches: Any) -> int:
    return write_canonical(store, KEY, batches, SCHEMA, table="t", progress=Unwatched())


@pytest.mark.parametrize("groups", [0, 1, 2, 3, 10])
def test_rows_keep_their_order_over_groups(store: LocalStore, small_groups: None, tmp_path: Path, groups: int) -> None:
    assert write(store, (batch(i * ROWS) for i in range(groups))) == groups * ROWS
    with duckdb.connect() as session:
        found = session.sql(f"SELECT id FROM '{tmp_path / KEY}'").fetchall()
    assert found == [(i,) for i in range(groups * ROWS)]
    assert pq.read_metadata(tmp_path / KEY).num_row_groups == groups
    assert sum(part.num_rows for part in read_canonical(store, [KEY], SCHEMA)) == groups * ROWS


def test_only_columns_that_repeat_get_a_dictionary(store: LocalStore, tmp_path: Path) -> None:
    write(store, [batch(0)])
    group = pq.read_metadata(tmp_path / KEY).row_group(0)
    encodings = {group.column(i).path_in_schema: group.column(i).encodings for i in range(3)}
    assert [name for name, used in encodings.items() if "RLE_DICTIONARY" in used] == ["state", "amount"]
    assert all(group.column(i).statistics.has_min_max for i in range(3))


class Stop(Exception):
    """Not one of ours."""


@pytest.mark.parametrize("error", [Unavailable("the source is gone"), Cancelled("enough"), Stop(), KeyboardInterrupt()])
@pytest.mark.parametrize("groups", [0, 1, 5])
def test_what_ends_the_reader_leaves_no_object_and_no_thread(
    store: LocalStore, small_groups: None, error: BaseException, groups: int
) -> None:
    def failing() -> Iterator[pa.RecordBatch]:
        yield from (batch(i) for i in range(groups))
        raise error

    with pytest.raises(type(error)) as found:
        write(store, failing())
    assert found.value is error
    assert store.list("") == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("canonical")]


@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_a_full_disk_stops_the_reader(
    store: LocalStore, small_groups: None, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    written: list[int] = []
    real = pq.ParquetWriter.write_table

    def full(writer: pq.ParquetWriter, table: pa.Table, *args: Any) -> None:
        if len(written) == fails_at:
            raise OSError(28, "No space left on device")
        written.append(table.num_rows)
        real(writer, table, *args)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for i in range(100):
            read.append(i)
            yield batch(i)

    with pytest.raises(OSError, match="No space left"):
        write(store, batches())
    assert len(read) <= fails_at + 3
    assert store.list("") == []
