"""How PostgreSQL types travel: one `Kind` and one Arrow type for each.

This table is the only place that decides how a value is carried from the database to a file. Formats look at
the `Kind` of a field, never at its PostgreSQL name. Types without a native Arrow form that is exact travel as
the text PostgreSQL prints for them, so that nothing is rounded on the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import pyarrow as pa

PG_TYPE = b"pg_type"
KIND = b"kind"

MAX_DECIMAL_PRECISION = 38  # decimal128, the widest that Parquet readers share


class Kind(StrEnum):
    """What a value is, for a writer or a reader."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"  # numeric(p, s): decimal128
    NUMERIC = "numeric"  # numeric without a bound: its text, which may be NaN or Infinity
    TEXT = "text"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"  # without a zone
    INSTANT = "instant"  # timestamptz: microseconds, UTC
    JSON = "json"  # json, jsonb and arrays: JSON text
    BYTES = "bytes"


class Cast(StrEnum):
    """What the source makes of a value before sending it; the SQL of each is in `export_pipelines.sources.query`."""

    TEXT = "text"  # as PostgreSQL prints it
    ARRAY = "array"  # a JSON array
    ELEMENTS = "elements"  # a JSON array of texts, for elements that JSON has no exact value for
    TIME = "time"  # these three: the text that formats write for values of that kind
    TIMESTAMP = "timestamp"
    INSTANT = "instant"


class Total(StrEnum):
    """The one figure that stands for all values of a column when source and file are compared."""

    SUM = "sum"
    TRUES = "trues"
    DAYS = "days"  # since 1970-01-01, summed
    MICROSECONDS = "microseconds"  # since 1970-01-01 or midnight, summed
    OCTETS = "octets"  # of the text in UTF-8, or of the bytes, summed
    EXTREMES = "extremes"  # least and greatest finite value; float sums depend on order


_TOTALS = {
    Kind.BOOLEAN: Total.TRUES,
    Kind.INTEGER: Total.SUM,
    Kind.FLOAT: Total.EXTREMES,
    Kind.DECIMAL: Total.SUM,
    Kind.DATE: Total.DAYS,
    Kind.TIME: Total.MICROSECONDS,
    Kind.TIMESTAMP: Total.MICROSECONDS,
    Kind.INSTANT: Total.MICROSECONDS,
}


@dataclass(frozen=True, kw_only=True)
class ValueType:
    """The travelling form of one PostgreSQL type."""

    pg_type: str
    kind: Kind
    arrow: pa.DataType
    cast: Cast | None = None  # None sends as is

    @property
    def total(self) -> Total:
        """How values of this type are summed up."""
        return total_of(self.kind)

    @property
    def padded(self) -> bool:
        """Whether values have blanks at their end up to a length: character(n), as it is."""
        return self.cast is None and base_type(self.pg_type) == "character"


_SCALARS: dict[str, tuple[Kind, pa.DataType]] = {
    "boolean": (Kind.BOOLEAN, pa.bool_()),
    "smallint": (Kind.INTEGER, pa.int16()),
    "integer": (Kind.INTEGER, pa.int32()),
    "bigint": (Kind.INTEGER, pa.int64()),
    "real": (Kind.FLOAT, pa.float32()),
    "double precision": (Kind.FLOAT, pa.float64()),
    "text": (Kind.TEXT, pa.string()),
    "character varying": (Kind.TEXT, pa.string()),
    "character": (Kind.TEXT, pa.string()),  # not as text, which has no blanks at its end
    "date": (Kind.DATE, pa.date32()),
    "time without time zone": (Kind.TIME, pa.time64("us")),
    "timestamp without time zone": (Kind.TIMESTAMP, pa.timestamp("us")),
    "timestamp with time zone": (Kind.INSTANT, pa.timestamp("us", tz="UTC")),
    "bytea": (Kind.BYTES, pa.binary()),
}
_ALIASES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "decimal": "numeric",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
    "bpchar": "character",
    "char": "character",
    "timetz": "time with time zone",
}
_JSON_ELEMENTS = (
    *(name for name in _SCALARS if name != "bytea"),
    *("numeric", "uuid", "interval", "time with time zone"),
)
# How values travel that no file holds as what they are: text in the place of their kind.
_AS_TEXT = {
    Kind.DECIMAL: (Kind.NUMERIC, Cast.TEXT),
    Kind.NUMERIC: (Kind.NUMERIC, Cast.TEXT),
    Kind.TIME: (Kind.TEXT, Cast.TIME),
    Kind.TIMESTAMP: (Kind.TEXT, Cast.TIMESTAMP),
    Kind.INSTANT: (Kind.TEXT, Cast.INSTANT),
}
_OUTSIDE = "infinite or outside the years 1 to 9999"
BEYOND = {
    Kind.DATE: _OUTSIDE,
    Kind.TIMESTAMP: _OUTSIDE,
    Kind.INSTANT: _OUTSIDE,
    Kind.TIME: "24:00, the end of a day",
    Kind.DECIMAL: "NaN",
}
"""Which legal values of a kind no file holds as that kind."""
_MODIFIER = re.compile(r"\s*\(([^)]*)\)")


def normalize(pg_type: str) -> str:
    """``varchar(20)`` → ``character varying(20)``: the name PostgreSQL's ``format_type`` prints."""
    text = " ".join(pg_type.split())
    array = "[]" if text.endswith("[]") else ""
    text = text.removesuffix("[]")
    modifier = "".join(f"({m})" for m in _MODIFIER.findall(text)).replace(" ", "")
    base = _MODIFIER.sub("", text).strip()
    base = _ALIASES.get(base.lower(), base)
    head, _, zone = base.partition(" with")
    return f"{head}{modifier}{_ + zone if _ else ''}{array}"


def base_type(pg_type: str) -> str:
    """``numeric(12,2)`` → ``numeric``; of a normalized name."""
    return _MODIFIER.sub("", pg_type)


@cache
def value_type(pg_type: str) -> ValueType:
    """The travelling form of a PostgreSQL type, as written in the catalog."""
    name = normalize(pg_type)
    base = base_type(name)
    if name.endswith("[]"):
        cast = Cast.ARRAY if base.removesuffix("[]") in _JSON_ELEMENTS else Cast.ELEMENTS
        return ValueType(pg_type=name, kind=Kind.JSON, arrow=pa.string(), cast=cast)
    if base in ("json", "jsonb"):
        return ValueType(pg_type=name, kind=Kind.JSON, arrow=pa.string(), cast=Cast.TEXT)
    if base == "numeric":
        return _numeric(name)
    if base in _SCALARS:
        kind, arrow = _SCALARS[base]
        return ValueType(pg_type=name, kind=kind, arrow=arrow)
    return ValueType(pg_type=name, kind=Kind.TEXT, arrow=pa.string(), cast=Cast.TEXT)


def _numeric(name: str) -> ValueType:
    digits = [int(part) for part in re.findall(r"-?\d+", name)]
    precision, scale = [*digits, 0][:2] if digits else (0, 0)
    if 1 <= precision <= MAX_DECIMAL_PRECISION and 0 <= scale <= precision:
        return ValueType(pg_type=name, kind=Kind.DECIMAL, arrow=pa.decimal128(precision, scale), cast=Cast.TEXT)
    return ValueType(pg_type=name, kind=Kind.NUMERIC, arrow=pa.string(), cast=Cast.TEXT)


def as_text(pg_type: str) -> ValueType:
    """The travelling form of a column with values `BEYOND` its kind.

    Ordinary values read as formats write them (``2024-01-31T12:00:00.000000Z``), the others as PostgreSQL prints them
    (``infinity``, ``0044-03-15 00:00:00+00 BC``); PostgreSQL takes either for its type. Decimals stay numbers.
    """
    form = value_type(pg_type)
    kind, cast = _AS_TEXT.get(form.kind, (Kind.TEXT, form.cast if form.kind is Kind.TEXT else Cast.TEXT))
    return ValueType(pg_type=normalize(pg_type), kind=kind, arrow=pa.string(), cast=cast)


def field_of(name: str, form: ValueType | str, *, nullable: bool = True) -> pa.Field:
    """An Arrow field that remembers its kind and its PostgreSQL type in its metadata."""
    form = value_type(form) if isinstance(form, str) else form
    metadata = {PG_TYPE: form.pg_type.encode(), KIND: form.kind.value.encode()}
    return pa.field(name, form.arrow, nullable=nullable, metadata=metadata)


def kind_of(field: pa.Field) -> Kind:
    """The kind of a field made by `field_of`; metadata survives Parquet and Arrow IPC."""
    return Kind((field.metadata or {})[KIND].decode())


def total_of(kind: Kind) -> Total:
    """The figure of a column of that kind: never one of a text that each engine would spell in its own way."""
    return _TOTALS.get(kind, Total.OCTETS)


def plain_number(figure: str | None) -> str | None:
    """One spelling for one number: ``1200.000000``, ``1200.00`` and ``1200`` are ``1200``."""
    if figure is None or "." not in figure:
        return figure
    return figure.rstrip("0").rstrip(".")
