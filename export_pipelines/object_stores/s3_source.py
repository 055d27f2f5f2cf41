"""A seekable source over one S3 object whose errors are ours."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import smart_open.s3


class Source(io.BufferedIOBase):
    """smart_open's reader: one streaming request until somebody seeks, repeated where the connection breaks."""

    def __init__(
        self, client: Any, bucket: str, key: str, explained: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._explained = explained
        with explained():
            self._reader = smart_open.s3.open(bucket, key, "rb", client=client)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._reader.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._explained():
            return int(self._reader.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:
        with self._explained():
            return bytes(self._reader.read(-1 if size is None else size))

    def read1(self, size: int = -1) -> bytes:
        with self._explained():
            return bytes(self._reader.read1(size))

    def close(self) -> None:
        if not self.closed:
            self._reader.close()
        super().close()
