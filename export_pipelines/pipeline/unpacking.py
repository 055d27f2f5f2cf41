"""Packages from strangers as folders: what an archive may hold, and how much of the disk it may take.

Nothing of a package is believed here; whether its files are what they should be is
`export_pipelines.pipeline.verify`.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.packaging.sealing import Keys, is_sealed, open_sealed

_MAX_MEMBERS = 100_000  # a thousand tables make some thousand files
_SHARE_OF_FREE_SPACE = 0.9  # the rest is for the others on this disk
_COPY_BYTES = 1 << 20
_PLAIN = "decrypted.zip"
_ZIP_MARK = b"PK\x03\x04"
_UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)
"""What `zipfile` raises for damaged, encrypted and unknown members, and the file system for names it cannot hold."""


@contextmanager
def unpacked(path: Path, keys: Keys) -> Iterator[Path]:
    """The folder of a package given as folder, manifest or archive; an archive is unpacked until the context ends.

    `RequestRejected` when the keys of an encrypted one are missing or wrong.
    """
    if path.is_dir():
        yield path
    elif path.is_file() and path.name == MANIFEST:
        yield path.parent
    elif path.is_file() and is_sealed(path):
        with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
            folder = Path(scratch)
            with (folder / _PLAIN).open("w+b") as plain:
                open_sealed(path, keys, cast("BinaryIO", SpaceKeeper(plain, folder)))
            (folder / "content").mkdir()
            yield _extract(folder / _PLAIN, folder / "content")
    elif is_archive(path):
        with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
            yield _extract(path, Path(scratch))
    elif path.is_file() and _starts_as_archive(path):
        raise IntegrityViolation(f"{path} is a damaged or incomplete archive; fetch it again")
    else:
        raise RequestRejected(f"{path} is not a package: give its folder, its .zip or its {MANIFEST}", field="PACKAGE")


@contextmanager
def opened(path: Path, keys: Keys) -> Iterator[Path]:
    """The folder with the files themselves, also of a published package that holds an archive and its manifest."""
    with unpacked(path, keys) as folder:
        inside = [found for found in sorted(folder.iterdir()) if found.name != MANIFEST]
        if len(inside) == 1 and inside[0].is_file() and (is_sealed(inside[0]) or is_archive(inside[0])):
            with unpacked(inside[0], keys) as content:
                yield content
        else:
            yield folder


def _starts_as_archive(path: Path) -> bool:
    """A ZIP that was cut has its first member's mark and no directory."""
    with path.open("rb") as stream:
        return stream.read(len(_ZIP_MARK)) == _ZIP_MARK


def is_archive(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def copy_within_space(source: BinaryIO, target: BinaryIO, folder: Path) -> None:
    """Copy to a file in ``folder``; `Unavailable` once that would fill the disk: a stream may unpack to any size."""
    room = _room(folder)
    while piece := source.read(_COPY_BYTES):
        room -= len(piece)
        if room < 0:
            raise _too_large(folder)
        target.write(piece)


class SpaceKeeper(io.RawIOBase):
    """A file that stops growing before its disk is full; it does not close the file."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._room = _room(folder)

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        self._room -= memoryview(data).nbytes
        if self._room < 0:
            raise _too_large(self._folder)
        return self._file.write(data)


def _extract(path: Path, scratch: Path) -> Path:
    """The one folder that the archive holds; another program must find the same files in it as this one."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            folder = _only_folder(path, [member.filename for member in members])
            # A member ends at the size it declares, whatever its compressed bytes would give.
            if sum(member.file_size for member in members) > _room(scratch):
                raise _too_large(scratch)
            archive.extractall(scratch)
    except _UNREADABLE as error:
        raise RequestRejected(f"{path} cannot be unpacked: {error}", field="PACKAGE") from error
    if not (scratch / folder / MANIFEST).is_file():
        raise RequestRejected(f"{path} holds no {MANIFEST} in its top folder", field="PACKAGE")
    return scratch / folder


def _only_folder(path: Path, names: list[str]) -> str:
    problem = None
    tops = {PurePosixPath(name).parts[:1] for name in names}
    if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name for name in names):
        problem = "has a member that leaves its folder"
    elif len(set(names)) != len(names):
        problem = "has two members of one name, of which programs show one or the other"
    elif len(names) > _MAX_MEMBERS:
        problem = f"has more than {_MAX_MEMBERS} members"
    elif len(tops) != 1 or tops == {()}:
        problem = f"holds no {MANIFEST} in its top folder, or more than that folder"
    if problem is not None:
        raise RequestRejected(f"{path} {problem}", field="PACKAGE")
    return str(next(iter(tops))[0])


def _room(folder: Path) -> int:
    return int(shutil.disk_usage(folder).free * _SHARE_OF_FREE_SPACE)


def _too_large(folder: Path) -> Unavailable:
    return Unavailable(f"the package unpacks to more than {folder} has room for; set TMPDIR to a larger disk")
