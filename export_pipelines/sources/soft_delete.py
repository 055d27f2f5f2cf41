"""Which rows are not marked as deleted, as SQL for the source and as Arrow for the lake: one rule, compiled twice.

A row is not deleted while the table's `deleted_column` is NULL or equals `alive_when`. Texts are equal when they are
the same characters, whatever the column's collation says; numbers and times by value.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from export_pipelines.core.catalog import Table
from export_pipelines.core.filtering import compared_as
from export_pipelines.core.soft_delete import INFINITIES, alive_text
from export_pipelines.core.types import Kind, value_type
from export_pipelines.sources.names import EQUALS, ROW


def alive_condition(table: Table) -> sql.Composable:
    """That a row of `ROW` is not deleted; always true without a `deleted_column`."""
    if table.deleted_column is None:
        return sql.SQL("TRUE")
    column = sql.Identifier(ROW, table.deleted_column)
    unset = sql.SQL("{} IS NULL").format(column)
    if table.alive_when is None:
        return unset
    spec = table.columns[table.deleted_column]
    value, kind = sql.Literal(alive_text(spec, table.alive_when)), value_type(spec.type).kind
    number = compared_as(spec.type)
    if kind is Kind.TEXT or number is None:
        same = sql.SQL('{}::text {} {}::text COLLATE "C"').format(column, EQUALS, value)
    else:
        same = sql.SQL("{} {} {}::{}").format(column, EQUALS, value, sql.SQL(number))
    return sql.SQL("({} OR {})").format(unset, same)


def alive_rows(batch: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """The rows of a batch that are not deleted; it has the table's `deleted_column`, as the catalog lets it travel."""
    if table.deleted_column is None:
        return batch
    values = batch.column(table.deleted_column)
    alive = pc.is_null(values)
    if table.alive_when is not None:
        alive = pc.or_(alive, pc.fill_null(_equal(values, table), False))
    return batch.filter(alive)


def _equal(values: pa.Array, table: Table) -> pa.Array:
    column = table.columns[str(table.deleted_column)]
    text = alive_text(column, table.alive_when)  # type: ignore[arg-type] # callers have one
    kind = value_type(column.type).kind
    if pa.types.is_string(values.type):
        return _equal_texts(values, _without_padding if value_type(column.type).padded else _reader(kind), text)
    scalar = _scalar(kind, text, values.type)
    return pc.equal(values, scalar) if scalar is not None else pa.nulls(len(values), pa.bool_())


def _equal_texts(values: pa.Array, read: Callable[[str], object], text: str) -> pa.Array:
    """Values that travel as text, by what they mean: ``0.00`` is 0."""
    distinct = pc.unique(values)
    same = [value for value in distinct.to_pylist() if value is not None and read(value) == read(text)]
    return pc.is_in(values, pa.array(same, pa.string()))


def _reader(kind: Kind) -> Callable[[str], object]:
    if kind in (Kind.DECIMAL, Kind.NUMERIC):
        return _number
    if kind is Kind.FLOAT:
        return float
    if kind in (Kind.TIMESTAMP, Kind.INSTANT, Kind.DATE):
        return _moment
    return str


def _without_padding(text: str) -> str:
    return text.rstrip(" ")


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _moment(text: str) -> dt.datetime | dt.date | str:
    """A date or time; beyond the years 1 to 9999 as PostgreSQL prints it."""
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return text


def _scalar(kind: Kind, text: str, arrow: pa.DataType) -> pa.Scalar | None:
    """The value in the column's Arrow type; None where that type has no such value, so that no row equals it."""
    if text in INFINITIES and kind is not Kind.FLOAT:
        return None
    value: object
    match kind:
        case Kind.BOOLEAN:
            value = text == "true"
        case Kind.INTEGER:
            value = int(text)
        case Kind.FLOAT:
            value = float(text)
        case Kind.DECIMAL:
            value = Decimal(text)
        case Kind.DATE:
            value = dt.date.fromisoformat(text)
        case _:
            value = dt.datetime.fromisoformat(text)
    try:
        return pa.scalar(value, arrow)
    except pa.ArrowInvalid:  # more digits than the column has
        return None
