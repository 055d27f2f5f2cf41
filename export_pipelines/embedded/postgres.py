"""Starts, finds and stops the embedded PostgreSQL server of a home folder.

At most one server runs per home. The process that starts it owns it; others attach to it and never
stop it. On Linux the server also ends when its owner is killed: the kernel sends it SIGINT (fast shutdown).
That is bound to the *thread* that called ``start``, so call it from one that lives as long as the server
is needed, normally the main thread. Elsewhere the server is stopped when the interpreter exits.

For root the server runs as ``nobody``. Where ``nobody`` cannot enter the home (below a folder of mode
0700, say) the databases are in ``/var/lib/export-pipelines/<hash of the home's absolute path>/data``
and everything else stays in the home. Permissions of existing folders are never changed.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import secrets
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg import sql

from export_pipelines.core.errors import Unavailable
from export_pipelines.embedded import binaries
from export_pipelines.embedded.cluster import START_TIMEOUT_SECONDS, SUPERUSER, Cluster, shut_down
from export_pipelines.embedded.os_account import server_account
from export_pipelines.embedded.ports import PORTS, free_ports
from export_pipelines.embedded.state import ServerAddress, StateFolder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

CONNECT_TIMEOUT_SECONDS = 5


class EmbeddedPostgres:
    """The PostgreSQL server of one home folder; a context manager that starts and stops it."""

    def __init__(self, home: Path) -> None:
        self.owned = False  # whether this object started the server, and so stops it
        self._home = home
        self._state = StateFolder(home)
        self._address: ServerAddress | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> ServerAddress:
        """How to reach the server."""
        if self._address is None:
            raise Unavailable(f"The embedded PostgreSQL of {self._home} is not started. Call start() first.")
        return self._address

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """A ``postgresql://`` URL for the superuser, or for another ``user`` with its ``password``."""
        return self.address.url(database, user=user, password=password)

    def is_running(self) -> bool:
        """Whether the server lives, by its process if owned, else by asking it."""
        if self._process is not None:
            return self._process.poll() is None
        return self._address is not None and running_server(self._home) == self._address

    def start(self) -> None:
        """Returns when the server accepts connections, started here or found running.

        Raises ``Unavailable`` with the server's last messages when it cannot start.
        """
        if not self.is_running():
            with _files_of(self._home):
                self._start_or_attach()

    def _start_or_attach(self) -> None:
        self.stop()  # forgets a server that has ended
        self._state.create()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while (lock := self._state.try_lock()) is None:
            # Another process is starting the server, runs it, or was killed and it is shutting down.
            if found := running_server(self._home):
                self._address, self._process, self.owned = found, None, False
                return
            if time.monotonic() > deadline:
                what = f"Another process holds {self._state.folder}, but its server does not answer"
                raise Unavailable(f"{what}. {self._state.log_excerpt(0)}")
            time.sleep(0.05)
        try:
            self._launch(lock)
        finally:
            os.close(lock)  # the server keeps its own copy

    def _launch(self, lock: int) -> None:
        self._state.rotate_log()
        account = server_account()
        cluster = Cluster(
            state=self._state,
            account=account,
            binaries=binaries.locate(),
            lock=lock,
            data=self._state.data_folder(account),
        )
        last = self._last_address(cluster)
        for port in free_ports(last.port):
            if self._starts_on(port, cluster, last):
                return
        raise Unavailable(f"No free port found between {PORTS[0]} and {PORTS[-1]}. Stop other servers and try again.")

    def _last_address(self, cluster: Cluster) -> ServerAddress:
        """The address of the last start; creates the databases when there was none."""
        last = self._state.read_address()
        if not cluster.is_initialised():
            last = ServerAddress(port=0, user=SUPERUSER, password=secrets.token_urlsafe(32), pid=0)
            # Before the data folder: databases whose password is lost are of no use.
            self._state.write_address(last)
            cluster.initialise(last.password)
        if last is None:
            message = (
                f"The databases in {cluster.data} are there, but {self._state.address_file}, which holds their "
                "password, is not. Restore that file, or move the data folder away to start empty."
            )
            raise Unavailable(message)
        return last

    def _starts_on(self, port: int, cluster: Cluster, last: ServerAddress) -> bool:
        """Starts the server on ``port``; False when somebody has taken the port meanwhile."""
        position = self._state.log_size_bytes()
        process = cluster.start(port)
        try:
            if cluster.becomes_ready(process):
                self._own(process, dataclasses.replace(last, port=port, pid=process.pid))
        finally:  # an interrupt must not leave a half-started server either
            if not self.owned:
                shut_down(process)
        if not self.owned and "could not bind" not in self._state.log_since(position):
            raise cluster.failure("The embedded PostgreSQL did not start", position)
        return self.owned

    def _own(self, process: subprocess.Popen[bytes], address: ServerAddress) -> None:
        self._state.write_address(address)
        self._address, self._process, self.owned = address, process, True
        if sys.platform != "linux":
            atexit.register(self.stop)

    def stop(self) -> None:
        """Stops an owned server by a fast shutdown and detaches from another's; safe to repeat."""
        process, self._process, self._address, self.owned = self._process, None, None, False
        atexit.unregister(self.stop)
        if process is not None:
            shut_down(process)

    def ensure_database(self, name: str) -> None:
        """Creates the database unless it exists."""
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        try:
            with _connect(self.address) as connection:
                known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
                if known is None:
                    # Another process may create it at the same instant.
                    with suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                        connection.execute(create)
        except psycopg.OperationalError as error:
            raise Unavailable(f"Database {name!r} was not created. {self._state.log_excerpt(0)}") from error

    def delete_data(self) -> None:
        """Deletes every database of the home for good, wherever they are; refused while the server runs."""
        with _files_of(self._home):
            if not self._state.folder.exists():
                return
            lock = self._state.try_lock()
            if lock is None:
                raise Unavailable(f"The PostgreSQL server of {self._home} is running. Stop it, then delete its data.")
            try:
                self._state.delete()
            finally:
                os.close(lock)


def running_server(home: Path) -> ServerAddress | None:
    """The address of the server of ``home``, if one accepts connections now.

    The lock proves that a server of this home lives. Authentication proves that it is the one that answers:
    SCRAM works only between two sides that know the password.
    """
    state = StateFolder(home)
    with _files_of(home):
        address = state.read_address() if state.is_locked() else None
    if address is None or address.pid == 0:
        return None
    try:
        with _connect(address) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
    except psycopg.OperationalError:
        return None
    # A copied home has the address of the server it was copied from.
    return address if row and state.may_hold(row[0]) else None


@contextmanager
def _files_of(home: Path) -> Iterator[None]:
    """Turns trouble with files, such as those of another user, into ``Unavailable``."""
    try:
        yield
    except OSError as error:
        message = (
            f"The embedded PostgreSQL of {home} cannot use {error.filename or 'its files'}: {error.strerror}. "
            "Run as the user that created it, free the place, or choose another home folder."
        )
        raise Unavailable(message) from error


def _connect(address: ServerAddress) -> psycopg.Connection[tuple[str]]:
    """A connection of the superuser to a server that knows its password."""
    return psycopg.connect(
        address.url("postgres"),
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        require_auth="scram-sha-256",
        sslmode="disable",
        gssencmode="disable",
    )
