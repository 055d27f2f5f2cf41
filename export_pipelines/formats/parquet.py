"""Parquet files: written by pyarrow, read back by DuckDB.

The canonical Arrow schema is stored as it is, so that nothing has to be rendered; JSON stays a plain string because
readers disagree about Parquet's JSON logical type (polars answers an extension type without string functions).
Where files lie and how the lake is cut into them belongs elsewhere.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.fidelity import Carriage, Carried
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.formats.parsing import BATCH_ROWS, allow, conformed, reading_session, unreadable

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 32 << 20  # of Arrow buffers; encoding a group takes about as much again

_LEVELS = {"zstd": 1}  # higher levels cost time out of proportion: level 3 is twice as slow for 5 % less


class ParquetOptions(BaseModel):
    """What a request may choose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parquet_compression: Literal["snappy", "zstd", "gzip", "none"] = Field(
        default="zstd", description="Codec of the pages inside the file."
    )


class _Outlet:
    """What pyarrow writes to: the sink, but only inside ``with``.

    pyarrow writes the footer even when its writer is merely thrown away; a table that failed half way would become
    a valid, shorter file.
    """

    closed = False

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._open = False

    def __enter__(self) -> None:
        self._open = True

    def __exit__(self, *exception: object) -> None:
        self._open = False

    def write(self, data: bytes) -> int:
        return self._sink.write(data) if self._open else len(data)

    def flush(self) -> None:
        """The sink's owner flushes."""


class ParquetWriter:
    """Writes one table; rows wait until a row group is full, so memory is bounded by one group."""

    def __init__(self, sink: BinaryIO, options: Mapping[str, Any]) -> None:
        self._outlet = _Outlet(sink)
        self._compression = ParquetOptions.model_validate(dict(options)).parquet_compression
        self._writer: pq.ParquetWriter | None = None
        self._schema = pa.schema([])
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def begin(self, table: TableHead) -> None:
        if self._writer is not None:
            raise ValueError(f"a Parquet file holds one table; open another file for {table.name!r}")
        self._schema = table.schema
        with self._outlet:
            self._writer = pq.ParquetWriter(
                self._outlet,
                table.schema,
                compression=self._compression,
                compression_level=_LEVELS.get(self._compression),
                write_statistics=True,
            )

    def write(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(pa.RecordBatch.from_arrays(batch.columns, schema=self._schema))
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        if self._writer is None:
            raise ValueError("close() before begin(): a Parquet file needs a table")
        self._flush()
        with self._outlet:
            self._writer.close()

    def _flush(self) -> None:
        if self._waiting_rows and self._writer is not None:
            group = pa.Table.from_batches(self._waiting, schema=self._schema)
            with self._outlet:
                self._writer.write_table(group, row_group_size=group.num_rows)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0


def read_parquet(path: Path, head: TableHead) -> Iterator[pa.RecordBatch]:
    """The rows of a file, by DuckDB; `IntegrityViolation` when a column's name or type is not the table's."""
    what = f"{path.name} (table {head.name})"
    exact = glob.escape(str(path))  # a name with an asterisk stands for one file, not for many
    with reading_session() as session, unreadable(what):
        session.execute("SET TimeZone = 'UTC'")
        # DuckDB renames columns that differ in case only; the file's own schema has the true names, its root first.
        names = [name for (name,) in session.sql("SELECT name FROM parquet_schema($1)", params=[exact]).fetchall()]
        # What is read at once is a page of each column, as large as a whole group of rows where a value is.
        largest = "SELECT coalesce(max(total_uncompressed_size), 0) FROM parquet_metadata($1)"
        allow(session, session.sql(largest, params=[exact]).fetchall()[0][0], len(head.schema))
        query = "SELECT * FROM read_parquet($1, hive_partitioning = false)"
        rows = session.sql(query, params=[exact]).to_arrow_reader(BATCH_ROWS)
        if names[1:] != head.schema.names or rows.schema.types != head.schema.types:
            raise IntegrityViolation(
                f"{what} has {len(rows.schema)} columns whose names and types are not those of the table's "
                f"{len(head.schema)}; export again"
            )
        for batch in rows:
            if batch.num_rows:
                yield conformed(batch.columns, head.schema)


_EXACT = Carriage(Carried.EXACT)
_CARRIED = {
    Kind.JSON: Carriage(Carried.TEXT, "JSON text in a string column"),
    Kind.NUMERIC: Carriage(Carried.TEXT, "digits in a string column, because no Parquet type holds every number"),
}


def _carries(field: pa.Field, _options: Mapping[str, Any]) -> Carriage:
    return _CARRIED.get(kind_of(field), _EXACT)


SPEC = FormatSpec(
    name="parquet",
    title="Apache Parquet",
    extension="parquet",
    media_type="application/vnd.apache.parquet",
    open=ParquetWriter,
    read=read_parquet,
    carries=_carries,
    options=ParquetOptions,
    compressible=False,
    how_to_open="Parquet files are meant for analysis programs. Spreadsheets do not open them; ask for the export as "
    "an Excel workbook instead.",
    written_with="pyarrow",
    read_with="duckdb",
)
