"""Rows from PostgreSQL as Arrow batches, through ADBC's binary COPY."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager
import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions

from export_pipelines.core.errors import ExportError, RequestRejected, Unavailable
from export_pipelines.sources.session import describe

BATCH_BYTES = 4 * 1024 * 1024

_LIES = {
    "42703": "column",
    "42P01": "table",
    "42883": "operator",
    "42501": "permission",
    "22P02": "value",
    "22": "value",
}


def open_arrow_session(url: str, statements: list[str]) -> adbc.Connection:
    """A connection on which ``statements`` opened a transaction; the caller closes it."""
    with translated(url):
        connection = adbc.connect(url, autocommit=True)
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    _begin(cursor, statement, url)
        except BaseException:
            connection.close()
            raise
        return connection


def _begin(cursor: adbc.Cursor, statement: str, url: str) -> None:
    try:
        cursor.execute(statement)
    except adbc_driver_manager.Error as error:
        if statement.startswith("SET TRANSACTION SNAPSHOT"):  # SQLSTATE 42704 or 22023, but nobody asked for too much
            raise Unavailable(
                f"source database {describe(url)} no longer holds the snapshot: {first_line(error)}"
            ) from error
        raise
    if statement.startswith("SELECT"):
        cursor.fetchall()


def stream(connection: adbc.Connection, query: str, url: str) -> Iterator[pa.RecordBatch]:
    """The result in batches of about `BATCH_BYTES`; memory is bounded by one batch."""
    with translated(url), connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)})
        cursor.execute(query)
        yield from cursor.fetch_record_batch()


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Driver errors as ours; messages of the server only, which name objects and never row data."""
    try:
        yield
    except ExportError:
        raise
    except (adbc_driver_manager.Error, OSError) as error:
        raise _translate(error, url) from error


def _translate(error: Exception, url: str) -> ExportError:
    state: Any = getattr(error, "sqlstate", None) or ""
    if state in _LIES or state[:2] == "42":
        return RequestRejected(
            f"the source refuses the query ({first_line(error)}); run `export-pipelines catalog check`", field="catalog"
        )
    if state[:2] == "22":
        return RequestRejected(
            f"the source cannot evaluate a value as the catalog describes it (SQLSTATE {state}); "
            "run `export-pipelines catalog check`",
            field="catalog",
        )
    return Unavailable(f"source database {describe(url)} failed while reading: {first_line(error)}")


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
