"""Rows put aside on disk, under keys, to be read again in any part and as often as needed.

For what cannot be written in the order in which rows arrive: a file for each period, a file that must be begun anew.
One scratch file that has no name, so that nothing of it outlives the process; memory is bounded by `_HELD_BYTES`.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow as pa

from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.canonical import READ_ROWS

_HELD_BYTES = 32 * 1024 * 1024
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")
Key = tuple[str, str | None]  # table, period


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Some rows as an Arrow stream of their own."""

    offset: int
    length: int
    rows: int


class Spill:
    """Rows by key, in the order in which they were added."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._segments: dict[Key, list[_Segment]] = defaultdict(list)
        self._held: dict[Key, list[pa.RecordBatch]] = defaultdict(list)
        self._held_bytes = 0
        self._end = 0
        self._rows: dict[Key, int] = defaultdict(int)
        self._bytes: dict[Key, int] = defaultdict(int)

    def add(self, key: Key, batch: pa.RecordBatch) -> None:
        self._held[key].append(batch)
        self._held_bytes += batch.nbytes
        self._rows[key] += batch.num_rows
        self._bytes[key] += batch.nbytes
        if self._held_bytes >= _HELD_BYTES:
            self._flush()

    def keys(self, table: str) -> list[Key]:
        return [key for key in self._rows if key[0] == table]

    def rows(self, key: Key) -> int:
        return self._rows.get(key, 0)

    def size_bytes(self, key: Key) -> int:
        """In memory."""
        return self._bytes.get(key, 0)

    def read(self, key: Key, start: int, rows: int) -> Iterator[pa.RecordBatch]:
        """``rows`` rows from the one at ``start``."""
        self._flush()
        position, end = 0, start + rows
        for segment in self._segments[key]:
            first, after = max(start, position), min(end, position + segment.rows)
            if first < after:
                yield self._load(segment).slice(first - position, after - first)
            position += segment.rows

    def _load(self, segment: _Segment) -> pa.RecordBatch:
        self._file.seek(segment.offset)
        with pa.ipc.open_stream(pa.py_buffer(self._file.read(segment.length))) as stream:
            return stream.read_next_batch()

    def _flush(self) -> None:
        for key, batches in self._held.items():
            table = pa.Table.from_batches(batches).combine_chunks()
            for batch in table.to_batches(max_chunksize=READ_ROWS):
                self._append(key, batch)
        self._held.clear()
        self._held_bytes = 0

    def _append(self, key: Key, batch: pa.RecordBatch) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as stream:
            stream.write_batch(batch)
        content = sink.getvalue()
        self._file.seek(self._end)
        self._file.write(content)
        self._segments[key].append(_Segment(offset=self._end, length=content.size, rows=batch.num_rows))
        self._end += content.size


@contextmanager
def spilling(scratch: Path) -> Iterator[Spill]:
    """An empty spill in a scratch folder; `Unavailable` when the disk is full."""
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=scratch, buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise _full(scratch, error) from error
    with file:
        yield Spill(_Explained(file, scratch))  # type: ignore[arg-type]


class _Explained:
    """A scratch file whose write errors say what to do, and are told from those of the store."""

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self._file = file
        self._folder = folder
        self.seek, self.read = file.seek, file.read

    def write(self, data: pa.Buffer) -> None:
        view = memoryview(data)
        try:
            while view:  # an unbuffered file may take less than all
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _full(self._folder, error) from error


def _full(folder: Path, error: OSError) -> Unavailable:
    return Unavailable(f"cannot put rows aside in {folder}: {error.strerror}; free space there, then retry")
