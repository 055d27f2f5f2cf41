"""Objects as files below one folder."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from export_pipelines.core.errors import IntegrityViolation, Unavailable

_TEMPORARY = ".writing-"


class LocalStore:
    """Keys are paths below ``root``. Writes go to a temporary file, are synced and renamed."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def url(self, key: str) -> str:
        return self._path(key).as_uri()

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """A sink; the object appears, whole, when the context ends without an error."""
        target = self._path(key)
        temporary = target.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        with _explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as sink:
                yield sink
                with _explained(target):
                    sink.flush()
                    os.fsync(sink.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            raise Unavailable(f"cannot write {target}: {error.strerror or error}; free space or fix it, then retry") from error
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def reading(self, key: str) -> Iterator[BinaryIO]:
        """A seekable source."""
        path = self._existing(key)
        with path.open("rb") as stream:
            yield stream

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """The stored file itself; do not change it."""
        yield self._existing(key)

    def move(self, key: str, to: str) -> None:
        """Rename, replacing what is there."""
        source, target = self._existing(key), self._path(to)
        with _explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
            _sync_folder(target.parent)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size in bytes) below a prefix, sorted; unfinished writes are not objects."""
        folder = self._path(prefix)
        if folder.is_file():
            return [(prefix, folder.stat().st_size)]
        files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(_TEMPORARY))
        return sorted((path.relative_to(self._root).as_posix(), path.stat().st_size) for path in files)

    def delete(self, prefix: str) -> int:
        """Remove an object or all below a prefix, then the folders left empty; the bytes freed."""
        freed = 0
        for key, size in self.list(prefix):
            self._path(key).unlink(missing_ok=True)
            freed += size
        folder = self._path(prefix)
        for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            _remove_if_empty(path)
        while folder != self._root and (not folder.exists() or _remove_if_empty(folder)):
            folder = folder.parent
        return freed

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def presigned_url(self, key: str, *, ttl: dt.timedelta, filename: str) -> str | None:  # noqa: ARG002 - a folder has no links
        return None

    def _path(self, key: str) -> Path:
        path = (self._root / key).resolve()
        if not path.is_relative_to(self._root):
            raise IntegrityViolation(f"object key {key!r} leaves the storage folder")
        return path

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise IntegrityViolation(f"object {key!r} is missing from the storage folder")
        return path


def _sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot write {target}: {error.strerror or error}; free space or fix it, then retry") from error
