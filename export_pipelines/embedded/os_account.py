"""The operating system account PostgreSQL runs as, and what that account can reach."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export_pipelines.core.errors import Unavailable

if TYPE_CHECKING:
    from pathlib import Path

ROOT_UID = 0
UNPRIVILEGED_ACCOUNT = "nobody"


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account with an entry in the password file, never root."""

    name: str
    uid: int
    gid: int

    def can_traverse(self, folder: Path) -> bool:
        """Whether the account may enter ``folder`` and all its parents, by their permission bits."""
        return all(self._may_enter(part.stat()) for part in (folder, *folder.parents))

    def _may_enter(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def launched_by_root() -> bool:
    """Whether this process has to run PostgreSQL as somebody else."""
    return os.geteuid() == ROOT_UID


def server_account() -> Account:
    """The caller's own account, or ``nobody`` for root: initdb and postgres refuse root.

    Raises ``Unavailable`` for a uid without an entry in the password file, which initdb refuses too.
    """
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT) if launched_by_root() else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        who = f"The account {UNPRIVILEGED_ACCOUNT!r}" if launched_by_root() else f"The user id {os.geteuid()}"
        message = (
            f"{who} has no entry in /etc/passwd, which the embedded PostgreSQL needs. "
            "Add the entry, run as a user that has one, or use your own PostgreSQL server."
        )
        raise Unavailable(message) from error
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def make_folder(folder: Path, mode: int) -> None:
    """Creates ``folder`` with exactly ``mode``, whatever the umask; one that exists keeps its permissions."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(mode)
