"""Child records on disk, sorted by the parent they belong to, and read back alongside the parents.

A parent is known by its ordinal, its position in its own stream, so any kind of key becomes one integer and parents
need no sorting. DuckDB matches and sorts within a memory limit and spills beyond it. What a tree of tables is and
what becomes of orphans is decided in `export_pipelines.formats.nesting`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from export_pipelines.core.errors import Unavailable
from export_pipelines.formats.parsing import quoted

BUFFER_BYTES = 16 * 1024 * 1024  # of child records held for one slice of parents, unless one parent has more
_READ_ROWS = 8192
_OWN = "own"  # a row's ordinal in its stream


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Child rows that found their parent, sorted, and those that did not. Ordinals count from 0."""

    nested: Path  # parent, own: ordinals; object: JSON text. Sorted by parent, then by the child's own order
    orphans: Path  # own: ordinals, ascending
    nested_rows: int
    orphan_rows: int


def spill(parts: Iterable[Sequence[pa.Array]], schema: pa.Schema, path: Path) -> int:
    """Write the columns of ``schema`` to Parquet, part by part, numbered by ``own``; the number of rows."""
    rows = 0
    numbered = schema.append(pa.field(_OWN, pa.int64()))
    with pq.ParquetWriter(path, numbered, compression="lz4") as writer:
        for part in parts:
            length = len(part[0])
            own = pa.array(range(rows, rows + length), pa.int64())
            writer.write_batch(pa.RecordBatch.from_arrays([*part, own], schema=numbered))
            rows += length
    return rows


def match(parents: Path, children: Path, *, width: int, order: int, scratch: Path, memory_limit_mb: int) -> Matched:
    """Match child rows with their parents by the key columns ``k0…`` and sort them by ``o0…`` inside a parent.

    A key that several parents share belongs to the first of them; one with a NULL belongs to none.
    """
    first, found, nested, orphans = (
        children.with_suffix(f".{stage}.parquet") for stage in ("first", "found", "nested", "orphans")
    )
    keys = ", ".join(f"k{i}" for i in range(width))
    same = " AND ".join(f"c.k{i} = p.k{i}" for i in range(width))
    sort = ", ".join(["parent", *(f"o{i} NULLS LAST" for i in range(order)), "own"])
    payload = ", ".join([*(f"c.o{i}" for i in range(order)), "c.own AS own", "c.object AS object"])
    child, parent = f"{_parquet(children)} AS c", f"{_parquet(first)} AS p"
    # One blocking operator a statement: together they would have to share the limit, alone each can spill.
    with _session(scratch, memory_limit_mb) as connection:
        copy = functools.partial(_copy, connection)
        copy(f"{keys}, min(own) AS own FROM {_parquet(parents)} GROUP BY ALL", first)
        copy(f"p.own AS parent, {payload} FROM {child} JOIN {parent} ON {same}", found)
        orphan_rows = copy(f"c.own AS own FROM {child} ANTI JOIN {parent} ON {same} ORDER BY own", orphans)
        nested_rows = copy(f"parent, own, object FROM {_parquet(found)} ORDER BY {sort}", nested)
    first.unlink()
    found.unlink()
    return Matched(nested=nested, orphans=orphans, nested_rows=nested_rows, orphan_rows=orphan_rows)


def count_below(base: Path | None, route: Sequence[Path], *, scratch: Path, memory_limit_mb: int) -> int:
    """How many rows at the end of a route of `Matched.nested` files hang below the rows of ``base`` (None: all)."""
    query = f"SELECT own FROM {_parquet(base)}" if base is not None else ""  # noqa: S608
    for path in route:
        within = f" WHERE parent IN ({query})" if query else ""
        query = f"SELECT own FROM {_parquet(path)}{within}"  # noqa: S608
    with _session(scratch, memory_limit_mb) as connection:
        row = connection.execute(f"SELECT count(*) FROM ({query})").fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def ordinals(path: Path) -> Iterator[pa.Array]:
    """The ``own`` column of a file, in order, some thousands at a time."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_READ_ROWS, columns=[_OWN]):
            yield batch.column(0)


@dataclass(kw_only=True)
class ChildCursor:
    """Reads a `Matched.nested` file once, forward, parent by parent."""

    path: Path
    _buffer: list[pl.DataFrame] = field(default_factory=list)
    _size_bytes: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        self._batches = self._read()

    def complete_until(self, parent: int) -> int | None:
        """Load records; all parents from ``parent`` up to the answer (excluded) are loaded whole. None: all are."""
        while not self._ended and (self._size_bytes < BUFFER_BYTES or self._last() <= parent):
            frame = next(self._batches, None)
            if frame is None:
                self._ended = True
            else:
                self._buffer.append(frame)
                self._size_bytes += int(frame["object"].str.len_bytes().sum())
        return None if self._ended else self._last()

    def arrays(self, start: int, rows: int) -> pl.Series:
        """JSON text of the array of each parent in ``[start, start + rows)``, which must be loaded whole."""
        loaded = pl.concat(self._buffer) if self._buffer else _nothing()
        cut = loaded["parent"].search_sorted(start + rows, side="left")
        wanted, rest = loaded[:cut], loaded[cut:]
        self._buffer = [rest] if rest.height else []
        self._size_bytes = int(rest["object"].str.len_bytes().sum())
        joined = wanted.group_by("parent", maintain_order=True).agg(pl.col("object").str.join(","))
        parents = pl.DataFrame({"parent": pl.int_range(start, start + rows, eager=True)})
        found = parents.join(joined, on="parent", how="left", maintain_order="left")
        return found.select("[" + pl.col("object").fill_null("") + "]").to_series()

    def _last(self) -> int:
        return int(self._buffer[-1]["parent"][-1]) if self._buffer else -1

    def _read(self) -> Iterator[pl.DataFrame]:
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS, columns=["parent", "object"]):
                frame = pl.from_arrow(batch)
                if isinstance(frame, pl.DataFrame) and frame.height:
                    yield frame


def _nothing() -> pl.DataFrame:
    return pl.DataFrame(schema={"parent": pl.Int64, "object": pl.String})


def _session(scratch: Path, memory_limit_mb: int) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(
        config={
            "memory_limit": f"{memory_limit_mb}MB",
            "temp_directory": str(scratch),
            "threads": 1,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )


def _copy(connection: duckdb.DuckDBPyConnection, selection: str, path: Path) -> int:
    """Write what ``SELECT`` makes of a selection to Parquet; the number of rows."""
    form = f"(FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE {2 * _READ_ROWS})"
    try:
        row = connection.execute(f"COPY (SELECT {selection}) TO {quoted(str(path))} {form}").fetchone()
    except duckdb.OutOfMemoryException as error:
        raise Unavailable("nesting records needs more memory than its limit; raise the limit and try again") from error
    return int(row[0]) if row else 0


def _parquet(path: Path) -> str:
    return f"read_parquet({quoted(str(path))})"
