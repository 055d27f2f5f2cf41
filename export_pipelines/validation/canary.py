"""Looks for the canary's marker in what is read back from finished files; finding it means that tenants were mixed.

Files whose bytes are plain text are searched as bytes, all of them, headers and what no reader returns included; of
others every text and JSON value is searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.catalog import Canary
from export_pipelines.core.errors import IntegrityViolation

_WINDOW_BYTES = 1 << 20


class CanaryWatch:
    """Raises `IntegrityViolation` at the first sight of the marker; without a canary it looks at nothing."""

    def __init__(self, canary: Canary | None) -> None:
        self._marker = canary.marker.encode() if canary else None

    @property
    def seen(self) -> int | None:
        """How often it was met by whoever got as far as asking; None where there is nothing to look for."""
        return None if self._marker is None else 0

    def search_file(self, path: Path, name: str) -> None:
        """Every byte, at some 4 GB a second; a file mapped into memory would count as this process's own."""
        if self._marker is None:
            return
        window, carried = bytearray(_WINDOW_BYTES), 0
        with path.open("rb", buffering=0) as file:
            while size := file.readinto(memoryview(window)[carried:]):
                end = carried + size
                if window.find(self._marker, 0, end) >= 0:
                    raise _leak(name)
                carried = min(end, len(self._marker) - 1)  # the marker may lie over the edge of two windows
                window[:carried] = window[end - carried : end]

    def search_values(self, batches: Iterable[pa.RecordBatch], name: str) -> Iterator[pa.RecordBatch]:
        """The batches as they come, each searched before it is handed on."""
        if self._marker is None:
            yield from batches
            return
        for batch in batches:
            if any(self._in_column(column) for column in batch.columns):
                raise _leak(name)
            yield batch

    def _in_column(self, values: pa.Array) -> bool:
        assert self._marker is not None
        if pa.types.is_dictionary(values.type):
            values = values.dictionary
        if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
            return False
        # All values at once, as the bytes lie in memory, ten times as fast as value by value. A hit may reach over two
        # of them, or lie outside a slice, so it is asked again.
        content = values.buffers()[2]
        if content is None or self._marker not in content.to_pybytes():
            return False
        return pc.any(pc.match_substring(values, self._marker.decode())).as_py() is True


def _leak(name: str) -> IntegrityViolation:
    return IntegrityViolation(
        f"{name} holds the canary's marker, so rows of another tenant are in it; nothing was published; check the "
        "policies with `export-pipelines catalog check` before anything else is exported"
    )
