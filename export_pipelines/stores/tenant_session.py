"""Transactions in the name of a caller: what the API may do in the control database.

Each runs as the role ``export_api`` with the caller's tenant, user and role set for the transaction only, so that the
policies in ``stores/schema`` decide about every row it touches, whatever the code above forgot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from export_pipelines.core.access import Caller
from export_pipelines.core.errors import Unavailable
from export_pipelines.stores.control import CONNECT_TIMEOUT_SECONDS, explained, fetched, json_of

API_CONNECTIONS = 10  # of one API process
WAIT_SECONDS = 5  # for one of them


class ControlPool:
    """Connections of the API at ``url``; the login is a member of ``export_api``."""

    def __init__(self, url: str, *, connections: int = API_CONNECTIONS) -> None:
        self._pool: ConnectionPool[psycopg.Connection[DictRow]] = ConnectionPool(
            url,
            kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": CONNECT_TIMEOUT_SECONDS},
            configure=lambda connection: set_json_loads(json_of, connection),
            check=ConnectionPool.check_connection,
            min_size=1,
            max_size=connections,
            timeout=WAIT_SECONDS,
            open=False,
        )

    def open(self) -> None:
        """Begin to connect; needs no answer yet."""
        self._pool.open()

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def tenant_session(self, caller: Caller | None) -> Iterator[OpenTransaction]:
        """One transaction in a caller's name, or in nobody's; committed on a clean exit."""
        with explained(), self._connected() as connection, connection.transaction():
            _become_api(connection)
            connection.execute(
                """
                SELECT set_config('export_control.tenant', %(tenant)s, true),
                       set_config('export_control.user', %(user)s, true),
                       set_config('export_control.role', %(role)s, true)
                """,
                {
                    "tenant": (caller and caller.tenant_id) or "",
                    "user": (caller and caller.name) or "",
                    "role": caller.role if caller else "",
                },
            )
            yield OpenTransaction(connection)

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[DictRow]]:
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._pool.connection())
            except PoolTimeout as error:
                raise Unavailable("control database does not answer, or all connections are at work") from error
            yield connection


def _become_api(connection: psycopg.Connection[DictRow]) -> None:
    try:
        connection.execute("SET LOCAL ROLE export_api")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
        raise Unavailable(
            f"the API's login is no member of export_api ({str(error).strip()}); run `export-pipelines migrate`, then "
            "GRANT export_api TO that login"
        ) from error


class TenantSession:
    """A caller's transactions, one for each thing done: for work that takes longer than one should be open."""

    def __init__(self, pool: ControlPool, caller: Caller) -> None:
        self._pool = pool
        self._caller = caller

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[DictRow]]:
        with self._pool.tenant_session(self._caller) as opened, opened.transaction() as connection:
            yield connection

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[DictRow]:
        with self.transaction() as connection:
            return fetched(connection, query, values)


class OpenTransaction:
    """A transaction that stores take part in; what they call transactions are savepoints of it."""

    def __init__(self, connection: psycopg.Connection[DictRow]) -> None:
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[DictRow]]:
        with explained(), self._connection.transaction():
            yield self._connection

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[DictRow]:
        with self.transaction() as connection:
            return fetched(connection, query, values)
