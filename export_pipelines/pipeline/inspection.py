"""Is a published export still what it was: the checks of `verify` on what lies in the object store."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import FormatSpec, ObjectStore
from export_pipelines.core.signing import PublicKey
from export_pipelines.packaging.sealing import Keys
from export_pipelines.pipeline.unpacking import copy_within_space
from export_pipelines.pipeline.verify import Depth, Verification, file_sha256, verify_package
from export_pipelines.stores.requests import ExportRequest

SAMPLE_BYTES = 256 * 1024  # of all rows that are shown, as JSON
_EXACT = 2**53  # integers beyond it are not exact in every reader of JSON


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

    Whatever is wrong with the package is a problem in the answer. `RequestRejected` when the keys do not open it,
    `Unavailable` when the store does not answer.
    """
    with fetched_package(str(export.package_prefix), store, scratch) as folder:
        manifest = folder / MANIFEST
        if not manifest.is_file():
            return _broken(export, f"{MANIFEST} is missing")
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
        except IntegrityViolation as error:
            return _broken(export, str(error).replace(f"{folder}/", ""))
        except RequestRejected as error:
            if error.field != "PACKAGE":  # a password that does not open it, for example
                raise
            return _broken(export, f"{MANIFEST} is not a manifest")
        if file_sha256(manifest) != export.manifest_sha256:
            found.problems.append(f"{MANIFEST} is not the one that was published")
            found.bytes_match = False
        return found


@contextmanager
def fetched_package(prefix: str, store: ObjectStore, scratch: Path) -> Iterator[Path]:
    """Everything that is stored of a package, in one folder until the context ends; nothing is read into memory."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspection-", dir=scratch) as name:
        folder = Path(name)
        for key, _size in store.list(prefix):
            target = folder / key.removeprefix(f"{prefix}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            _fetch(key, target, store)
        yield folder


def _fetch(key: str, target: Path, store: ObjectStore) -> None:
    """The same file under another name where the store is a folder of this disk, else a copy."""
    with store.local(key) as stored:
        try:
            os.link(stored, target)
        except OSError:
            with stored.open("rb") as source, target.open("wb") as sink:
                copy_within_space(source, sink, target.parent)


def json_rows(rows: list[dict[str, Any]], room_bytes: int) -> list[dict[str, Any]]:
    """Rows as JSON, as many as there is room for; what JSON cannot hold exactly is text."""
    told: list[dict[str, Any]] = []
    for row in rows:
        values = {name: _json_value(value) for name, value in row.items()}
        room_bytes -= len(json.dumps(values))
        if room_bytes < 0:
            break
        told.append(values)
    return told


def _json_value(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return str(value)


def _broken(export: ExportRequest, problem: str) -> Verification:
    return Verification(export_id=export.id, problems=[problem], bytes_match=False)
