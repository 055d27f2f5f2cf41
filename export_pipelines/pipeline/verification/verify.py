"""Check a package offline: nothing but the files, no database, no service.

Package documents are checked against each other, bytes against checksums, rows against the counts and totals that the
source's database computed when the package was made, and the manifest's signature against keys where some are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.core.package_paths import shown
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.signing import PublicKey, SignatureVerdict
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.manifest_reading import ReadManifest, SealedManifest, manifest_content, parse_manifest
from export_pipelines.packaging.signing import check_signature
from export_pipelines.pipeline.verification.content import check_content
from export_pipelines.pipeline.verification.findings import Check, Depth, Verification, words_of
from export_pipelines.pipeline.verification.folders import FolderContent, content_of
from export_pipelines.pipeline.verification.omissions import check_omissions
from export_pipelines.pipeline.verification.unpacking import unpacked

_READ_BYTES = 1 << 20
_NO_KEYS = Keys()


@dataclass(frozen=True, kw_only=True)
class PackageContent:
    """The files of a package themselves, with the manifest that they were checked against."""

    folder: Path
    manifest: ReadManifest
    document: bytes  # the manifest as it was signed


@dataclass(kw_only=True)
class VerifiedPackage:
    """What a check found; ``content`` is there until its context ends, None where nothing was opened."""

    found: Verification
    content: PackageContent | None = None


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What a check works with."""

    find_format: Callable[[str], FormatSpec]
    keys: Keys  # that open an encrypted archive
    trusted: Mapping[str, PublicKey] | None  # that may have signed; None: nobody is asked
    unopened: bool
    depth: Depth
    sample_rows: int
    on_file: Callable[[str], None]
    unpacked: ExitStack = field(default_factory=ExitStack)  # folders of archives, until the check is over
    contents: list[PackageContent] = field(default_factory=list)  # what was looked into

    def unpack(self, path: Path, keys: Keys) -> Path:
        return self.unpacked.enter_context(unpacked(path, keys))

    def signature_on(self, described: _Described) -> SignatureVerdict:
        return check_signature(described.content, self.trusted)


@dataclass(frozen=True, kw_only=True)
class _Described:
    """A manifest, parsed and as it was signed: read once, so that it is one."""

    manifest: ReadManifest | SealedManifest
    content: bytes

    @property
    def export_id(self) -> str:
        return self.manifest.export.id


def verify_package(
    path: Path,
    find_format: Callable[[str], FormatSpec],
    *,
    keys: Keys = _NO_KEYS,
    trusted: Mapping[str, PublicKey] | None = None,
    unopened: bool = False,
    depth: Depth = Depth.FULL,
    sample_rows: int = 0,
    on_file: Callable[[str], None] = lambda _file: None,
) -> Verification:
    """Check a package folder, an archive or a manifest; ``on_file`` hears each file's path as it is checked.

    ``trusted`` are the public keys whose signatures count; without them a signature is only reported. ``unopened``
    checks an encrypted package from outside, without the ``keys`` that open it. ``sample_rows`` of each table are kept.
    `RequestRejected` when there is no package at ``path``, or ``keys`` do not open it.
    """
    means = _Means(
        find_format=find_format,
        keys=keys,
        trusted=trusted,
        unopened=unopened,
        depth=depth,
        sample_rows=sample_rows,
        on_file=on_file,
    )
    with means.unpacked:
        return _verify(path, means)


@contextmanager
def verified_package(
    path: Path,
    find_format: Callable[[str], FormatSpec],
    *,
    keys: Keys = _NO_KEYS,
    trusted: Mapping[str, PublicKey] | None = None,
) -> Iterator[VerifiedPackage]:
    """Every byte checked as `verify_package` does, and the files to read, unpacked until the context ends."""
    means = _Means(
        find_format=find_format,
        keys=keys,
        trusted=trusted,
        unopened=False,
        depth=Depth.CHECKSUM,
        sample_rows=0,
        on_file=lambda _file: None,
    )
    with means.unpacked:
        found = _verify(path, means)
        yield VerifiedPackage(found=found, content=means.contents[0] if means.contents else None)


def _verify(path: Path, means: _Means) -> Verification:
    if means.unopened and path.is_file() and path.name != MANIFEST:
        raise RequestRejected(f"needs the folder with the {MANIFEST} beside the archive", field="--unopened")
    folder = means.unpack(path, means.keys)
    described, present = _described_in(folder), content_of(folder)
    if isinstance(described.manifest, SealedManifest):
        return _verify_sealed(described, described.manifest, folder, present, means)
    published = path.is_dir() or path.name == MANIFEST  # and not a folder that was unpacked here
    archives = sorted(name for name in present.files if "/" not in name and name.endswith(".zip"))
    if published and archives and CHECKSUMS not in present.names:
        return _verify_archive(folder / archives[0], described, present, means)
    return _verify_folder(folder, described, present, means)


def _verify_folder(folder: Path, described: _Described, present: FolderContent, means: _Means) -> Verification:
    manifest = described.manifest
    if isinstance(manifest, SealedManifest):
        raise RequestRejected(f"{folder} holds an encrypted package inside another", field="PACKAGE")
    means.contents.append(PackageContent(folder=folder, manifest=manifest, document=described.content))
    found = Verification(export_id=described.export_id, signature=means.signature_on(described))
    _check_files(folder, manifest, present, found, means.on_file)
    if found.valid and (means.depth is not Depth.CHECKSUM or means.sample_rows):
        spec = means.find_format(manifest.format.name)
        rows = means.sample_rows
        check_content(folder, manifest, spec, found, depth=means.depth, sample_rows=rows, on_file=means.on_file)
    found.looked_at(Check.OMISSIONS)
    found.fail(Check.OMISSIONS, *check_omissions(manifest))
    return found


def _verify_archive(archive: Path, described: _Described, present: FolderContent, means: _Means) -> Verification:
    """A published folder that holds the archive and a copy of its manifest, and nothing else."""
    outside = Verification(export_id=described.export_id, signature=means.signature_on(described))
    found = _verify_inside(archive, _NO_KEYS, outside, means, copied=described.content)
    _refuse_others(present, archive.name, found)
    return found


def _verify_inside(
    archive: Path, keys: Keys, outside: Verification, means: _Means, *, copied: bytes | None = None
) -> Verification:
    """What an archive holds, the same manifest as was ``copied`` beside it; one that holds no package is a problem."""
    place = archive.parent
    try:
        place = inside = means.unpack(archive, keys)
        described = _described_in(inside)
        found = _verify_folder(inside, described, content_of(inside), means)
        if copied is not None and described.content != copied:
            found.fail(Check.BYTES, f"{MANIFEST} beside the archive is not the one in it")
    except (IntegrityViolation, RequestRejected) as error:
        if isinstance(error, RequestRejected) and error.field != "PACKAGE":  # a password that does not open it
            raise
        outside.fail(Check.BYTES, words_of(error, place, archive.parent))
        return outside
    return found


def _refuse_others(present: FolderContent, archive: str, found: Verification) -> None:
    others = sorted(present.names - {archive, MANIFEST})
    found.fail(Check.BYTES, *(f"{shown(name)} is not part of the package" for name in others))


def _verify_sealed(
    described: _Described, manifest: SealedManifest, folder: Path, present: FolderContent, means: _Means
) -> Verification:
    """A published folder that holds an encrypted archive and says little about it; both manifests are signed."""
    outside = Verification(export_id=manifest.export.id, signature=means.signature_on(described), opened=False)
    means.on_file(manifest.sealed.path)
    archive = _sealed_archive(manifest, folder, present, outside)
    if archive is None:
        return outside
    found = outside
    if not means.unopened:
        found = _verify_inside(archive, means.keys, outside, means)
        if found.export_id != manifest.export.id:
            found.fail(Check.BYTES, f"{MANIFEST} beside the archive is of another export than the one in it")
        if not outside.signature.trusted:
            found.signature = outside.signature
    _refuse_others(present, archive.name, found)
    return found


def _sealed_archive(manifest: SealedManifest, folder: Path, present: FolderContent, found: Verification) -> Path | None:
    """The archive, where it is what the manifest beside it says."""
    sealed, archive = manifest.sealed, folder / manifest.sealed.path
    found.looked_at(Check.BYTES)
    if archive.parent != folder or sealed.path not in present.files:
        found.fail(Check.BYTES, f"{sealed.path} is missing")
        return None
    found.files = 1
    if present.files[sealed.path] != sealed.size_bytes or file_sha256(archive) != sealed.sha256:
        found.fail(Check.BYTES, f"{sealed.path} is not what the manifest says")
        return None
    return archive


def _described_in(folder: Path) -> _Described:
    path = folder / MANIFEST
    if not path.is_file():
        raise RequestRejected(f"{folder} holds no {MANIFEST}; it is not a finished package", field="PACKAGE")
    content = manifest_content(path)
    return _Described(manifest=parse_manifest(content, str(path)), content=content)


def _check_files(
    folder: Path,
    manifest: ReadManifest,
    present: FolderContent,
    found: Verification,
    on_file: Callable[[str], None],
) -> None:
    """The manifest's files as it says, each at its own name and of its own content; and nothing else."""
    listed = {entry.path: entry for entry in manifest.files}
    files = present.files.keys() - {MANIFEST}
    folders = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    links, others = sorted(present.links), sorted(present.others)
    missing = sorted(listed.keys() - files - present.links - present.others)
    found.looked_at(Check.BYTES)
    found.fail(Check.BYTES, *(f"{shown(name)} is a symbolic link, its content is elsewhere" for name in links))
    found.fail(Check.BYTES, *(f"{shown(name)} is a pipe or a device and no file" for name in others))
    found.fail(Check.BYTES, *(f"{shown(name)} is missing" for name in missing))
    extra = sorted((files - listed.keys()) | (present.folders - folders))
    found.fail(Check.BYTES, *(f"{shown(name)} is not in the manifest" for name in extra))
    for name in sorted(listed.keys() & files):
        on_file(name)
        entry, size = listed[name], present.files[name]
        if size != entry.size_bytes:
            found.fail(Check.BYTES, f"{name} has {size} bytes, the manifest says {entry.size_bytes}")
        elif file_sha256(folder / name) != entry.sha256:
            found.fail(Check.BYTES, f"{name} has another SHA-256 than the manifest says")
        found.files += 1
    sums = folder / CHECKSUMS
    expected = "".join(f"{entry.sha256}  {name}\n" for name, entry in listed.items() if name != CHECKSUMS).encode()
    if CHECKSUMS in files and (present.files[CHECKSUMS] != len(expected) or sums.read_bytes() != expected):
        found.fail(Check.BYTES, f"{CHECKSUMS} and the manifest disagree")


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
