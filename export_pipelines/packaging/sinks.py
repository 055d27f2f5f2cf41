"""Sinks stacked between a writer and the object store. Bytes only; formats and stores are elsewhere."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from isal import igzip

GZIP_LEVEL = 2  # ISA-L's 0–3: level 2 is within 10 % of level 1's speed and smaller
_BUFFER_BYTES = 1 << 20


class DigestSink(io.RawIOBase):
    """Counts and hashes what passes; never closes the sink below."""

    def __init__(self, below: BinaryIO) -> None:
        self._below = below
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """Of all bytes so far, hex."""
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._sha256.update(view)
        self.size_bytes += view.nbytes
        self._below.write(view)
        return view.nbytes


@contextmanager
def compressed(sink: BinaryIO, compression: str) -> Iterator[BinaryIO]:
    """``sink`` itself, or a gzip stream into it without name or time, so that equal rows give equal bytes."""
    if compression != "gzip":
        yield sink
        return
    with igzip.GzipFile(  # type: ignore[no-untyped-call]
        filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=sink, mtime=0
    ) as stream:
        buffered = io.BufferedWriter(cast("io.RawIOBase", stream), _BUFFER_BYTES)
        yield cast("BinaryIO", buffered)
        buffered.flush()
        buffered.detach()
