"""First rows of tables as JSON, never more of them than there is room for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import text_frame

SAMPLE_BYTES = 256 * 1024  # of all rows that are shown, as JSON
_EXACT = 2**53  # integers beyond it are not exact in every reader of JSON


class Sampler:
    """Takes the first ``rows`` of each of ``tables`` tables; each gets the same share of `SAMPLE_BYTES`."""

    def __init__(self, taken: dict[str, list[dict[str, Any]]], *, rows: int, tables: int) -> None:
        self._taken = taken
        self._rows = rows
        self._share = SAMPLE_BYTES // max(1, tables)
        self._left: dict[str, int] = {}

    def take(self, table: str, batch: pa.RecordBatch) -> None:
        """Rows one by one, until there are enough or one does not fit."""
        if not self._rows:
            return
        taken = self._taken.setdefault(table, [])
        left = self._left.get(table, self._share)
        for at in range(min(self._rows - len(taken), batch.num_rows)):
            row = batch.slice(at, 1)
            if row.nbytes > left:  # not even worth rendering
                left = 0
                break
            sample = json_row(row)
            left -= len(json.dumps(sample, ensure_ascii=False).encode())
            if left < 0:
                break
            taken.append(sample)
        self._left[table] = left


def json_row(row: pa.RecordBatch) -> dict[str, Any]:
    """The one row of a batch; what JSON cannot hold exactly is the text that files have for it."""
    texts = text_frame(row).row(0)
    return {field.name: _json_value(field, text) for field, text in zip(row.schema, texts, strict=True)}


def _json_value(field: pa.Field, text: str | None) -> Any:
    read = _NATIVE.get(kind_of(field))
    return text if text is None or read is None else read(text)


def _integer(text: str) -> int | str:
    return int(text) if abs(int(text)) <= _EXACT else text


def _float(text: str) -> float | str:
    return float(text) if math.isfinite(float(text)) else text


_NATIVE: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOLEAN: lambda text: text == "true",
    Kind.INTEGER: _integer,
    Kind.FLOAT: _float,
}
