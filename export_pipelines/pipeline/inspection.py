"""Is a published export still what it was: the checks of `verify` on what lies in the object store."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.omissions import Omissions
from export_pipelines.core.ports import FormatSpec, ObjectStore
from export_pipelines.core.signing import PublicKey
from export_pipelines.packaging.manifest_reading import MAX_BYTES
from export_pipelines.packaging.omissions import omissions_in
from export_pipelines.packaging.sealing import Keys
from export_pipelines.pipeline.unpacking import copy_within_space
from export_pipelines.pipeline.verification import Check, Depth, Verification, words_of
from export_pipelines.pipeline.verify import file_sha256, verify_package
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
    with _fetched_package(str(export.package_prefix), store, scratch) as (folder, unfetched):
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return _broken(export, *unfetched, f"{MANIFEST} is missing")
        try:
            found = verify_package(
                folder,
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
            return _broken(export, *unfetched, words_of(error, folder))
        found.fail(Check.BYTES, *unfetched)
        if file_sha256(manifest) != export.manifest_sha256:
            found.fail(Check.BYTES, _OTHER_MANIFEST)
        return found


@contextmanager
def _fetched_package(prefix: str, store: ObjectStore, scratch: Path) -> Iterator[tuple[Path, list[str]]]:
    """Everything that is stored of a package, in one folder until the context ends, and what could not be had of it.

    Nothing is read into memory.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspection-", dir=scratch) as place:
        unfetched = []
        for key, _size in store.list(prefix):
            name = key.removeprefix(f"{prefix}/")
            try:
                _fetch(key, Path(place, name), store)
            except (IntegrityViolation, FileNotFoundError):  # a link out of the store, or deleted since it was listed
                unfetched.append(f"{name} is listed and cannot be fetched from the store")
        yield Path(place), unfetched


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
