"""What the embedded server keeps in ``<home>/postgres``: its address, its lock, its log.

The lock is the one proof that a server lives: PostgreSQL inherits the locked file from the launcher,
so the kernel holds the lock for exactly as long as any process of that server exists.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from export_pipelines.embedded.os_account import launched_by_root, make_folder

if TYPE_CHECKING:
    from export_pipelines.embedded.os_account import Account

LOG_LIMIT_BYTES = 10 * 1024 * 1024
LOG_TAIL_LINES = 12
OUTSIDE_FOLDER = Path("/var/lib/export-pipelines")


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """How to reach a server; ``user`` is its superuser."""

    port: int
    user: str
    password: str = field(repr=False)
    pid: int  # of the postmaster; 0 before the first start
    host: str = "127.0.0.1"

    def url(self, database: str, *, user: str | None = None, password: str | None = None) -> str:
        """A libpq URL: the superuser's, or that of ``user`` with the ``password`` given, if any."""
        if user is None:
            user, password = self.user, self.password
        login = quote(user, safe="")
        if password is not None:
            login += f":{quote(password, safe='')}"
        return f"postgresql://{login}@{self.host}:{self.port}/{quote(database, safe='')}"


class StateFolder:
    """The folder ``<home>/postgres``; reading it creates nothing."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "postgres"
        self.log = self.folder / "server.log"
        self.address_file = self.folder / "server.json"
        self._lock = self.folder / "server.lock"

    def create(self) -> None:
        """Creates the folder; root's can be traversed by the account that runs the server, but not listed."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        make_folder(self.folder, 0o711 if launched_by_root() else 0o700)

    def try_lock(self) -> int | None:
        """A file descriptor that holds the lock until its last copy is closed; None while a server lives."""
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        return descriptor if _locked(descriptor, fcntl.LOCK_EX) else None

    def is_locked(self) -> bool:
        """Whether a server of this folder lives, or is being started."""
        try:
            descriptor = os.open(self._lock, os.O_RDWR)
        except FileNotFoundError:
            return False
        # Shared, so that several onlookers never mistake each other for a server.
        if not _locked(descriptor, fcntl.LOCK_SH):
            return True
        os.close(descriptor)
        return False

    def read_address(self) -> ServerAddress | None:
        """The address of the last start, which may be over; None before the first."""
        try:
            return ServerAddress(**json.loads(self.address_file.read_text()))
        except FileNotFoundError:
            return None

    def write_address(self, address: ServerAddress) -> None:
        """Replaces the address atomically, while the lock is held; only the owner can read it."""
        partial = self.address_file.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(dataclasses.asdict(address), stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.address_file)

    def outside_folder(self) -> Path:
        """Where root keeps the data of a home that the server's account cannot enter."""
        return OUTSIDE_FOLDER / hashlib.sha256(os.fsencode(self.folder.parent)).hexdigest()[:16]

    def data_folder(self, account: Account) -> Path:
        """The folder of the databases; decided once, at the first start."""
        inside, outside = self.folder / "data", self.outside_folder() / "data"
        if inside.exists() or not launched_by_root():
            return inside
        if outside.exists() or not account.can_traverse(self.folder):
            return outside
        return inside

    def may_hold(self, data_directory: str) -> bool:
        """Whether a server that reports this data directory can be the one of this folder."""
        return Path(data_directory).parent in {self.folder, self.outside_folder()}

    def delete(self) -> None:
        """Deletes the folder and the data outside of it."""
        if launched_by_root() and self.outside_folder().exists():
            shutil.rmtree(self.outside_folder())
        shutil.rmtree(self.folder)

    def rotate_log(self) -> None:
        """Keeps at most one old log, so that log files never grow without bound over restarts."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def open_log(self) -> int:
        """A file descriptor that appends to the log."""
        return os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def log_size_bytes(self) -> int:
        """The position of the next message, for ``log_since``."""
        return self.log.stat().st_size if self.log.exists() else 0

    def log_since(self, position: int) -> str:
        """The last lines written after ``position``."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(position)
            text = stream.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-LOG_TAIL_LINES:])

    def log_excerpt(self, position: int) -> str:
        """The last lines written after ``position``, as the end of an error message."""
        return f"Correct what the last messages in {self.log} name, then start again:\n{self.log_since(position)}"


def _locked(descriptor: int, kind: int) -> bool:
    """Takes the lock without waiting, or closes the descriptor."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
