"""Objects as files below one folder."""

from __future__ import annotations

import datetime as dt
import io
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from export_pipelines.core.errors import IntegrityViolation, ObjectMissing, Unavailable
from export_pipelines.core.naming import Area
from export_pipelines.core.ports import Freed, StoredObject
from export_pipelines.object_stores.keys import UNFINISHED, checked_key, checked_prefix

_BUFFER_BYTES = 1024 * 1024
_FOLDER_ATTEMPTS = 20
_STAGED = f"{Area.STAGE}/"
_Result = TypeVar("_Result")


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
        temporary = target.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        with _explained(target):
            file = _in_folder(temporary, partial(_Sink, temporary, target))
        try:
            with file, io.BufferedWriter(file, _BUFFER_BYTES) as sink:
                yield cast("BinaryIO", sink)
                with _explained(target):
                    sink.flush()
                    os.fsync(file.fileno())
            with _explained(target):
                temporary.replace(target)
                if not key.startswith(_STAGED):  # moving it syncs the folder that it gets into
                    _sync_folder(target.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            self._remove_empty(temporary.parent)
            raise

    @contextmanager
    def reading(self, key: str) -> Iterator[BinaryIO]:
        """A seekable source."""
        path = self._existing(key)
        with _explained(path, "read"):
            stream = path.open("rb")
        with stream:
            yield stream

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """The stored file itself; do not change it."""
        yield self._existing(key)

    def move(self, key: str, to: str) -> None:
        """Rename, replacing what is there. A folder that is empty then goes."""
        self.move_all([(key, to)])

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        """Rename one after the other; each folder is synced once, when all are in it."""
        left, entered = dict[Path, None](), dict[Path, None]()
        for key, to in moves:
            source, target = self._existing(key), self._path(to)
            with _explained(target):
                _in_folder(target, partial(source.replace, target))
            left[source.parent] = entered[target.parent] = None
        for folder in entered:
            with _explained(folder):
                _sync_folder(folder)
        for folder in left:
            self._remove_empty(folder)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size in bytes) of an object or of everything below a prefix, sorted; unfinished writes are none."""
        return sorted((found.key, found.size_bytes) for found in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[StoredObject]:
        """Everything below a prefix as the walk meets it; unfinished writes are not."""
        for path, status in self._files(prefix):
            if not path.name.startswith(UNFINISHED):
                key = path.relative_to(self._root).as_posix()
                yield StoredObject(key=key, size_bytes=status.st_size, modified_at=_instant(status))

    def drop_unfinished(self, prefix: str, *, before: dt.datetime, dry_run: bool = False) -> Freed:
        """Remove the temporary files of killed writers that nobody has written to since ``before``.

        Folders in which nothing was or is since then go with them; they are not counted.
        """
        freed = Freed()
        for path, status in self._files(prefix):
            if path.name.startswith(UNFINISHED) and _instant(status) < before:
                freed += Freed(items=1, size_bytes=status.st_size)
                if not dry_run:
                    with _explained(path, "delete"):
                        path.unlink(missing_ok=True)
                    self._remove_empty(path.parent)
        top = self._path(prefix) if checked_prefix(prefix) else self._root
        if not dry_run and top.is_dir():
            _drop_empty_folders(top, before, keep=self._root)
        return freed

    def delete(self, prefix: str) -> int:
        """Remove an object or all below a prefix, and what killed writers left there; the bytes freed."""
        folder = self._path(checked_prefix(prefix))
        freed = 0
        with _explained(folder, "delete below"):
            for path, status in self._files(prefix):
                path.unlink(missing_ok=True)
                freed += status.st_size
        for emptied, _, _ in os.walk(folder, topdown=False):
            _remove_if_empty(Path(emptied))
        self._remove_empty(folder)
        return freed

    def _remove_empty(self, folder: Path) -> None:
        """A folder and those above it, as far as they are empty."""
        while folder != self._root and (not folder.exists() or _remove_if_empty(folder)):
            folder = folder.parent

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def presigned_url(self, key: str, *, ttl: dt.timedelta, filename: str) -> str | None:  # noqa: ARG002 - a folder has no links
        return None

    def _files(self, prefix: str) -> Iterator[tuple[Path, os.stat_result]]:
        """Every file below a prefix, also unfinished ones; those that vanish meanwhile are skipped."""
        wanted = checked_prefix(prefix)
        top = self._path(wanted) if wanted else self._root
        for path in (top, *_below(top)):
            try:
                status = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status

    def _path(self, key: str) -> Path:
        path = (self._root / checked_key(key)).resolve()
        if not path.is_relative_to(self._root):
            raise IntegrityViolation(f"object key {key!r} leaves the storage folder through a symbolic link")
        return path

    def _existing(self, key: str) -> Path:
        path = self._path(key)
        if not path.is_file():
            raise ObjectMissing(f"object {key!r} is missing from the storage folder")
        return path


def _instant(status: os.stat_result) -> dt.datetime:
    return dt.datetime.fromtimestamp(status.st_mtime, dt.UTC)


def _below(top: Path) -> Iterator[Path]:
    """Files below a folder. Unlike `Path.rglob`, a walk passes over folders that a neighbour removes meanwhile."""
    for folder, _, names in os.walk(top):
        yield from (Path(folder, name) for name in names)


class _Sink(io.FileIO):
    """A new file whose write errors are ours; so those of the caller, inside the context, stay the caller's."""

    def __init__(self, path: Path, target: Path) -> None:
        super().__init__(path, "x")
        self._target = target

    def write(self, data: Any) -> int:
        with _explained(self._target):
            return super().write(data)


def _in_folder(path: Path, act: Callable[[], _Result]) -> _Result:
    """Act on a path whose folder is made first, and again when a neighbour's delete took it away meanwhile."""
    for attempt in range(1, _FOLDER_ATTEMPTS + 1):
        try:
            _make_folder(path.parent)
            return act()
        except FileNotFoundError:
            if attempt == _FOLDER_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _make_folder(folder: Path) -> None:
    """`FileNotFoundError` also for a folder that was there and is gone when `mkdir` looks what it is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        if any(above.exists() and not above.is_dir() for above in (folder, *folder.parents)):
            raise
        raise FileNotFoundError(error.errno, error.strerror, str(folder)) from error


def _sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _drop_empty_folders(folder: Path, before: dt.datetime, *, keep: Path) -> None:
    """From below, so that a folder of empty folders goes as a whole; none in which something changed lately."""
    old = folder != keep and _changed_before(folder, before)  # asked first: what goes below changes it
    try:
        below = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for each in below:
        _drop_empty_folders(each, before, keep=keep)
    if old:
        _remove_if_empty(folder)


def _changed_before(folder: Path, before: dt.datetime) -> bool:
    try:
        return _instant(folder.stat()) < before
    except FileNotFoundError:
        return False


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


@contextmanager
def _explained(target: Path, what: str = "write") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"cannot {what} {target}: {error.strerror or error}; free space or correct the folder's rights, then retry"
        ) from error
