"""A folder that the operator names: a network drive, or where another program picks packages up.

Below the folder each tenant has its own, and in that each export has one, which appears whole: it is written beside its
place under a hidden name, read back, and renamed. `_SUCCESS` is its last file and holds the manifest's digest in the
form of `sha256sum`, so that a program that copies the folder on knows when its copy is complete.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from export_pipelines.core.destinations import (
    Carries,
    Delivery,
    DestinationSpec,
    Effect,
    PackageFile,
    Receipt,
    Target,
    TestStep,
)
from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import MANIFEST, segment, slug
from export_pipelines.core.package_paths import path_problem

SUCCESS = "_SUCCESS"
_CHUNK_BYTES = 1024 * 1024
_TITLE_BYTES = 80  # of an export's name in that of its folder
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class FolderTarget(Target):
    """A folder that the operator has set up; the package is put into it, below the tenant's own folder."""

    method: Literal["folder"] = Field(description="`folder`.")
    folder: str = Field(
        min_length=1, max_length=100, exclude=True, description="Its name, as the operator calls it (EXPORT_FOLDERS)."
    )


class FolderSettings(BaseModel):
    """What the operator says of folders."""

    folders: dict[str, Path] = {}


@dataclass(frozen=True)
class FolderDestination:
    """The operator's folders by name. They are never made here: a drive that is not mounted must not be replaced by a
    folder of the same name on this machine's disk.
    """

    folders: Mapping[str, Path]

    def require(self, recipient: str) -> None:
        if recipient not in self.folders:
            known = ", ".join(sorted(self.folders))
            raise RequestRejected(
                f"{recipient!r} is not a folder of this service; choose from {known}", field="delivery.folder"
            )

    def deliver(self, delivery: Delivery) -> Receipt:
        self.require(delivery.recipient)
        if (earlier := self.probe(delivery)) is not None:
            return earlier
        root, place = self.folders[delivery.recipient], self._place(delivery)
        with _explained(delivery.recipient):
            _require_folder(root, delivery.recipient)
            _make_tenants_folder(root, place.parent)
            if os.path.lexists(place):
                raise RequestRejected(
                    f"{_location(delivery)} is there already and is not this export; move it away and deliver again"
                )
            _clear_earlier_tries(place)
            self._write(delivery, place)
        return _receipt(delivery)

    def probe(self, delivery: Delivery) -> Receipt | None:
        self.require(delivery.recipient)
        with _explained(delivery.recipient):
            try:
                found = (self._place(delivery) / SUCCESS).read_text(encoding="utf-8")
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _receipt(delivery) if found == _success(delivery) else None

    def self_test(self) -> Iterator[TestStep]:
        for name, root in self.folders.items():
            yield from _test_folder(name, root)

    def _place(self, delivery: Delivery) -> Path:
        return self.folders[delivery.recipient].joinpath(*_parts(delivery))

    def _write(self, delivery: Delivery, place: Path) -> None:
        unfinished = place.with_name(f"{_unfinished(place)}{secrets.token_hex(4)}.part")
        unfinished.mkdir()
        try:
            for file in delivery.files:
                _copy(file, unfinished, delivery)
            _write_synced(unfinished / SUCCESS, _success(delivery).encode())
            _sync_folders(unfinished)
            delivery.still_ours()
            _appear(unfinished, place)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _parts(delivery: Delivery) -> tuple[str, str]:
    """Folder of the tenant and of the export, the same in every try."""
    title = slug(delivery.export_name).encode()[:_TITLE_BYTES].decode(errors="ignore")
    day = f"{delivery.requested_at:%Y-%m-%d}_" if delivery.requested_at else ""
    return segment(delivery.tenant_id), f"{day}{title}_{segment(str(delivery.request_id))}"


def _location(delivery: Delivery) -> str:
    return "/".join((delivery.recipient, *_parts(delivery)))


def _success(delivery: Delivery) -> str:
    return f"{delivery.manifest_sha256}  {MANIFEST}\n"


def _receipt(delivery: Delivery) -> Receipt:
    return Receipt(
        remote_id=delivery.manifest_sha256,
        location=_location(delivery),
        files=len(delivery.files),
        size_bytes=sum(file.size_bytes for file in delivery.files),
        confirmed="read-back",
    )


def _require_folder(root: Path, name: str) -> None:
    if not root.is_dir():
        raise Unavailable(f"the folder {name!r} is not there; is its drive mounted?")


def _make_tenants_folder(root: Path, folder: Path) -> None:
    with suppress(FileExistsError):
        folder.mkdir()
    if folder.is_symlink() or not folder.is_dir():
        raise RequestRejected(f"the tenant's part of {root.name} is not a folder of its own; move it away")


def _unfinished(place: Path) -> str:
    return f".{place.name}."


def _clear_earlier_tries(place: Path) -> None:
    """Of senders that died. One that is only slow finds its files gone and stops."""
    for left in place.parent.iterdir():
        if left.name.startswith(_unfinished(place)) and left.name.endswith(".part"):
            shutil.rmtree(left)


def _copy(file: PackageFile, folder: Path, delivery: Delivery) -> None:
    """`IntegrityViolation` unless what can be read there is what was published."""
    if path_problem(file.path) is not None:
        raise IntegrityViolation(f"a path of the package {path_problem(file.path)}; nothing was delivered")
    target = folder.joinpath(*file.path.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open() as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK_BYTES):
            sink.write(chunk)
            delivery.still_ours()
        sink.flush()
        os.fsync(sink.fileno())
    digest = hashlib.sha256()
    with target.open("rb") as written:
        while chunk := written.read(_CHUNK_BYTES):
            digest.update(chunk)
            delivery.still_ours()
    if digest.hexdigest() != file.sha256:
        raise IntegrityViolation(f"{file.path} is not what was published; nothing was delivered")


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as sink:
        sink.write(content)
        sink.flush()
        os.fsync(sink.fileno())


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network drives do not sync folders
            os.fsync(opened)
    finally:
        os.close(opened)


def _appear(unfinished: Path, place: Path) -> None:
    unfinished.rename(place)
    _sync_folder(place.parent)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What a drive refuses, without this machine's path. An operator can repair all of it, so it is tried again."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Unavailable(f"the folder {name!r} is full; free some space") from error
        raise Unavailable(f"the folder {name!r} cannot be used: {error.strerror or type(error).__name__}") from error


def _test_folder(name: str, root: Path) -> Iterator[TestStep]:
    """Everything a delivery does, with a small file."""
    first = root / f".export-pipelines-test-{secrets.token_hex(8)}"
    second = first.with_suffix(".renamed")
    steps: dict[str, Callable[[], object]] = {
        "exists": partial(_require_folder, root, name),
        "a folder can be made": first.mkdir,
        "a file can be written": partial(_write_synced, first / SUCCESS, b"test"),
        "the file can be read back": partial(_require_content, first / SUCCESS, b"test"),
        "the folder can be renamed": partial(first.rename, second),
        "the folder can be removed": partial(shutil.rmtree, second),
    }
    try:
        for step, act in steps.items():
            try:
                with _explained(name):
                    act()
            except (Unavailable, IntegrityViolation) as error:
                yield TestStep(name=f"{name}: {step}", problem=str(error))
                return
            yield TestStep(name=f"{name}: {step}")
    finally:
        for left in (first, second):
            shutil.rmtree(left, ignore_errors=True)


def _require_content(path: Path, expected: bytes) -> None:
    if path.read_bytes() != expected:
        raise IntegrityViolation(f"{path.name} reads back as something else")


def _open(settings: FolderSettings) -> FolderDestination:
    if not settings.folders:
        raise Unavailable("no folder is set up; name one in EXPORT_FOLDERS, such as nas=/mnt/nas")
    return FolderDestination(settings.folders)


def _recipients(target: FolderTarget) -> tuple[str, ...]:
    return (target.folder,)


SPEC = DestinationSpec(
    name="folder",
    title="Folder of the operator",
    target=FolderTarget,
    example={"method": "folder", "folder": "nas"},
    carries=Carries.FILES,
    effect=Effect.ONCE,
    operator=FolderSettings,
    open=_open,
    recipients=_recipients,
    must_be_set_up=True,
    limits="Only folders that the operator has named in `EXPORT_FOLDERS`.",
)
