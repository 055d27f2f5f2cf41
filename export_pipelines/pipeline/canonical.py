"""Canonical Parquet: the one form rows have between the source and the formats, and in the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export_pipelines.core.ports import ObjectStore, Progress
from export_pipelines.pipeline.overlap import behind

ROW_GROUP_BYTES = 16 * 1024 * 1024  # in memory, before encoding; up to three are alive at a time
READ_ROWS = 16 * 1024  # half of 32k's memory at the same speed; decoding columns in threads is slower here
_COMPRESSION, _LEVEL = "zstd", 1
_SAMPLE_ROWS = 16 * 1024


def write_canonical(
    store: ObjectStore,
    key: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    table: str,
    progress: Progress,
    footer: Mapping[bytes, bytes] | None = None,
    closing: Callable[[], Mapping[bytes, bytes]] | None = None,
) -> int:
    """Stream batches into one object, which appears when all are in; the number of rows.

    ``footer`` is kept with it, and what ``closing`` answers once all rows are in.
    """
    groups = _grouped(_counted(batches, table, progress), schema)
    first = next(groups, schema.empty_table())
    rows = 0
    with store.writing(key) as sink, _open_writer(sink, first, footer) as writer:
        with behind(writer.write_table) as write:
            for group in chain([first] if first.num_rows else [], groups):
                write(group)
                rows += group.num_rows
        if closing is not None and (metadata := closing()):
            writer.add_key_value_metadata(dict(metadata))
    return rows


def _open_writer(sink: BinaryIO, first: pa.Table, footer: Mapping[bytes, bytes] | None) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        first.schema.with_metadata(dict(footer)) if footer else first.schema,
        compression=_COMPRESSION,
        compression_level=_LEVEL,
        use_dictionary=[
            name for name, values in zip(first.schema.names, first.columns, strict=True) if _repeats(values)
        ],
    )


def _repeats(values: pa.ChunkedArray) -> bool:
    """Whether a dictionary pays: for keys, amounts and instants it costs a quarter of the encoding, and space."""
    sample = values.slice(0, _SAMPLE_ROWS)
    return len(sample) > 0 and pc.count_distinct(sample).as_py() <= len(sample) // 2


def _counted(batches: Iterable[pa.RecordBatch], table: str, progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        progress.advance(table=table, rows=batch.num_rows)
        yield batch


def _grouped(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    group: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += batch.nbytes
        if size >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(group, schema=schema)
            group, size = [], 0
    if group:
        yield pa.Table.from_batches(group, schema=schema)


def read_canonical(store: ObjectStore, keys: Iterable[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of several objects in order, in batches of at most `READ_ROWS`.

    ``schema`` may leave columns of theirs out; no others are then decoded.
    """
    for key in keys:
        with store.reading(key) as stream:
            yield from _batches(stream, schema)


def _batches(stream: BinaryIO, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(stream, pre_buffer=False) as file:
        columns = None if len(schema) == len(file.schema_arrow) else schema.names
        for batch in file.iter_batches(batch_size=READ_ROWS, columns=columns, use_threads=False):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
