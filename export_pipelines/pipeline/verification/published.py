"""Is a published export still what it was: the checks of `verify` on what lies in the object store.

Only what the stored manifest lists is fetched, and only where the store has it in the size that the manifest says;
whoever may write to the store could otherwise have this program fill its disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.core.omissions import Omissions
from export_pipelines.core.package_paths import MAX_FILES, shown
from export_pipelines.core.ports import FormatSpec, ObjectStore
from export_pipelines.core.signing import PublicKey
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.manifest_reading import MAX_BYTES, ReadManifest, manifest_content, parse_manifest
from export_pipelines.packaging.omissions import omissions_in
from export_pipelines.pipeline.verification.findings import Check, Depth, Verification, words_of
from export_pipelines.pipeline.verification.unpacking import copy_within_space
from export_pipelines.pipeline.verification.verify import file_sha256, verify_package
from export_pipelines.stores.requests import ExportRequest

_OTHER_MANIFEST = f"{MANIFEST} is not the one that was published"


def published_manifest(export: ExportRequest, store: ObjectStore) -> dict[str, Any]:
    """The manifest as it was published; `IntegrityViolation` where what is stored is another, or nothing."""
    try:
        with store.reading(f"{export.package_prefix}/{MANIFEST}") as source:
            content = source.read(MAX_BYTES + 1)
    except IntegrityViolation as error:
        raise IntegrityViolation(f"{MANIFEST} is missing") from error
    if hashlib.sha256(content).hexdigest() != export.manifest_sha256:
        raise IntegrityViolation(_OTHER_MANIFEST)
    manifest: dict[str, Any] = json.loads(content)
    return manifest


def published_omissions(export: ExportRequest, store: ObjectStore) -> Omissions | str:
    """What a completed export leaves out, as its manifest states it; else why that cannot be told."""
    try:
        manifest = published_manifest(export, store)
    except (IntegrityViolation, Unavailable) as error:
        return str(error)
    if "sealed" in manifest:
        return f"It is inside the encrypted package: {MANIFEST} and README.md there state it."
    return omissions_in(manifest) or f"{MANIFEST} does not state it."


def inspect_package(
    export: ExportRequest,
    store: ObjectStore,
    find_format: Callable[[str], FormatSpec],
    *,
    trusted: dict[str, PublicKey],
    depth: Depth,
    sample_rows: int,
    keys: Keys | None,
    scratch: Path,
) -> Verification:
    """Check a completed export; without ``keys`` an encrypted one is checked from outside.

    Whatever is wrong with the package is a problem in the answer. `RequestRejected` when the password does not open it,
    `Unavailable` when the store does not answer.
    """
    with _fetched_package(export, store, scratch) as copy:
        manifest = copy.folder / MANIFEST
        if not manifest.is_file():
            return _broken(export, *copy.reasons, f"{MANIFEST} is missing")
        try:
            found = verify_package(
                copy.folder,
                find_format,
                keys=keys or Keys(),
                trusted=trusted,
                unopened=keys is None,
                depth=depth,
                sample_rows=sample_rows,
            )
        except (IntegrityViolation, RequestRejected) as error:
            if isinstance(error, RequestRejected) and error.field == "password" and keys and keys.password:
                raise
            return _broken(export, *copy.reasons, words_of(error, copy.folder))
        unfetched = {
            f"{shown(name)} is missing" for name in copy.problems
        }  # they are there, and it is said what they are
        found.problems = [problem for problem in found.problems if problem not in unfetched]
        found.fail(Check.BYTES, *copy.reasons)
        if file_sha256(manifest) != export.manifest_sha256:
            found.fail(Check.BYTES, _OTHER_MANIFEST)
        return found


@dataclass(kw_only=True)
class _Copy:
    """A package on this disk, and by name what of it is not there, or not worth fetching, and why."""

    folder: Path
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        return [f"{shown(name)} {problem}" for name, problem in sorted(self.problems.items())]


@contextmanager
def _fetched_package(export: ExportRequest, store: ObjectStore, scratch: Path) -> Iterator[_Copy]:
    """The manifest of what is stored, and the objects that it lists, in one folder until the context ends.

    Nothing but the manifest is read into memory.
    """
    prefix = str(export.package_prefix)
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspection-", dir=scratch) as place:
        copy = _Copy(folder=Path(place))
        stored = _stored(prefix, store)
        if len(stored) > MAX_FILES + 1:
            copy.problems["the package"] = f"has more than {MAX_FILES} objects; delete what is none of it"
        elif stored.get(MANIFEST, 0) > MAX_BYTES:
            copy.problems[MANIFEST] = f"is larger than {MAX_BYTES} bytes"
        elif MANIFEST in stored and _fetched(prefix, MANIFEST, copy, store):
            _fetch_listed(prefix, stored, copy, store, most_bytes=_most_bytes(export))
        yield copy


def _stored(prefix: str, store: ObjectStore) -> dict[str, int]:
    """Name and bytes of what is stored of a package, of one object more than it may have at most."""
    objects = islice(store.scan(prefix), MAX_FILES + 2)
    return {found.key.removeprefix(f"{prefix}/"): found.size_bytes for found in objects}


def _most_bytes(export: ExportRequest) -> int:
    """Worth fetching at most: what was published, and as much again for whatever was changed in it since."""
    return sys.maxsize if export.package_bytes is None else 2 * export.package_bytes + MAX_BYTES


def _fetch_listed(prefix: str, stored: Mapping[str, int], copy: _Copy, store: ObjectStore, *, most_bytes: int) -> None:
    """Fetch what the manifest lists and the store has as it says. Of a manifest that is none, `verify` tells."""
    try:
        manifest = parse_manifest(manifest_content(copy.folder / MANIFEST), MANIFEST)
    except (IntegrityViolation, RequestRejected):
        return
    listed: dict[str, int | None] = {**manifest.sizes}
    word = "is not in the manifest" if isinstance(manifest, ReadManifest) else "is not part of the package"
    archives = sorted(name for name in stored if "/" not in name and name.endswith(".zip"))
    if archives and CHECKSUMS not in stored and isinstance(manifest, ReadManifest):
        listed, word = {archives[0]: None}, "is not part of the package"  # the manifest lists what is in it
    for name, size in sorted(stored.items()):
        if name == MANIFEST:
            continue
        if name not in listed:
            copy.problems[name] = word
        elif listed[name] not in (None, size):
            copy.problems[name] = f"has {size} bytes, the manifest says {listed[name]}"
        elif size > most_bytes:
            copy.problems[name] = "is larger than the package that was published"
        elif _fetched(prefix, name, copy, store):
            most_bytes -= size


def _fetched(prefix: str, name: str, copy: _Copy, store: ObjectStore) -> bool:
    """Whether an object is now in the folder; else a problem more."""
    try:
        _fetch(f"{prefix}/{name}", copy.folder / name, store)
    except (IntegrityViolation, FileNotFoundError):  # a link out of the store, or deleted since it was listed
        copy.problems[name] = "is listed and cannot be fetched from the store"
        return False
    return True


def _fetch(key: str, target: Path, store: ObjectStore) -> None:
    """The same file under another name where the store is a folder of this disk, else a copy."""
    with store.local(key) as stored:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(stored, target)
        except OSError:
            _copy(stored, target)


def _copy(stored: Path, target: Path) -> None:
    try:
        with stored.open("rb") as source, target.open("wb") as sink:
            copy_within_space(source, sink, target.parent)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"cannot copy {stored} to {target}: {error.strerror or error}") from error


def _broken(export: ExportRequest, *problems: str) -> Verification:
    found = Verification(export_id=export.id)
    found.fail(Check.BYTES, *problems)
    return found
