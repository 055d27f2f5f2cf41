"""Arrow batches over the decoder's buffers; nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from export_pipelines.sources.copy_decoder._decoder import Decoder
from export_pipelines.sources.copy_decoder.columns import DecodedColumn


def open_decoder(columns: Sequence[DecodedColumn], *, max_rows: int, max_bytes: int) -> Decoder:
    """A decoder for one result of these columns."""
    return Decoder(tuple(column.described for column in columns), max_rows=max_rows, max_bytes=max_bytes)


def take_batch(decoder: Decoder, columns: Sequence[DecodedColumn], names: Sequence[str]) -> pa.RecordBatch:
    """What was decoded since the last batch."""
    rows, taken = decoder.take()
    arrays = []
    for column, (nulls, valid, offsets, values) in zip(columns, taken, strict=True):
        parts = [valid, values] if offsets is None else [valid, offsets, values]
        buffers = [part if part is None else pa.py_buffer(part) for part in parts]
        arrays.append(pa.Array.from_buffers(column.arrow, rows, buffers, nulls))
    return pa.RecordBatch.from_arrays(arrays, names=list(names))
