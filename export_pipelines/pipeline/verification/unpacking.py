"""Packages from strangers as folders: what an archive may hold, and how much of the disk it may take.

An archive's structure is checked before anything is read (`export_pipelines.archives.zip_structure`), then its manifest
is read, and then nothing but the files that the manifest lists is written, each to the size that it says. Whether the
files are what they should be is decided by `export_pipelines.pipeline.verification.verify`.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from export_pipelines.archives.age_reading import is_age
from export_pipelines.archives.zip_reading import read_member
from export_pipelines.archives.zip_structure import ZipMember, read_structure
from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.package_paths import shown
from export_pipelines.packaging.archive_encryption import Keys, hides_archive, open_sealed
from export_pipelines.packaging.manifest_reading import MAX_BYTES, parse_manifest

_SHARE_OF_FREE_SPACE = 0.9  # the rest is for the others on this disk
_COPY_BYTES = 1 << 20
_PLAIN = "decrypted.zip"
_ZIP_MARK = b"PK\x03\x04"


@contextmanager
def unpacked(path: Path, keys: Keys) -> Iterator[Path]:
    """The folder of a package given as folder, manifest or archive; an archive is unpacked until the context ends.

    `RequestRejected` when the keys of an encrypted one are missing or wrong, `IntegrityViolation` when other programs
    could find other files in the archive, or it holds something that its manifest does not list.
    """
    if path.is_dir():
        yield path
    elif path.is_file() and path.name == MANIFEST:
        yield path.parent
    elif path.is_file() and (is_age(path) or is_archive(path)):
        with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
            yield _unpack(path, keys, Path(scratch))
    elif path.is_file() and _starts_as_archive(path):
        raise IntegrityViolation(f"{path} is a damaged or incomplete archive; fetch it again")
    else:
        raise RequestRejected(f"{path} is not a package: give its folder, its .zip or its {MANIFEST}", field="PACKAGE")


@contextmanager
def opened(path: Path, keys: Keys) -> Iterator[Path]:
    """The folder with the files themselves, also of a published package that holds an archive and its manifest."""
    with unpacked(path, keys) as folder:
        inside = [found for found in islice(folder.iterdir(), 3) if found.name != MANIFEST]
        if len(inside) == 1 and _is_package_file(inside[0]):
            with unpacked(inside[0], keys) as content:
                yield content
        else:
            yield folder


def _is_package_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and (is_age(path) or is_archive(path))


def _starts_as_archive(path: Path) -> bool:
    """A ZIP that was cut has its first member's mark and no directory."""
    with path.open("rb") as stream:
        return stream.read(len(_ZIP_MARK)) == _ZIP_MARK


def is_archive(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path)


def copy_within_space(source: BinaryIO, target: BinaryIO, folder: Path) -> None:
    """Copy to a file in ``folder``; `Unavailable` once that would fill the disk: a stream may unpack to any size."""
    free = free_bytes(folder)
    while piece := source.read(_COPY_BYTES):
        free -= len(piece)
        if free < 0:
            raise too_large(folder)
        target.write(piece)


class DiskGuard(io.RawIOBase):
    """A file that stops growing before its disk is full; it does not close the file."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file = file
        self._folder = folder
        self._free_bytes = free_bytes(folder)

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Any) -> int:
        self._free_bytes -= memoryview(data).nbytes
        if self._free_bytes < 0:
            raise too_large(self._folder)
        return self._file.write(data)


def _unpack(path: Path, keys: Keys, scratch: Path) -> Path:
    """The one folder of an archive, also of one inside an encrypted one, which is decrypted to no more bytes."""
    content = scratch / "content"
    content.mkdir()
    if not is_age(path):
        members = read_structure(path)
        if not hides_archive(members):
            password = keys.require_password() if any(member.encrypted for member in members) else None
            return _extract(path, members, content, password=password, name=str(path))
    plain = scratch / _PLAIN
    with plain.open("w+b") as target:
        open_sealed(path, keys, cast("BinaryIO", DiskGuard(target, scratch)))
    name = f"{path}, decrypted,"
    return _extract(plain, read_structure(plain, name), content, password=None, name=name)


def _extract(path: Path, members: Sequence[ZipMember], scratch: Path, *, password: bytes | None, name: str) -> Path:
    """The one folder that the archive holds: its manifest, and the files that this lists. Nothing else is written."""
    files = {member.name: member for member in members if not member.is_folder}
    folder = _only_folder(files, name)
    described = files.pop(f"{folder}/{MANIFEST}")
    if described.size_bytes > MAX_BYTES:
        raise RequestRejected(f"{name} has a {MANIFEST} larger than {MAX_BYTES} bytes", field="PACKAGE")
    if described.encrypted and password is None:
        raise IntegrityViolation(f"{name} holds encrypted members inside an encrypted archive")
    content = b"".join(_content(path, described, password, name))
    listed = parse_manifest(content, f"{MANIFEST} in {name}").sizes
    _require_listed(files, {f"{folder}/{file}": size for file, size in listed.items()}, name)
    if len(content) + sum(member.size_bytes for member in files.values()) > free_bytes(scratch):
        raise too_large(scratch)
    _write(scratch / folder / MANIFEST, (content,))
    for member in files.values():
        _write(scratch / member.name, _content(path, member, password, name))
    return scratch / folder


def _content(path: Path, member: ZipMember, password: bytes | None, name: str) -> Iterator[bytes]:
    try:
        yield from read_member(path, member, password)
    except IntegrityViolation as error:
        raise IntegrityViolation(f"{name} is damaged: {error}") from error


def _only_folder(files: Iterable[str], name: str) -> str:
    """The folder that holds the manifest; another one may not be there."""
    folders = [path.removesuffix(f"/{MANIFEST}") for path in files if path.endswith(f"/{MANIFEST}")]
    tops = [folder for folder in folders if "/" not in folder]
    if not tops:
        raise RequestRejected(f"{name} holds no {MANIFEST} in its top folder", field="PACKAGE")
    return tops[0]


def _require_listed(files: Mapping[str, ZipMember], listed: Mapping[str, int], name: str) -> None:
    """Every member is a file of the manifest and has its size."""
    for path, member in files.items():
        if path not in listed:
            raise IntegrityViolation(f"{name} holds a file more: {shown(path)} is not in the manifest")
        if member.size_bytes != listed[path]:
            problem = f"{shown(path)} has {member.size_bytes} bytes, the manifest says {listed[path]}"
            raise IntegrityViolation(f"{name} holds another file: {problem}")


def _write(target: Path, pieces: Iterable[bytes]) -> None:
    """A file that was not there before."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sink = target.open("xb")
    except OSError as error:
        raise _unwritable(target, error) from error
    with sink:
        for piece in pieces:
            try:
                sink.write(piece)
            except OSError as error:
                raise _unwritable(target, error) from error


def _unwritable(target: Path, error: OSError) -> Unavailable:
    return Unavailable(f"cannot write {shown(str(target))}: {error.strerror or error}; set TMPDIR to another disk")


def free_bytes(folder: Path) -> int:
    """How much a package may take of the disk that a folder is on."""
    return int(shutil.disk_usage(folder).free * _SHARE_OF_FREE_SPACE)


def too_large(folder: Path) -> Unavailable:
    """For a package that needs more than `free_bytes`."""
    return Unavailable(f"the package takes more than {folder} has room for; set TMPDIR to a larger disk")
