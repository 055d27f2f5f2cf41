"""How each column of a result is decoded: by the type that the server says it sends, never by what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from export_pipelines.core.types import Cast

_ELEMENTS = ("boolean", "smallint", "integer", "bigint", "text", "character varying", "uuid")
UNCAST = frozenset(
    {(Cast.TEXT, name) for name in ("numeric", "json", "jsonb", "uuid")}
    | {(Cast.ARRAY, f"{element}[]") for element in _ELEMENTS}
)
"""Casts that are not needed, each with the type: the binary form says exactly the same."""

_NUMERIC = 1700


@dataclass(frozen=True, kw_only=True)
class DecodedColumn:
    """A kind of `_decoder`, and the Arrow type of what it makes."""

    kind: str
    arrow: pa.DataType

    @property
    def described(self) -> tuple[str, int, int]:
        """As `_decoder.Decoder` wants it: kind, precision, scale."""
        decimal = self.kind == "decimal"
        return self.kind, self.arrow.precision if decimal else 0, self.arrow.scale if decimal else 0


_BY_OID = {
    16: DecodedColumn(kind="boolean", arrow=pa.bool_()),
    17: DecodedColumn(kind="bytes", arrow=pa.binary()),
    20: DecodedColumn(kind="int64", arrow=pa.int64()),
    21: DecodedColumn(kind="int16", arrow=pa.int16()),
    23: DecodedColumn(kind="int32", arrow=pa.int32()),
    25: DecodedColumn(kind="bytes", arrow=pa.string()),
    114: DecodedColumn(kind="bytes", arrow=pa.string()),  # json
    142: DecodedColumn(kind="bytes", arrow=pa.string()),  # xml
    700: DecodedColumn(kind="int32", arrow=pa.float32()),
    701: DecodedColumn(kind="int64", arrow=pa.float64()),
    1042: DecodedColumn(kind="bytes", arrow=pa.string()),  # character(n)
    1043: DecodedColumn(kind="bytes", arrow=pa.string()),  # character varying
    1082: DecodedColumn(kind="date", arrow=pa.date32()),
    1083: DecodedColumn(kind="int64", arrow=pa.time64("us")),
    1114: DecodedColumn(kind="timestamp", arrow=pa.timestamp("us")),
    1184: DecodedColumn(kind="timestamp", arrow=pa.timestamp("us", tz="UTC")),
    **{oid: DecodedColumn(kind="array", arrow=pa.string()) for oid in (1000, 1005, 1007, 1009, 1015, 1016, 2951)},
    2950: DecodedColumn(kind="uuid", arrow=pa.string()),
    3802: DecodedColumn(kind="jsonb", arrow=pa.string()),
}


def decoded_columns(oids: Sequence[int], schema: pa.Schema) -> list[DecodedColumn]:
    """For each column of a result; ``schema`` describes the leading ones and gives decimals their digits.

    A type without a decoder arrives as bytes, which no catalog calls it, so that `conform` refuses it by name.
    """
    wanted = [schema.field(i).type if i < len(schema) else pa.string() for i in range(len(oids))]
    return [_decoded(oid, arrow) for oid, arrow in zip(oids, wanted, strict=True)]


def _decoded(oid: int, wanted: pa.DataType) -> DecodedColumn:
    if oid == _NUMERIC:
        if pa.types.is_decimal128(wanted):
            return DecodedColumn(kind="decimal", arrow=wanted)
        return DecodedColumn(kind="numeric", arrow=pa.string())
    return _BY_OID.get(oid, DecodedColumn(kind="bytes", arrow=pa.null()))
