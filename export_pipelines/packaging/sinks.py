"""Sinks stacked between a writer and the object store. Bytes only; formats and stores are elsewhere."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from isal import isal_zlib

from export_pipelines.packaging.codecs import Codec, Compressor

_BUFFER_BYTES = 1 << 20


class DigestSink(io.RawIOBase):
    """Counts and hashes what passes; never closes the sink below."""

    def __init__(self, below: BinaryIO) -> None:
        self._below = below
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self.crc32 = 0  # of all bytes so far

    @property
    def sha256(self) -> str:
        """Of all bytes so far, hex."""
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._sha256.update(view)
        self.crc32 = isal_zlib.crc32(view, self.crc32)
        self.size_bytes += view.nbytes
        self._below.write(view)
        return view.nbytes


class HandingSink(io.RawIOBase):
    """Hands what is written to somebody who takes it later, so as bytes that nobody changes."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        copied = bytes(data)
        self._take(copied)
        return len(copied)


class CompressingSink(io.RawIOBase):
    """Compresses what passes. Only `finish` ends the stream, so an error never leaves a whole one.

    Always so many bytes at a time: where its input is cut changes what ISA-L makes of it.
    """

    def __init__(self, below: BinaryIO, compressor: Compressor) -> None:
        self._below = below
        self._compressor = compressor
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._waiting += data
        start = 0
        while len(self._waiting) - start >= _BUFFER_BYTES:
            self._compress(start, start + _BUFFER_BYTES)
            start += _BUFFER_BYTES
        del self._waiting[:start]
        return memoryview(data).nbytes

    def finish(self) -> None:
        self._compress(0, len(self._waiting))
        self._waiting.clear()
        self._below.write(self._compressor.flush())

    def _compress(self, start: int, end: int) -> None:
        self._below.write(self._compressor.compress(bytes(memoryview(self._waiting)[start:end])))


@contextmanager
def compressed(sink: BinaryIO, codec: Codec | None) -> Iterator[BinaryIO]:
    """``sink`` itself, or a compressed stream into it; equal rows give equal bytes."""
    if codec is None:
        yield sink
        return
    stream = CompressingSink(sink, codec.compressor())
    yield cast("BinaryIO", stream)
    stream.finish()
