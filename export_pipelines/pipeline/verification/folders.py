"""What lies in a folder that somebody else filled: names and kinds, without following a link or opening a file."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from export_pipelines.core.errors import IntegrityViolation, Unavailable
from export_pipelines.core.package_paths import MAX_FILES

_MAX_ENTRIES = 2 * MAX_FILES  # files and their folders


@dataclass(frozen=True, kw_only=True)
class FolderContent:
    """Everything below a folder, by its path with forward slashes."""

    files: dict[str, int] = field(default_factory=dict)  # regular ones, with their bytes
    folders: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)  # symbolic, wherever they lead
    others: set[str] = field(default_factory=set)  # pipes, sockets, devices: to open one may never return

    @property
    def names(self) -> set[str]:
        return {*self.files, *self.folders, *self.links, *self.others}


def content_of(folder: Path) -> FolderContent:
    """`IntegrityViolation` for more entries than a package has, `Unavailable` where one cannot be looked at."""
    found = FolderContent()
    waiting, entries = [(str(folder), "")], 0
    while waiting:
        place, prefix = waiting.pop()
        try:
            with os.scandir(place) as listed:
                for entry in listed:
                    entries += 1
                    if entries > _MAX_ENTRIES:
                        raise IntegrityViolation(f"{folder} holds more than {_MAX_ENTRIES} files and folders")
                    if _sort(entry, f"{prefix}{entry.name}", found):
                        waiting.append((entry.path, f"{prefix}{entry.name}/"))
        except OSError as error:
            raise Unavailable(f"cannot list {place}: {error.strerror or error}") from error
    return found


def _sort(entry: os.DirEntry[str], name: str, found: FolderContent) -> bool:
    """Put an entry where it belongs; whether it is a folder to look into."""
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        found.files[name] = status.st_size
    elif stat.S_ISDIR(status.st_mode):
        found.folders.add(name)
    elif stat.S_ISLNK(status.st_mode):
        found.links.add(name)
    else:
        found.others.add(name)
    return name in found.folders
