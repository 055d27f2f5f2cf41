"""Rows for the spreadsheet libraries: canonical Parquet as Python values they accept."""

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet

BATCH_ROWS = 16_384
SHEET_ROWS = 1_048_575


def rows(path: Path) -> Iterator[tuple]:
    """The header, then each row. Spreadsheets know no zones and no UUID."""
    file = pyarrow.parquet.ParquetFile(path)
    yield tuple(file.schema_arrow.names)
    for batch in file.iter_batches(BATCH_ROWS):
        columns = [[_plain(value) for value in column.to_pylist()] for column in batch.columns]
        yield from zip(*columns, strict=True)


def _plain(value):
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None)
    return str(value) if isinstance(value, (uuid.UUID, dict, list, bytes)) else value
