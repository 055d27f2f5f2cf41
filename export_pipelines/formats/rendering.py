"""The canonical text of every value, as polars expressions over whole batches.

All text-like formats write what this module says; how a format marks NULL and quotes is its own business. Reading
the texts back is `export_pipelines.formats.parsing`, JSON's syntax is `export_pipelines.formats.json_objects`.

| Kind | Text |
|---|---|
| boolean | ``true``, ``false`` |
| integer, decimal | plain digits, all decimals of the scale, never an exponent |
| numeric, text, json | as it travels |
| float | shortest digits that read back as the same float (of its own width); ``NaN``, ``Infinity``, ``-Infinity`` |
| date, time | ``2024-01-31``, ``12:00:00.123456`` |
| timestamp, instant | ``2024-01-31T12:00:00.123456``, an instant ends in ``Z``; years 0001 to 9999 |
| bytes | ``\\xdeadbeef`` as PostgreSQL prints it |
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pyarrow as pa

from export_pipelines.core.columns import positional
from export_pipelines.core.escaping import DANGEROUS, ESCAPE
from export_pipelines.core.types import Kind, kind_of

_DATE = "%Y-%m-%d"
_TIME = "%H:%M:%S%.6f"


def frame_of(batch: pa.RecordBatch) -> pl.DataFrame:
    """The batch as a polars frame of the same columns; numbers and times are not copied."""
    frame = pl.from_arrow(batch)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"a record batch became a {type(frame).__name__}, expected a DataFrame")
    return frame


def by_position(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with columns ``c0``, ``c1``, …: to polars a column called ``*`` or ``^a.*$`` is a pattern."""
    return pa.RecordBatch.from_arrays(batch.columns, schema=positional(batch.schema))


def text_of(field: pa.Field) -> pl.Expr:
    """The canonical text of the column of that name; NULL stays NULL."""
    column = pl.col(field.name)
    render = _RENDERERS.get(kind_of(field))
    return column if render is None else render(column)


def text_frame(batch: pa.RecordBatch) -> pl.DataFrame:
    """Every column as its canonical text, named by position."""
    plain = by_position(batch)
    return frame_of(plain).select(text_of(field) for field in plain.schema)


def neutralised(text: pl.Expr) -> pl.Expr:
    """`export_pipelines.core.escaping.neutralise` for a column of text."""
    return text.str.replace(DANGEROUS, f"{ESCAPE}${{1}}")


def _float(column: pl.Expr) -> pl.Expr:
    name = column.meta.output_name()
    return (
        pl.when(column.is_finite())
        .then(column.cast(pl.String))
        .when(column.is_nan())
        .then(pl.lit("NaN"))
        .when(column > 0)
        .then(pl.lit("Infinity"))
        .when(column < 0)
        .then(pl.lit("-Infinity"))
        .alias(name)
    )


def _bytes(column: pl.Expr) -> pl.Expr:
    return (pl.lit("\\x") + column.bin.encode("hex")).alias(column.meta.output_name())


_RENDERERS: dict[Kind, Callable[[pl.Expr], pl.Expr]] = {
    Kind.BOOLEAN: lambda column: column.cast(pl.String),
    Kind.INTEGER: lambda column: column.cast(pl.String),
    Kind.DECIMAL: lambda column: column.cast(pl.String),
    Kind.FLOAT: _float,
    Kind.DATE: lambda column: column.dt.to_string(_DATE),
    Kind.TIME: lambda column: column.dt.to_string(_TIME),
    Kind.TIMESTAMP: lambda column: column.dt.to_string(f"{_DATE}T{_TIME}"),
    Kind.INSTANT: lambda column: column.dt.to_string(f"{_DATE}T{_TIME}Z"),
    Kind.BYTES: _bytes,
}
