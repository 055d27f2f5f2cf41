"""What marks a row as deleted: values of `deleted_column` and `alive_when`, checked by the column's type.

A row is not deleted while its column is NULL or equals `alive_when`. The rule as SQL and as Arrow is
`export_pipelines.sources.soft_delete`.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import BeforeValidator

from export_pipelines.core.columns import Column
from export_pipelines.core.literals import CONVERTERS, as_text
from export_pipelines.core.types import Kind, base_type, value_type

INFINITIES = ("infinity", "-infinity")
_ENDLESS = (Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT, Kind.FLOAT)  # kinds with values before and after all others
_UNCOMPARED = (Kind.JSON, Kind.BYTES, Kind.TIME)
_EXAMPLES = {
    Kind.DATE: "a date such as 9999-12-31",
    Kind.TIMESTAMP: "a time such as 9999-12-31T00:00:00",
    Kind.INSTANT: "an instant such as 9999-12-31T00:00:00Z",
}


def _plain(value: object) -> object:
    """YAML reads an unquoted date as one; the catalog keeps its text."""
    return value.isoformat() if isinstance(value, dt.date) else value


AliveWhen = Annotated[bool | int | str, BeforeValidator(_plain)]


def alive_text(column: Column, value: bool | int | str) -> str:
    """The value as text that PostgreSQL reads as one of the column's type; `ValueError` says why it is none."""
    kind, base = value_type(column.type).kind, base_type(column.type)
    if kind in _UNCOMPARED:
        raise ValueError(f"cannot be compared with a column of type {column.type}")
    if kind in _ENDLESS and value in INFINITIES:
        return str(value)
    if kind in (Kind.DATE, Kind.TIMESTAMP, Kind.INSTANT):
        return _moment(kind, value)
    try:
        text = CONVERTERS.get(base, as_text)(value, "UTC")
    except ValueError as error:
        raise ValueError(f"{error} (the column is {column.type})") from error
    return text.rstrip(" ") if base == "character" else text  # blanks at the end are padding


def _moment(kind: Kind, value: bool | int | str) -> str:
    """Of the years 1 to 9999, the last day included: it is what many applications write for "never"."""
    try:
        if kind is Kind.DATE:
            return dt.date.fromisoformat(str(value)).isoformat()
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError(f"is not {_EXAMPLES[kind]}, or infinity") from error
    if kind is Kind.TIMESTAMP:
        if moment.tzinfo is not None:
            raise ValueError("has an offset, which the column has not")
        return moment.isoformat()
    if moment.tzinfo is None:
        raise ValueError("has no offset from UTC; write it, as in 9999-12-31T00:00:00Z")
    try:
        return moment.astimezone(dt.UTC).isoformat()
    except OverflowError as error:
        raise ValueError("is outside the years 1 to 9999 in UTC") from error
