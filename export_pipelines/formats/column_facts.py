"""Facts about all values of columns, computed batch by batch before a file is written.

What they mean is `export_pipelines.core.fidelity.ColumnFacts`; which columns need them is the format's to say.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from export_pipelines.core.fidelity import ColumnFacts
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import by_position, frame_of

SMALLEST_NORMAL = 2.2250738585072014e-308
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - timestamps are compared as they stand
_PLAIN = r"^-?[0-9]+(\.[0-9]+)?$"


def column_facts(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Mapping[str, ColumnFacts]:
    """Facts of every column of ``schema``; memory is bounded by one batch."""
    found = {field.name: ColumnFacts() for field in schema}
    for batch in batches:
        plain = by_position(batch)
        expressions = [
            fact.alias(f"{name} {place}")
            for place, (field, own) in enumerate(zip(schema, plain.schema, strict=True))
            for name, fact in _facts(kind_of(field), pl.col(own.name))
        ]
        if expressions:
            row = frame_of(plain).select(expressions).row(0, named=True)
            for place, field in enumerate(schema):
                found[field.name] |= _of_batch(kind_of(field), row, place)
    return found


def _facts(kind: Kind, column: pl.Expr) -> Iterator[tuple[str, pl.Expr]]:
    match kind:
        case Kind.INTEGER:
            yield from (("least", column.min()), ("greatest", column.max()))
        case Kind.DATE:
            yield from (("least", column.min()), ("greatest", column.max()))
        case Kind.TIMESTAMP | Kind.INSTANT:
            micros = column.cast(pl.Int64)
            yield from (("least", micros.min()), ("greatest", micros.max()))
            yield "finer", (micros % 1000 != 0).any()
        case Kind.TIME:
            micros = column.cast(pl.Int64) // 1000  # polars keeps nanoseconds
            yield from (("least", micros.min()), ("greatest", micros.max()))
            yield "finer", (micros % 1000 != 0).any()
        case Kind.FLOAT:
            normal = column.is_finite() & ((column == 0) | (column.cast(pl.Float64).abs() >= SMALLEST_NORMAL))
            yield "ordinary", normal.all()
        case Kind.DECIMAL | Kind.NUMERIC:
            text = column.cast(pl.String)
            parts = text.str.strip_chars_start("-").str.split_exact(".", 1)
            whole = parts.struct.field("field_0").str.strip_chars_start("0")
            decimals = parts.struct.field("field_1").fill_null("").str.strip_chars_end("0")
            digits = (whole + decimals).str.strip_chars_start("0")
            yield "ordinary", text.str.contains(_PLAIN).all()
            yield "whole", whole.str.len_bytes().max()
            yield "decimals", decimals.str.len_bytes().max()
            yield "digits", digits.str.len_bytes().max()
        case _:
            return


def _end(kind: Kind, value: Any) -> Any:
    if value is None or kind not in (Kind.TIMESTAMP, Kind.INSTANT, Kind.TIME):
        return value
    moment = _EPOCH + dt.timedelta(microseconds=value)
    return moment.time() if kind is Kind.TIME else moment


def _of_batch(kind: Kind, row: Mapping[str, Any], place: int) -> ColumnFacts:
    def fact(name: str, default: Any = None) -> Any:
        value = row.get(f"{name} {place}")
        return default if value is None else value

    least, greatest = (_end(kind, fact(name)) for name in ("least", "greatest"))
    return ColumnFacts(
        least=least,
        greatest=greatest,
        ordinary=fact("ordinary", default=True),
        whole_digits=fact("whole", 0),
        decimals=fact("decimals", 0),
        significant_digits=fact("digits", 0),
        finer_than_millisecond=fact("finer", default=False),
    )
