"""Canonical Parquet: the one form rows have between the source and the formats, and in the lake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from export_pipelines.core.ports import ObjectStore, Progress

ROW_GROUP_BYTES = 32 * 1024 * 1024  # in memory, before encoding
READ_ROWS = 16 * 1024  # half of 32k's memory at the same speed; decoding columns in threads is slower here
_COMPRESSION, _LEVEL = "zstd", 1


def write_canonical(
    store: ObjectStore,
    key: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    table: str,
    progress: Progress,
) -> int:
    """Stream batches into one object, which appears when all are in; the number of rows."""
    rows = 0
    with (
        store.writing(key) as sink,
        pq.ParquetWriter(sink, schema, compression=_COMPRESSION, compression_level=_LEVEL) as writer,
    ):
        for group in _grouped(_counted(batches, table, progress)):
            writer.write_table(pa.Table.from_batches(group, schema=schema))
            rows += sum(batch.num_rows for batch in group)
    return rows


def _counted(batches: Iterable[pa.RecordBatch], table: str, progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        progress.advance(table=table, rows=batch.num_rows)
        yield batch


def _grouped(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def read_canonical(store: ObjectStore, keys: Iterable[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of several objects in order, in batches of at most `READ_ROWS`."""
    for key in keys:
        with store.reading(key) as stream:
            yield from _batches(stream, schema)


def _batches(stream: BinaryIO, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(stream, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=READ_ROWS, use_threads=False):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
