"""The PostgreSQL of Debian, for what an older version than the embedded one does differently."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from export_pipelines.embedded import child
from export_pipelines.embedded.cluster import shut_down
from export_pipelines.embedded.os_account import launched_by_root, server_account
from export_pipelines.embedded.ports import free_ports

INSTALLATIONS = Path("/usr/lib/postgresql")
START_TIMEOUT_SECONDS = 60
_SUPERUSER, _PASSWORD = "postgres", "superuser"
_SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "timezone=UTC")


@dataclass(frozen=True, kw_only=True)
class DebianPostgres:
    """A running server of the distribution."""

    version: int
    port: int

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """As `EmbeddedPostgres.url`."""
        return f"postgresql://{user or _SUPERUSER}:{password or _PASSWORD}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_debian_postgres(folder: Path) -> Iterator[DebianPostgres]:
    """The oldest installed version, in ``folder``, until the context ends."""
    programs = min(INSTALLATIONS.glob("*/bin"), key=lambda path: int(path.parent.name))
    account = server_account()
    folder.chmod(0o755)
    data, password = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    password.write_text(_PASSWORD)
    if launched_by_root():
        os.chown(data, account.uid, account.gid)
    become = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), str(account.uid), str(account.gid)]
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    log = (folder / "log").open("wb")
    initialise = ("-D", str(data), "-U", _SUPERUSER, f"--pwfile={password}", "-A", "scram-sha-256")
    locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
    subprocess.run(
        [*become, str(programs / "initdb"), *initialise, *locale],
        check=True,
        cwd="/",
        env=environment,
        stdout=log,
        stderr=log,
    )
    port = next(iter(free_ports(0)))
    options = [part for setting in (f"port={port}", *_SETTINGS) for part in ("-c", setting)]
    process = subprocess.Popen(
        [*become, str(programs / "postgres"), "-D", str(data), *options],
        cwd="/",
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    server = DebianPostgres(version=int(programs.parent.name), port=port)
    try:
        _wait(server, process)
        yield server
    finally:
        shut_down(process)
        log.close()


def _wait(server: DebianPostgres, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
