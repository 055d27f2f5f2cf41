"""Texts longer than a cell of a workbook may hold (32,767 UTF-16 units): nothing is cut off.

The cell shows the beginning and a mark. The whole text is on a sheet of its own, ``Long texts``, a row for each part:
the sheet and the cell it belongs to, the number of the part, the part. The parts of a cell, one behind the other, are
its text. They are in the order of the cells, so that a reader needs no more memory than a writer.
"""

from __future__ import annotations

import re
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO

import polars as pl
import pyarrow as pa

from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats.xlsx.cells import (
    GOES_ON,
    SHOWN_CHARACTERS,
    CellRule,
    Facts,
    column_index,
    column_letters,
    may_be_long,
    too_long,
)

PART_CHARACTERS = 16_000  # at most twice as many units
LONG_TEXTS = TableHead(
    name="Long texts",
    title="Texts that are too long for a cell",
    schema=pa.schema(
        [
            field_of(name, pg_type, nullable=False)
            for name, pg_type in (("sheet", "text"), ("cell", "text"), ("part", "integer"), ("text", "text"))
        ]
    ),
)
_REFERENCE = re.compile("([A-Z]{1,3})([0-9]{1,7})")


class LongTexts:
    """Gathers long texts while sheets are written, on disk."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._stream: pa.RecordBatchStreamWriter | None = None

    def gather(
        self, frame: pl.DataFrame, rules: Sequence[CellRule], facts: Facts, *, sheet: str, first_row: int
    ) -> None:
        """Keep those of a batch that starts at ``first_row`` of the sheet."""
        found: list[tuple[int, int, str]] = []
        for index, rule in enumerate(rules):
            if may_be_long(rule, facts):
                texts = frame.select(pl.int_range(pl.len()).alias("row"), rule.text.alias("text"))
                found += [(row, index, text) for row, text in texts.filter(too_long(pl.col("text"))).iter_rows()]
        for row, index, text in sorted(found):
            self._keep(sheet, f"{column_letters(index)}{first_row + row}", text)

    def _keep(self, sheet: str, cell: str, text: str) -> None:
        if self._stream is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the writer
            weakref.finalize(self, self._file.close)  # also where writing failed and nobody calls `batches`
            self._stream = pa.ipc.new_stream(self._file, LONG_TEXTS.schema)
        parts = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
        count = len(parts)
        columns = [[sheet] * count, [cell] * count, range(1, count + 1), parts]
        arrays = [pa.array(values, of.type) for values, of in zip(columns, LONG_TEXTS.schema, strict=True)]
        self._stream.write_batch(pa.RecordBatch.from_arrays(arrays, schema=LONG_TEXTS.schema))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """What was gathered, a text at a time."""
        if self._file is None or self._stream is None:
            return
        self._stream.close()
        self._file.seek(0)
        with self._file, pa.ipc.open_stream(self._file) as stream:
            yield from stream


@dataclass(frozen=True, order=True)
class Place:
    """A cell of a workbook; places are in reading order."""

    sheet: int
    row: int  # from 1
    column: int  # from 0


def place_of(sheet: int, cell: str) -> Place | None:
    """Where a reference such as ``C7`` points; None when it is none."""
    match = _REFERENCE.fullmatch(cell)
    return Place(sheet, int(match[2]), column_index(match[1])) if match else None


def shown(text: str) -> str:
    """What the cell itself holds of a long text."""
    return text[:SHOWN_CHARACTERS] + GOES_ON


@dataclass
class LongCells:
    """Long texts read back, in step with the sheets they belong to."""

    parts: Iterator[tuple[Place, str]]
    _waiting: tuple[Place, str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        grouped = groupby(self.parts, key=lambda part: part[0])
        self._cells = ((place, "".join(text for _, text in parts)) for place, parts in grouped)

    def between(self, start: Place, end: Place) -> Iterator[tuple[Place, str]]:
        """Those from ``start`` to before ``end``; earlier ones are passed over."""
        while True:
            found = self._waiting or next(self._cells, None)
            self._waiting = found
            if found is None or not found[0] < end:
                return
            self._waiting = None
            if not found[0] < start:
                yield found
