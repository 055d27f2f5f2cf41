"""Arrow tables of a package as frames of pandas and polars, NULL apart from the empty text and from NaN.

| Kind | pandas | polars |
|---|---|---|
| boolean, integer, float, text, date, time, timestamp, bytes | `pandas.ArrowDtype` of the Arrow type | the same type |
| decimal | decimal128: ``Decimal`` | Decimal |
| numeric (without a scale) | object: ``Decimal``, which may be NaN or infinite | text |
| instant | timestamp in UTC | Datetime in UTC |
| json, arrays | text, or Python's objects | text |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import Kind, kind_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_MAX_INT_DIGITS = 4_000  # beyond some more, Python refuses to make an int of a text


def as_pandas(table: pa.Table, *, parse_json: bool) -> pd.DataFrame:
    """A frame of the same columns; `ImportError` names what to install."""
    try:
        import pandas as pd  # an extra: not everybody who gets a package works with it
    except ImportError as error:
        raise ImportError('to_pandas needs pandas; run: pip install "export-pipelines[reader]"') from error
    converters: dict[Kind, Callable[[str], Any]] = {
        Kind.NUMERIC: Decimal,
        **({Kind.JSON: _parsed} if parse_json else {}),
    }
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        convert = converters.get(kind_of(field))
        if convert is None:
            columns.append(pd.Series(pd.arrays.ArrowExtensionArray(column), copy=False))
        else:
            columns.append(_objects(pd, column, field.name, convert))
    frame = pd.DataFrame(dict(enumerate(columns)), copy=False)
    frame.columns = pd.Index(table.schema.names, dtype=object)
    return frame


def as_polars(table: pa.Table) -> pl.DataFrame:
    """A frame of the same columns."""
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _objects(pd: Any, column: pa.ChunkedArray, name: str, convert: Callable[[str], Any]) -> pd.Series[Any]:
    values = []
    for row, text in enumerate(column.to_pylist()):
        try:
            values.append(pd.NA if text is None else convert(text))
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise RequestRejected(
                f"row {row} holds a value that Python cannot ({type(error).__name__}); read the table with to_arrow, "
                "where it is text",
                field=name,
            ) from None  # its message would quote the value
    return pd.Series(values, dtype=object)


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=_whole)


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _MAX_INT_DIGITS else Decimal(digits)
