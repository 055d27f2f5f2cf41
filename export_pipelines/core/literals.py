"""JSON values as text that PostgreSQL reads as a value of a type, or why they are none.

A converter takes the value and the catalog's timezone; its `ValueError` ends the sentence that begins with the value.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.windows import EARLIEST, LATEST, parse_instant

Scalar = str | int | float | bool | None
Converter = Callable[[Scalar, str], str]

_LONGEST = 1000  # characters of a value that is not text
_MOST_DIGITS = 500  # before or after the point; PostgreSQL takes more, nobody's key has them
_FAITHFUL_DIGITS = 15  # of a JSON number with a point; further ones are lost before they arrive here
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,40}")


def as_text(value: Scalar, zone: str) -> str:
    del zone
    if not isinstance(value, str):
        raise ValueError("is not text; put it in quotes")  # noqa: TRY004 - of a request, not of our code
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("holds a character that PostgreSQL's text cannot hold")
    return value


def _short(value: Scalar) -> str:
    text = as_text(value, "").strip()
    if len(text) > _LONGEST:
        raise ValueError(f"has {len(text):,} characters, more than any such value")
    return text


def _boolean(value: Scalar, zone: str) -> str:
    del zone
    text = str(value).strip().lower() if isinstance(value, str | bool) else ""
    if text not in ("true", "false"):
        raise ValueError("is not true or false")
    return text


def _integer(bits: int) -> Converter:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1

    def convert(value: Scalar, zone: str) -> str:
        del zone
        number = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) else value
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError("is not an integer")  # noqa: TRY004 - as above
        if not low <= number <= high:
            raise ValueError(f"is outside {low} to {high}")
        return str(number)

    return convert


def _numeric(value: Scalar, zone: str) -> str:
    return f"{_number(value, zone):f}"


def _number(value: Scalar, zone: str) -> Decimal:
    del zone
    if isinstance(value, float):
        return _faithful(value)
    if isinstance(value, int) and not isinstance(value, bool):
        number = Decimal(value)
    elif isinstance(value, str) and _NUMBER.fullmatch(_short(value)):
        number = Decimal(_short(value))
    else:
        raise ValueError("is not a number such as 12.50")
    if abs(number.adjusted()) > _MOST_DIGITS:
        raise ValueError(f"has more than {_MOST_DIGITS} digits")
    return number


def _faithful(value: float) -> Decimal:
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    number = Decimal(repr(value))
    if len(number.as_tuple().digits) > _FAITHFUL_DIGITS:
        raise ValueError("has more digits than a JSON number keeps; put it in quotes")
    return number


def _float(form: str) -> Converter:
    """``form`` is that of `struct`: a value beyond it would be an error in the database."""

    def convert(value: Scalar, zone: str) -> str:
        number = _number(value, zone)
        try:
            (nearest,) = struct.unpack(form, struct.pack(form, float(number)))
        except OverflowError:
            nearest = math.inf
        if math.isinf(nearest) or bool(nearest) != bool(number):
            raise ValueError("is beyond what such a column can hold")
        return f"{number:f}"

    return convert


def _uuid(value: Scalar, zone: str) -> str:
    del zone
    try:
        return str(UUID(_short(value)))
    except ValueError as error:
        raise ValueError("is not a UUID such as 0190b6c4-0000-7000-8000-000000000001") from error


def _date(value: Scalar, zone: str) -> str:
    del zone
    try:
        day = dt.date.fromisoformat(_short(value))
    except ValueError as error:
        raise ValueError("is not a date such as 2024-01-31") from error
    return _within(day).isoformat()


def _time(value: Scalar, zone: str) -> str:
    del zone
    try:
        time = dt.time.fromisoformat(_short(value))
    except ValueError as error:
        raise ValueError("is not a time such as 09:30:00") from error
    if time.tzinfo is not None:
        raise ValueError("has a zone, which the column has not")
    return time.isoformat()


def _timestamp(value: Scalar, zone: str) -> str:
    del zone
    try:
        local = dt.datetime.fromisoformat(_short(value))
    except ValueError as error:
        raise ValueError("is not a time such as 2024-01-31T12:00:00") from error
    if local.tzinfo is not None:
        raise ValueError("has a zone, which the column has not")
    _within(local.date())
    return local.isoformat()


def _instant(value: Scalar, zone: str) -> str:
    try:
        return parse_instant(_short(value), timezone=zone, field="").isoformat()
    except RequestRejected as error:
        raise ValueError(
            f"is not a date such as 2024-01-31 or an instant such as 2024-01-31T12:00:00Z from {EARLIEST} to {LATEST}"
        ) from error


def _within(day: dt.date) -> dt.date:
    if not EARLIEST <= day <= LATEST:
        raise ValueError(f"is outside {EARLIEST} to {LATEST}")
    return day


CONVERTERS: dict[str, Converter] = {
    "boolean": _boolean,
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "numeric": _numeric,
    "real": _float("f"),
    "double precision": _float("d"),
    "text": as_text,
    "character varying": as_text,
    "character": as_text,
    "uuid": _uuid,
    "date": _date,
    "time without time zone": _time,
    "timestamp without time zone": _timestamp,
    "timestamp with time zone": _instant,
}
"""By base type. Values of other types are compared by the text PostgreSQL prints, so they are given as text."""
