"""One connection to the control database, shared by the threads of a process and renewed when it breaks.

How the API connects, in the name of its callers, is in `export_pipelines.stores.tenant_session`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any, Protocol

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads

from export_pipelines.core.errors import Conflict, RequestRejected, Unavailable

CONNECT_TIMEOUT_SECONDS = 10
_OTHER_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)
_QUOTA = "quota_of_the_tenant"  # raised by a trigger, which names what there is no room for as the column
_MOST_DIGITS = 1000  # of an integer; jsonb takes `1e5000` and prints every digit of it
_BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)


class Control(Protocol):
    """What stores need of the control database."""

    def transaction(self) -> AbstractContextManager[psycopg.Connection[DictRow]]:
        """Commit on a clean exit. `RequestRejected` for what a rule or a right refuses, `Unavailable` for the rest."""
        ...

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[DictRow]:
        """All rows of one statement, committed with its transaction."""
        ...


class Lock:
    """A lock that lasts as long as its connection: a server that fails over has forgotten it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def prove(self) -> None:
        """`Unavailable` when the lock is lost and others may have it."""
        with explained():
            self._connection.execute("SELECT 1")


class ControlDatabase:
    """Transactions on the control database at ``url``, one at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.RLock()
        self._connection: psycopg.Connection[DictRow] | None = None

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[DictRow]]:
        """Commit on a clean exit. `RequestRejected` for what a rule or a right refuses, `Unavailable` for the rest."""
        with self._lock, explained(self.close), ExitStack() as stack:
            yield self._begin(stack)

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[DictRow]:
        """All rows of one statement, committed."""
        with self.transaction() as connection:
            return fetched(connection, query, values)

    @contextmanager
    def exclusively(self, name: str) -> Iterator[Lock]:
        """Hold a lock on ``name`` against all other processes, on a connection of its own."""
        with explained():
            connection = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
        with closing(connection):
            with explained():
                connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", (name,))
            yield Lock(connection)

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A read-only snapshot of all of it, on a connection of its own: nobody else waits meanwhile."""
        with explained():
            connection = psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
            with connection:
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _begin(self, stack: ExitStack) -> psycopg.Connection[DictRow]:
        """An open transaction. A connection that broke while it was idle has lost nothing, so it gets a second try."""
        idle = self._connection is not None and self._connection.info.transaction_status is TransactionStatus.IDLE
        try:
            stack.enter_context(self._connected().transaction())
        except _BROKEN:
            if not idle:
                raise
            self.close()
            stack.enter_context(self._connected().transaction())
        return self._connected()

    def _connected(self) -> psycopg.Connection[DictRow]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_SECONDS
            )
            set_json_loads(json_of, self._connection)
        return self._connection


def fetched(connection: psycopg.Connection[DictRow], query: Any, values: dict[str, Any] | None) -> list[DictRow]:
    cursor = connection.execute(query, values)
    return cursor.fetchall() if cursor.description else []


@contextmanager
def explained(broken: Callable[[], None] = lambda: None) -> Iterator[None]:
    """The driver's errors as ours; ``broken`` is told when the connection is of no more use."""
    try:
        yield
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        raise _refused(error) from error
    except UnicodeEncodeError as error:
        raise RequestRejected("a text holds characters that are no Unicode text") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise RequestRejected(
            f"the login may not do this ({str(error).strip()}); docs/request-table.md has its rights",
            field="EXPORT_CONTROL_URL",
        ) from error
    except _OTHER_SCHEMA as error:
        raise Unavailable(
            f"the control database lacks this version's schema ({error.diag.message_primary}); "
            "run `export-pipelines migrate`"
        ) from error
    except _BROKEN as error:
        broken()
        raise _no_answer(error) from error


def _refused(error: psycopg.Error) -> RequestRejected:
    message = error.diag.message_primary or str(error)
    if error.diag.constraint_name == _QUOTA:
        return Conflict(message, field=error.diag.column_name)
    return RequestRejected(message)


def json_of(text: str | bytes) -> Any:
    """A jsonb value. Python refuses integers of thousands of digits, and one row that cannot be read would stop the
    reading of all; as a float such a number is infinite, and whoever checks the configuration names the field.
    """
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _MOST_DIGITS else float(digits))


def _no_answer(error: psycopg.Error) -> Unavailable:
    return Unavailable(f"control database does not answer: {str(error).strip()}")
