"""The package as one archive in the store, plain or encrypted, and read back before anybody may see it."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from export_pipelines.archives.age_reading import is_age
from export_pipelines.archives.zip_reading import read_member
from export_pipelines.archives.zip_structure import read_structure
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import ExportFile, ExportPlan, Sealing
from export_pipelines.core.naming import download_name, slug, stage_prefix
from export_pipelines.packaging.archive import Member, write_zip
from export_pipelines.packaging.archive_encryption import EXTENSIONS, MEDIA_TYPES, Lock, hides_archive, open_sealed
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.packaging.sinks import DigestSink
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.unpacking import DiskGuard

_STORED = frozenset({codec.media_type for codec in CODECS.values()})
_NEUTRAL_NAME = "export"  # a title can tell what is inside
_READ_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def zip_package(
    plan: ExportPlan, named: Sequence[ExportFile], services: ExportServices, *, deflate: bool
) -> ExportFile:
    """All files in one ZIP."""
    path, folder = download_name(plan.name, plan.request_id, "zip"), slug(plan.name)
    key = _key(plan, path)
    with services.store.writing(key) as stored:
        sink = DigestSink(stored)
        write_zip(cast("BinaryIO", sink), _members(named, services, deflate=deflate), folder=folder)
    with services.store.local(key) as archive:
        _require_members(archive, folder, named)
    return _file(key, path, "zip", MEDIA_TYPES["AES256"], sink, named)


def seal_package(
    plan: ExportPlan, sealing: Sealing, named: Sequence[ExportFile], services: ExportServices, *, deflate: bool
) -> ExportFile:
    """All files in one encrypted archive, decrypted again by other code than encrypted it."""
    lock = open_lock(plan, sealing, services)
    path = download_name(_NEUTRAL_NAME, plan.request_id, EXTENSIONS[sealing.method])
    key, folder = _key(plan, path), slug(plan.name)
    with services.store.writing(key) as stored:
        sink = DigestSink(stored)
        lock.write(cast("BinaryIO", sink), _members(named, services, deflate=deflate), folder=folder)
    services.settings.scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=services.settings.scratch, prefix="sealed-") as scratch,
        services.store.local(key) as archive,
    ):
        try:
            _require_sealed(archive, lock, Path(scratch) / "plain.zip", folder, named)
        except RequestRejected as error:  # our own key does not open it
            raise IntegrityViolation(f"the encrypted archive cannot be read back: {error}") from error
    return _file(key, path, sealing.method, MEDIA_TYPES[sealing.method], sink, named)


def open_lock(plan: ExportPlan, sealing: Sealing, services: ExportServices) -> Lock:
    """The lock with the password that the request keeps; `RequestRejected` when it is gone or a key is none."""
    password = services.requests.password_of(plan.request_id) if sealing.needs_password else None
    return Lock(sealing, password)


def _members(named: Sequence[ExportFile], services: ExportServices, *, deflate: bool) -> list[Member]:
    return [
        Member(
            path=file.path,
            size_bytes=file.size_bytes,
            content=services.store.reading(file.key),
            deflate=file.media_type not in _STORED and (deflate or not file.parts),
        )
        for file in named
    ]


def _require_sealed(archive: Path, lock: Lock, plain: Path, folder: str, named: Sequence[ExportFile]) -> None:
    """As `_require_members`, of an archive inside an encrypted one, or one of encrypted members."""
    if not is_age(archive) and not hides_archive(members := read_structure(archive)):
        password = lock.keys.require_password()
        _require_held(
            {member.name: _sha256(read_member(archive, member, password)) for member in members}, folder, named
        )
        return
    with plain.open("w+b") as target:
        open_sealed(archive, lock.keys, cast("BinaryIO", DiskGuard(target, plain.parent)))
    _require_members(plain, folder, named)


def _require_members(archive: Path, folder: str, named: Sequence[ExportFile]) -> None:
    """The archive holds these files and no others, byte for byte, as the standard library reads it, and no program
    could read it otherwise.
    """
    read_structure(archive, "the archive as it was written")
    try:
        with zipfile.ZipFile(archive) as found:
            held = {entry.filename: _sha256(_member(found, entry)) for entry in found.infolist()}
    except _DAMAGE as error:
        raise IntegrityViolation(f"the archive cannot be read back ({type(error).__name__}); export again") from error
    _require_held(held, folder, named)


def _require_held(held: dict[str, str], folder: str, named: Sequence[ExportFile]) -> None:
    if held != {f"{folder}/{file.path}": file.sha256 for file in named}:
        raise IntegrityViolation("the archive does not hold the files that were put into it; export again")


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(entry) as stream:
        while piece := stream.read(_READ_BYTES):
            yield piece


def _sha256(pieces: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _key(plan: ExportPlan, path: str) -> str:
    return f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"


def _file(key: str, path: str, name: str, media_type: str, sink: DigestSink, named: Sequence[ExportFile]) -> ExportFile:
    return ExportFile(
        key=key,
        path=path,
        format=name,
        media_type=media_type,
        rows=sum(file.rows for file in named),
        size_bytes=sink.size_bytes,
        sha256=sink.sha256,
        crc32=sink.crc32,
        parts=tuple(part for file in named for part in file.parts),
    )
