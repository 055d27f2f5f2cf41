"""Documents in several files: a volume for each period, and as many files a volume as the limit of size asks for.

Rows are put aside first (`export_pipelines.pipeline.write.spill`): they arrive in no order of time, and a file
that turns out too large is written again. Rows nested in a record go where the record goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from export_pipelines.core.model import ExportFile, FilePart, Split
from export_pipelines.core.windows import UNDATED
from export_pipelines.formats.nest_counting import CountNested, nested_counting
from export_pipelines.pipeline.write.fitting import SizeLimit, Write, fitted
from export_pipelines.pipeline.write.heads import TableRows
from export_pipelines.pipeline.write.periods import by_period
from export_pipelines.pipeline.write.spill import Key, Spill

WriteFile = Callable[[str | None, int, Sequence[TableRows], SizeLimit], ExportFile]
"""(period, number of the file, what it holds, limit) → the file."""


@dataclass(frozen=True, kw_only=True)
class _Shelf:
    """The rows of one table in one volume."""

    source: TableRows
    key: Key
    rows: int


@dataclass(frozen=True, kw_only=True)
class _Volume:
    """What goes into the files of one period, or of none."""

    period: str | None
    shelves: tuple[_Shelf, ...]

    @property
    def rows(self) -> int:
        return sum(shelf.rows for shelf in self.shelves)

    @property
    def tables(self) -> str:
        return ", ".join(shelf.source.head.name for shelf in self.shelves)


@dataclass(frozen=True, kw_only=True)
class Periods:
    """How rows are told apart by time: the column of each table that stays not whole, and the clock."""

    columns: Mapping[str, str]
    timezone: str


def split_files(
    tables: Sequence[TableRows],
    split: Split,
    periods: Periods,
    spill: Spill,
    write: WriteFile,
    *,
    max_rows: int | None,
    expect: Callable[[int], None],
) -> Iterator[ExportFile]:
    """The files of one document, by period and size; tables without a time and without rows are in a file, too.

    ``expect`` hears, before the first, how many there will be at least.
    """
    with nested_counting() as count:
        volumes = _volumes(tables, split, periods, spill)
        expect(len(volumes))
        for volume in volumes:
            yield from fitted(
                volume.rows,
                _writing(volume, spill, count, write),
                limit_bytes=split.max_bytes,
                max_rows=max_rows if len(tables) == 1 else None,
                guess_bytes=sum(spill.size_bytes(shelf.key) for shelf in volume.shelves) / max(volume.rows, 1),
                what=volume.tables,
            )


def _writing(volume: _Volume, spill: Spill, count: CountNested, write: WriteFile) -> Write[ExportFile]:
    def write_rows(start: int, rows: int, number: int, limit: SizeLimit) -> ExportFile:
        return write(volume.period, number, _held(volume, start, rows, number, spill, count), limit)

    return write_rows


def _volumes(tables: Sequence[TableRows], split: Split, periods: Periods, spill: Spill) -> list[_Volume]:
    found: dict[str | None, list[_Shelf]] = {}
    for source in tables:
        _put_aside(source, split, periods, spill)
        name = source.head.name
        for key in spill.keys(name) or [(name, None)]:
            found.setdefault(key[1], []).append(_Shelf(source=source, key=key, rows=spill.rows(key)))
    return [_Volume(period=period, shelves=tuple(found[period])) for period in sorted(found, key=_place)]


def _place(period: str | None) -> tuple[bool, str]:
    """Whole tables first, rows without a time last."""
    return period == UNDATED, period or ""


def _put_aside(source: TableRows, split: Split, periods: Periods, spill: Spill) -> None:
    name = source.head.name
    column = periods.columns.get(name)
    for batch in source.batches:
        if column is None or split.period is None:
            spill.add((name, None), batch)
            continue
        for label, rows in by_period(batch, column, split.period, periods.timezone):
            spill.add((name, label), rows)


def _held(volume: _Volume, start: int, rows: int, number: int, spill: Spill, count: CountNested) -> list[TableRows]:
    """The rows from ``start`` on, table after table; a table without rows is in the volume's first file."""
    held, position, end = [], 0, start + rows
    for shelf in volume.shelves:
        first, after = max(start, position), min(end, position + shelf.rows)
        if first < after or (shelf.rows == 0 and number == 1):
            held.append(_range(shelf, first - position, max(after - first, 0), spill, count))
        position += shelf.rows
    return held


def _range(shelf: _Shelf, first: int, rows: int, spill: Spill, count: CountNested) -> TableRows:
    template = shelf.source.parts()
    nested = dict.fromkeys((part.route for part in template if part.route), 0)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in spill.read(shelf.key, first, rows):
            for route, found in (count(batch, nested) if nested else {}).items():
                nested[route] += found
            yield batch

    def parts() -> tuple[FilePart, ...]:
        return tuple(replace(part, rows=nested.get(part.route, rows)) for part in template)

    return TableRows(head=shelf.source.head, batches=batches(), parts=parts)
