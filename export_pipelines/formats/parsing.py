"""Canonical text back into typed batches, by DuckDB: the independent half of `export_pipelines.formats.rendering`.

Used by the readers of text-like formats. How a file is cut into cells is the format's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import duckdb
import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation, Unavailable
from export_pipelines.core.types import Kind, kind_of

BATCH_ROWS = 32_768
# Memory of one reader: as much as some MB at a time need, more where one row is larger or has very many columns.
_LEAST_BYTES = 128 * 1024**2
_TIMES = 6  # a row as text: DuckDB holds it, its values cut out of it, those without escapes, and what it hands over
_COLUMN_BYTES = 512 * 1024

_SQL_TYPES: dict[Kind, str] = {
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
    Kind.TIME: "TIME",
    Kind.TIMESTAMP: "TIMESTAMP",
    Kind.INSTANT: "TIMESTAMP",  # reads the Z as UTC; a zoned type would take the session's zone
}
_SQL_WIDTHS: dict[pa.DataType, str] = {
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
}


_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "memory_limit": f"{_LEAST_BYTES}B",
    "enable_external_file_cache": False,  # what is read back is read from the file, each time
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_idle: list[duckdb.DuckDBPyConnection] = []  # databases without a reader: opening one takes longer than a small file
_allowed: dict[int, int] = {}  # bytes of the sessions, by id, that may have more than others


@contextlib.contextmanager
def reading_session() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of the reader's own that keeps the order of rows, uses one thread and fetches no extension.

    What the reader registers ends with the session. The database below serves the next reader, unless this one failed
    or was allowed more memory.
    """
    try:
        database = _idle.pop()
    except IndexError:
        database = duckdb.connect(config=_CONFIG)
    try:
        with database.cursor() as session:
            try:
                yield session
            finally:
                larger = _allowed.pop(id(session), None) is not None
    except BaseException:
        database.close()
        raise
    if larger:
        database.close()
    else:
        _idle.append(database)


def allow(session: duckdb.DuckDBPyConnection, size_bytes: int, columns: int) -> None:
    """Let a `reading_session` have the memory for reading ``size_bytes`` of text in ``columns`` at once.

    That is 128 MiB, or 6 bytes for each of the text and 512 KiB for each column where that is more; a reader takes
    some MB of text at once, or the largest row. Never less than before.
    """
    wanted = size_bytes * _TIMES + columns * _COLUMN_BYTES
    if wanted > _allowed.get(id(session), _LEAST_BYTES):
        _allowed[id(session)] = wanted
        session.execute(f"SET memory_limit = '{wanted}B'").fetchall()


@contextlib.contextmanager
def unreadable(what: str) -> Iterator[None]:
    """Turns DuckDB's and Arrow's errors into `IntegrityViolation`, or `Unavailable` where memory is short."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; DuckDB's own, met while streaming, have no number
        if "Out of Memory Error" in str(error):
            raise Unavailable(
                f"{what} needs more memory to be read back than {_TIMES} times its largest row; export again, and "
                "report a fault of the reader if it stays"
            ) from None
        # Without the cause: its message quotes the offending cell.
        raise IntegrityViolation(
            f"{what} cannot be read back with the declared column types; export again, "
            "and report a fault of the writer if it stays"
        ) from None


def typed(cell: str, field: pa.Field) -> str:
    """SQL for the value of a cell, itself an SQL expression for its canonical text or NULL."""
    kind = kind_of(field)
    if kind in (Kind.TEXT, Kind.NUMERIC, Kind.JSON):
        return cell
    if kind is Kind.BYTES:
        return f"unhex(substr({cell}, 3))"
    if kind is Kind.DECIMAL:
        return f"CAST({cell} AS DECIMAL({field.type.precision}, {field.type.scale}))"
    return f"CAST({cell} AS {_SQL_TYPES.get(kind) or _SQL_WIDTHS[field.type]})"


def quoted(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def conformed(columns: Iterable[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Columns as DuckDB hands them over, in the canonical schema."""
    return pa.RecordBatch.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
