"""One connection to the control database, shared by the threads of a process and renewed when it breaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from export_pipelines.core.errors import RequestRejected, Unavailable

CONNECT_TIMEOUT_SECONDS = 10


class ControlDatabase:
    """Transactions on the control database at ``url``, one at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[DictRow] | None = None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[DictRow]]:
        """Commit on a clean exit. `RequestRejected` for what a constraint refuses, `Unavailable` for the rest."""
        with self._lock:
            try:
                with self._connected().transaction():
                    yield self._connected()
            except (psycopg.errors.CheckViolation, psycopg.DataError) as error:
                raise RequestRejected(error.diag.message_primary or str(error)) from error
            except psycopg.errors.UndefinedTable as error:
                raise Unavailable("the control database has no export_control schema; run `export-pipelines migrate`") from error
            except psycopg.OperationalError as error:
                self.close()
                raise Unavailable(f"control database does not answer: {str(error).strip()}") from error

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[DictRow]:
        """All rows of one statement, committed."""
        with self.transaction() as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def exclusively(self, name: str) -> Iterator[None]:
        """Hold a lock on ``name`` against all other processes, on a connection of its own."""
        try:
            connection = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
        except psycopg.OperationalError as error:
            raise Unavailable(f"control database does not answer: {str(error).strip()}") from error
        with connection:
            connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
            yield

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[DictRow]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_SECONDS
            )
        return self._connection
