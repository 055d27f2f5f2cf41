"""What a connection that reads rows is to its users, whichever way it reads, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import adbc_driver_manager
import psycopg
import pyarrow as pa

from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.sources.encoding import SQLSTATES, Unencodable
from export_pipelines.sources.session import describe

BATCH_BYTES = 4 * 1024 * 1024
SNAPSHOT_STATEMENT = "SET TRANSACTION SNAPSHOT"

# Classes of SQLSTATE, or whole ones (PostgreSQL, appendix A), that no retry changes: the catalog describes something
# that the source has not, or a view, policy or function of the source fails for its rows.
_DESCRIBED_WRONGLY = (
    "42",  # names, types, rights
    "3F",  # schema
    "0A",  # not supported
    "54",  # limits: columns, depth
    "55000",  # a materialized view without rows yet
    "25006",  # a function that writes
)
_FAILS_FOR_ROWS = (
    "22",  # a value: division by zero, a cast
    "21",  # a subquery with more than one row
    "P0",  # RAISE in PL/pgSQL
    "2F",
    "38",
    "39",  # other functions
)
_DAMAGED = ("XX001", "XX002")  # data_corrupted, index_corrupted
# Here the server speaks of objects and of itself. Elsewhere a message may quote values of rows.
_WITHOUT_ROWS = (*_DESCRIBED_WRONGLY, *_DAMAGED, "08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX")


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
    state, detail = sqlstate_of(error), detail_of(error)
    # What ADBC meets while rows arrive is an OSError with nothing but a text, in the server's language.
    if state in SQLSTATES or (isinstance(error, OSError) and "UTF8" in str(error)):
        return Unencodable("a value is no valid UTF-8")
    if state.startswith((*_DESCRIBED_WRONGLY, *_FAILS_FOR_ROWS)):
        return RequestRejected(
            f"the source refuses what the catalog describes ({detail}); run `export-pipelines catalog check`",
            field="catalog",
        )
    if state.startswith(_DAMAGED):
        return IntegrityViolation(f"source database {describe(url)} reports damaged data ({detail})")
    return Unavailable(f"source database {describe(url)} failed while reading: {detail}")


def sqlstate_of(error: BaseException | None) -> str:
    """The server's code, five characters; empty where the server did not answer."""
    return str(getattr(error, "sqlstate", None) or "")


def detail_of(error: BaseException) -> str:
    """What the server says, as far as it cannot quote rows; else its SQLSTATE."""
    state = sqlstate_of(error)
    return first_line(error) if not state or state.startswith(_WITHOUT_ROWS) else f"SQLSTATE {state}"


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
