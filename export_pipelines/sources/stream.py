"""What a connection that reads rows is to its users, whichever way it reads, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import adbc_driver_manager
import psycopg
import pyarrow as pa

from export_pipelines.core.errors import ExportError, RequestRejected, Unavailable
from export_pipelines.sources.encoding import SQLSTATES, Unencodable
from export_pipelines.sources.session import describe

BATCH_BYTES = 4 * 1024 * 1024
SNAPSHOT_STATEMENT = "SET TRANSACTION SNAPSHOT"

_LIES = {
    "42703": "column",
    "42P01": "table",
    "42883": "operator",
    "42501": "permission",
    "22P02": "value",
    "22": "value",
}


class SnapshotGone(Unavailable):
    """The transaction that exported the snapshot has ended."""


class RowReader(Protocol):
    """A connection inside the snapshot. A read that did not end well leaves it fit for nothing but closing."""

    def read(self, query: str, schema: pa.Schema, table: str) -> Iterator[pa.RecordBatch]:
        """The result in batches of about `BATCH_BYTES`; ``schema`` is what the catalog says of its leading columns."""
        ...

    def close(self) -> None: ...


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Driver errors as ours; messages of the server only, which name objects and never row data."""
    try:
        yield
    except ExportError:
        raise
    except (adbc_driver_manager.Error, psycopg.Error, OSError) as error:
        raise _translate(error, url) from error


@contextmanager
def joining_snapshot(url: str, statement: str) -> Iterator[None]:
    """For one statement that opens a session: a snapshot that is gone is nobody's wrong request."""
    try:
        yield
    except (adbc_driver_manager.Error, psycopg.Error) as error:
        if statement.startswith(SNAPSHOT_STATEMENT):  # SQLSTATE 42704 or 22023, but nobody asked for too much
            raise SnapshotGone(
                f"source database {describe(url)} no longer holds the snapshot: {first_line(error)}"
            ) from error
        raise


def _translate(error: Exception, url: str) -> ExportError:
    state: Any = getattr(error, "sqlstate", None) or ""
    if state in _LIES or state[:2] == "42":
        return RequestRejected(
            f"the source refuses the query ({first_line(error)}); run `export-pipelines catalog check`", field="catalog"
        )
    # What ADBC meets while rows arrive is an OSError with nothing but a text, in the server's language.
    if state in SQLSTATES or (isinstance(error, OSError) and "UTF8" in str(error)):
        return Unencodable("a value is no valid UTF-8")
    if state[:2] == "22":
        return RequestRejected(
            f"the source cannot evaluate a value as the catalog describes it (SQLSTATE {state}); "
            "run `export-pipelines catalog check`",
            field="catalog",
        )
    return Unavailable(f"source database {describe(url)} failed while reading: {first_line(error)}")


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
