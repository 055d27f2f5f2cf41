"""PostgreSQL's binary COPY written by hand, after its documentation: what the decoder's tests feed it."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from decimal import Decimal

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">II", 0, 0)
TRAILER = b"\xff\xff"


def row(*values: bytes | None) -> bytes:
    """One row of values in their types' binary form."""
    return struct.pack(">h", len(values)) + b"".join(map(_field, values))


def _field(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


def stream(*rows: bytes) -> bytes:
    return HEADER + b"".join(rows) + TRAILER


def numeric(value: Decimal) -> bytes:
    """As numeric_send packs it: groups of four digits, none of zeros at either end."""
    if not value.is_finite():
        sign = 0xC000 if value.is_nan() else 0xF000 if value < 0 else 0xD000
        return struct.pack(">hhHh", 0, 0, sign, 0)
    scale = max(0, -int(value.as_tuple().exponent))
    whole, _, fraction = f"{value.copy_abs():f}".partition(".")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    whole = whole.rjust(-(-len(whole) // 4) * 4, "0")
    digits = whole + fraction
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    sign = 0x4000 if value < 0 else 0
    return struct.pack(f">hhHh{len(groups)}h", len(groups), weight if groups else 0, sign, scale, *groups)


def array(element: int, lengths: list[int], elements: list[bytes | None]) -> bytes:
    """As array_send packs it; ``element`` is the type's OID, lower bounds are 1."""
    dimensions = b"".join(struct.pack(">ii", length, 1) for length in lengths)
    return struct.pack(">iiI", len(lengths), 1, element) + dimensions + b"".join(map(_field, elements))


def date(value: dt.date) -> bytes:
    return struct.pack(">i", (value - dt.date(2000, 1, 1)).days)


def timestamp(value: dt.datetime) -> bytes:
    since = value - dt.datetime(2000, 1, 1, tzinfo=value.tzinfo)
    return struct.pack(">q", since // dt.timedelta(microseconds=1))


def identifier(value: uuid.UUID) -> bytes:
    return value.bytes
