"""A row as the text of one JSON object, as a polars expression over whole batches.

The syntax of JSON lives here; the text of the values is `export_pipelines.formats.rendering`. Keys stand in schema
order, without blanks around them. Decimals and numerics are JSON numbers with all their digits; what JSON has no
number for is a string: ``"NaN"``, ``"Infinity"``, ``"-Infinity"``. JSON values are embedded as they are, on one line.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import polars as pl
import pyarrow as pa

from export_pipelines.core.columns import positional
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.rendering import text_of

_RAW = (Kind.DECIMAL, Kind.NUMERIC, Kind.FLOAT, Kind.JSON)
_NON_NUMBERS = ("NaN", "Infinity", "-Infinity")
Member = tuple[str, pa.Field]  # its name, and its column in the frame
_AS_IT_IS = (Kind.BOOLEAN, Kind.INTEGER)
# A JSON null in a column that also has NULLs: one more blank keeps the two apart for our reader, for others both are
# null. Blanks in front are counted, as type json keeps them.
_JSON_NULL = "^( *null)$"


_EXACT = Carriage(Carried.EXACT)
_ISO = Carriage(Carried.TEXT, "ISO 8601 text")
_NUMBER = Carriage(Carried.MIXED, 'a number with all its digits; `"NaN"`, `"Infinity"` and `"-Infinity"` are strings')
_CARRIED = {
    Kind.FLOAT: _NUMBER,
    Kind.NUMERIC: _NUMBER,
    **dict.fromkeys((Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.INSTANT), _ISO),
    Kind.JSON: Carriage(
        Carried.ESCAPED,
        "embedded; line breaks between its tokens become blanks, and the JSON value null has one blank more before it, "
        "which tells it from NULL",
    ),
    Kind.BYTES: Carriage(Carried.TEXT, r"`\x` and hexadecimal digits"),
}


def carries(field: pa.Field, _options: object) -> Carriage:
    """How a column sits in a JSON object."""
    return _CARRIED.get(kind_of(field), _EXACT)


def object_text(schema: pa.Schema) -> pl.Expr:
    """One JSON object a row; the frame's columns are those of ``schema`` by position. Never NULL, never a newline.

    Runs of columns that polars encodes natively are encoded at once, which is three times faster than one by one.
    """
    parts: list[pl.Expr] = []
    lead = "{"
    members = list(zip(schema.names, positional(schema), strict=True))
    for raw, run in itertools.groupby(members, key=lambda member: kind_of(member[1]) in _RAW):
        fields = list(run)
        parts += _raw_members(fields, lead) if raw else _native_members(fields, lead)
        lead = ","
    return pl.concat_str([*parts, pl.lit("}")]).alias("object")


def one_line(text: pl.Expr) -> pl.Expr:
    """JSON text without newlines: they can only stand between tokens, where a blank means the same."""
    return text.str.replace_all("\n", " ", literal=True).str.replace_all("\r", " ", literal=True)


def key(name: str) -> str:
    """``"name":``"""
    return json.dumps(name, ensure_ascii=False) + ":"


def _raw_members(run: Iterable[Member], lead: str) -> list[pl.Expr]:
    parts: list[pl.Expr] = []
    for name, field in run:
        parts += [pl.lit(lead + key(name)), _raw(field).fill_null("null")]
        lead = ","
    return parts


def _raw(field: pa.Field) -> pl.Expr:
    text = text_of(field)
    kind = kind_of(field)
    if kind is Kind.JSON:
        return one_line(text).str.replace(_JSON_NULL, " ${1}")
    if kind is Kind.DECIMAL:
        return text
    return pl.when(text.is_in(_NON_NUMBERS)).then(pl.lit('"') + text + pl.lit('"')).otherwise(text)


def _native_members(run: Iterable[Member], lead: str) -> list[pl.Expr]:
    values = [
        (pl.col(field.name) if kind_of(field) in _AS_IT_IS else text_of(field)).alias(name) for name, field in run
    ]
    members = pl.struct(values).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")
    return [pl.lit(lead), members]
