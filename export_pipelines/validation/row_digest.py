"""An account of rows read back from a file: counts, totals and an order-free digest, computed by DuckDB.

The source's account of the same rows comes from PostgreSQL (`export_pipelines.sources.aggregates`); the rule
which figure stands for which type is `export_pipelines.core.types.total_of`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import reduce
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa

from export_pipelines.core.columns import positional
from export_pipelines.core.model import ColumnAggregate, TableAggregates
from export_pipelines.core.types import Kind, Total, kind_of, plain_number, total_of

# No FILTER: DuckDB has a copy of all columns for each, which is memory in the square of their number.
_TOTALS = {
    Total.TRUES: "count(CASE WHEN {} THEN 1 END)",
    Total.SUM: "sum({})",
    Total.DAYS: "sum(({} - DATE '1970-01-01')::HUGEINT)",
    Total.MICROSECONDS: "sum(epoch_us({})::HUGEINT)",
}
MEMORY_LIMIT = "64MB"
_COLUMN_KIB = 256  # beyond 256 columns the limit follows their number: 400 MB for the 1,600 that PostgreSQL allows
_LEAST_KIB = 64 * 1024
_SUMMABLE_DIGITS = 24  # leaves 14 of the 38 digits of DuckDB's sums for adding up rows
_WORD = 1 << 64
# Of a decimal's 128 bits the upper and the lower half, which is unsigned.
_UPPER, _LOWER = "sum({0}[2])", "sum({0}[1]) + 18446744073709551616::HUGEINT * count(CASE WHEN {0}[1] < 0 THEN 1 END)"
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # Python's own rounds to 28 digits


@dataclass(frozen=True, kw_only=True)
class Account:
    """Figures of one table in one file. Accounts of several files add up."""

    aggregates: TableAggregates
    digest: int  # sum of a 64-bit hash of each whole row: any order, every duplicate counts

    def __add__(self, other: Account) -> Account:
        columns = {name: _added(mine, other.aggregates.columns[name]) for name, mine in self.aggregates.columns.items()}
        rows = self.aggregates.rows + other.aggregates.rows
        return Account(aggregates=TableAggregates(rows=rows, columns=columns), digest=self.digest + other.digest)


@contextmanager
def accounting() -> Iterator[duckdb.DuckDBPyConnection]:
    """A session for many accounts: opening one takes three times as long as the account of a small file."""
    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "threads": 1}) as session:
        session.execute("SET TimeZone = 'UTC'").fetchall()
        yield session


def account(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, session: duckdb.DuckDBPyConnection | None = None
) -> Account:
    """Read all batches once; memory is bounded by one batch, and by `MEMORY_LIMIT` or the number of columns.

    What ends their reading is raised as it is.
    """
    # By position: DuckDB takes names that differ only in case for one.
    columns = positional(schema)
    words = pa.schema([pa.field(_words(field.name), _PAIR) for field in columns if _is_wide(field)])
    ended: list[BaseException] = []
    read = pa.schema([*columns, *words])
    reader = pa.RecordBatchReader.from_batches(read, _renamed(batches, columns, read, ended))
    with accounting() if session is None else nullcontext(session) as connection:
        if len(columns) * _COLUMN_KIB > _LEAST_KIB:
            connection.execute(f"SET memory_limit = '{len(columns) * _COLUMN_KIB}KiB'").fetchall()
        connection.register("rows_read", reader)
        try:
            (row,) = connection.execute(_query(columns)).fetchall()
        except duckdb.Error:
            if ended:  # DuckDB keeps no more of it than its text
                raise ended[0] from None
            raise
        connection.unregister("rows_read")
    figures = iter(row)
    rows, digest = next(figures), int(next(figures) or 0)
    aggregates = {field.name: _aggregate(field, *islice(figures, 4)) for field in schema}
    return Account(aggregates=TableAggregates(rows=rows, columns=aggregates), digest=digest)


def _renamed(
    batches: Iterable[pa.RecordBatch], columns: pa.Schema, read: pa.Schema, ended: list[BaseException]
) -> Iterator[pa.RecordBatch]:
    wide = [i for i, field in enumerate(columns) if _is_wide(field)]
    try:
        for batch in batches:
            words = (_as_words(batch.column(i)) for i in wide)
            yield pa.RecordBatch.from_arrays([*batch.columns, *words], schema=read)
    except BaseException as error:
        ended.append(error)
        raise


_PAIR = pa.list_(pa.int64(), 2)


def _is_wide(field: pa.Field) -> bool:
    """Whether DuckDB's sum could overflow: it is a decimal itself, PostgreSQL's has no bound."""
    return kind_of(field) is Kind.DECIMAL and field.type.precision > _SUMMABLE_DIGITS


def _words(name: str) -> str:
    return f"{name}_words"


def _as_words(values: pa.Array) -> pa.Array:
    """The two 64-bit words of each decimal, lower first (Arrow's layout); nothing is copied."""
    valid, data = values.buffers()
    words = pa.Array.from_buffers(pa.int64(), 2 * (values.offset + len(values)), [None, data])
    return pa.Array.from_buffers(_PAIR, len(values), [valid], offset=values.offset, children=[words])


def _query(schema: pa.Schema) -> str:
    hashed = ", ".join(_hashed(field.name, field) for field in schema)
    figures = ["count(*)", f"sum(hash({hashed})::HUGEINT)"]
    for field in schema:
        figures += _figures(field.name, field)
    return f"SELECT {', '.join(figures)} FROM rows_read"  # noqa: S608 - positions and functions only


def _hashed(name: str, field: pa.Field) -> str:
    """Line breaks between the parts of a JSON text mean nothing, and formats of one record a line cannot keep them."""
    if kind_of(field) is not Kind.JSON:
        return name
    return f"replace(replace({name}, chr(10), ' '), chr(13), ' ')"  # translate() takes ten times as long


def _figures(name: str, field: pa.Field) -> list[str]:
    rule = total_of(kind_of(field))
    if _is_wide(field):
        return [f"count({name})", "NULL", *(half.format(_words(name)) for half in (_UPPER, _LOWER))]
    if rule is Total.EXTREMES:
        finite = f"CASE WHEN isfinite({name}) THEN {name} END"
        return [f"count({name})", "NULL", f"min({finite})", f"max({finite})"]
    if rule is Total.OCTETS:
        octets = f"octet_length({name})" if pa.types.is_binary(field.type) else f"strlen({name})"
        return [f"count({name})", f"sum({octets})", "NULL", "NULL"]
    return [f"count({name})", _TOTALS[rule].format(name), "NULL", "NULL"]


def differences(expected: TableAggregates, found: TableAggregates, schema: pa.Schema) -> list[str]:
    """What differs, column by column, in words without row data."""
    problems = []
    if expected.rows != found.rows:
        problems.append(f"the source has {expected.rows} rows, the files have {found.rows}")
    for field in schema:
        here, there = expected.columns[field.name], found.columns[field.name]
        narrow = pa.types.is_float32(field.type)
        if _comparable(here, narrow=narrow) != _comparable(there, narrow=narrow):
            rule = total_of(kind_of(field))
            problems.append(f"column {field.name!r}: non-null count or {rule} differ from the source's")
    return problems


def _comparable(figures: ColumnAggregate, *, narrow: bool) -> tuple[object, ...]:
    def as_float(value: float | None) -> float | None:
        return value if value is None or not narrow else ctypes.c_float(value).value

    total = figures.total if figures.total not in (None, "0") else None  # the sum of nothing is NULL, a count is 0
    return figures.non_null, total, as_float(figures.low), as_float(figures.high)


def _added(one: ColumnAggregate, other: ColumnAggregate) -> ColumnAggregate:
    totals = [Decimal(part.total) for part in (one, other) if part.total is not None]
    lows = [part.low for part in (one, other) if part.low is not None]
    highs = [part.high for part in (one, other) if part.high is not None]
    return ColumnAggregate(
        non_null=one.non_null + other.non_null,
        total=plain_number(f"{reduce(_EXACT.add, totals):f}") if totals else None,
        low=min(lows, default=None),
        high=max(highs, default=None),
    )


def _aggregate(field: pa.Field, non_null: int, total: object, low: Any, high: Any) -> ColumnAggregate:
    if _is_wide(field):
        unscaled = None if low is None else low * _WORD + high  # upper and lower half
        total = None if unscaled is None else _EXACT.scaleb(Decimal(unscaled), -field.type.scale)
        low = high = None
    return ColumnAggregate(non_null=non_null, total=plain_number(_text(total)), low=low, high=high)


def _text(figure: object) -> str | None:
    return f"{figure:f}" if isinstance(figure, Decimal) else None if figure is None else str(figure)
