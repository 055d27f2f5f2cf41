"""Check a package offline: nothing but the files, no database, no service.

Papers are checked against each other, bytes against checksums, rows against the counts and totals that the source's
database computed when the package was made.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import ColumnAggregate, FilePart, TableAggregates
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import KIND, Kind, field_of
from export_pipelines.core.types import as_text as text_form
from export_pipelines.packaging.manifest import MANIFEST_VERSION
from export_pipelines.pipeline.validate import plain_copy, read_part
from export_pipelines.validation.account import Account, account, differences

_READ_BYTES = 1 << 20
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024


@dataclass(kw_only=True)
class Verification:
    """What was checked and what is wrong; no problem means the package is what it says."""

    export_id: str
    files: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.problems


def verify_package(
    path: Path, find_format: Callable[[str], FormatSpec], *, told: Callable[[str], None] = lambda _file: None
) -> Verification:
    """Check a package folder, a package ``.zip`` or a manifest; ``told`` hears each file's path as it is checked.

    `RequestRejected` when there is no package at ``path``.
    """
    with _unpacked(path) as folder:
        manifest = _read_manifest(folder)
        found = Verification(export_id=str(manifest["export"]["id"]))
        archived = sorted(folder.glob("*.zip")) if not (folder / CHECKSUMS).exists() else []
        if archived:
            return _verify_archive(archived, folder, find_format, told)
        _check_files(folder, manifest, found, told)
        if found.valid:
            _check_rows(folder, manifest, find_format, found, told)
        return found


def _verify_archive(
    archives: list[Path], folder: Path, find_format: Callable[[str], FormatSpec], told: Callable[[str], None]
) -> Verification:
    """A published folder that holds the archive and a copy of its manifest."""
    found = verify_package(archives[0], find_format, told=told)
    if len(archives) > 1:
        found.problems.append("there is more than one archive")
    with _unpacked(archives[0]) as inside:
        if (inside / MANIFEST).read_bytes() != (folder / MANIFEST).read_bytes():
            found.problems.append(f"{MANIFEST} beside the archive is not the one in it")
    return found


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path
    elif path.is_file() and path.name == MANIFEST:
        yield path.parent
    elif path.is_file() and zipfile.is_zipfile(path):
        with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
            yield _extract(path, Path(scratch))
    else:
        raise RequestRejected(f"{path} is not a package: give its folder, its .zip or its {MANIFEST}", field="PACKAGE")


def _extract(path: Path, scratch: Path) -> Path:
    """Unpack below ``scratch``; members that would leave it are refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise RequestRejected(f"{path} has a member that leaves its folder", field="PACKAGE")
            archive.extractall(scratch)
    except (zipfile.BadZipFile, OSError) as error:
        raise RequestRejected(f"{path} cannot be unpacked: {error}", field="PACKAGE") from error
    manifests = sorted(scratch.glob(f"*/{MANIFEST}"))
    if len(manifests) != 1:
        raise RequestRejected(f"{path} holds no {MANIFEST} in its top folder", field="PACKAGE")
    return manifests[0].parent


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise RequestRejected(f"{folder} holds no {MANIFEST}; it is not a finished package", field="PACKAGE")
    if path.stat().st_size > _MAX_MANIFEST_BYTES:
        raise RequestRejected(f"{path} is larger than {_MAX_MANIFEST_BYTES} bytes", field="PACKAGE")
    try:
        manifest = json.loads(path.read_bytes())
        known = manifest["manifest_version"] == MANIFEST_VERSION and manifest["export"]["id"] and manifest["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise RequestRejected(f"{path} is not a manifest", field="PACKAGE") from error
    if not known:
        raise RequestRejected(f"{path} has a version this program does not know; upgrade it", field="PACKAGE")
    return dict(manifest)


def _check_files(folder: Path, manifest: dict[str, Any], found: Verification, told: Callable[[str], None]) -> None:
    listed = {entry["path"]: entry for entry in manifest["files"]}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {MANIFEST}
    found.problems += [f"{name} is missing" for name in sorted(listed.keys() - present)]
    found.problems += [f"{name} is not in the manifest" for name in sorted(present - listed.keys())]
    for name in sorted(listed.keys() & present):
        told(name)
        entry = listed[name]
        size = (folder / name).stat().st_size
        if size != entry["size_bytes"]:
            found.problems.append(f"{name} has {size} bytes, the manifest says {entry['size_bytes']}")
        elif file_sha256(folder / name) != entry["sha256"]:
            found.problems.append(f"{name} has another SHA-256 than the manifest says")
        found.files += 1
    sums = folder / CHECKSUMS
    expected = "".join(f"{entry['sha256']}  {name}\n" for name, entry in listed.items() if name != CHECKSUMS)
    if sums.is_file() and sums.read_text(encoding="utf-8") != expected:
        found.problems.append(f"{CHECKSUMS} and the manifest disagree")


def _check_rows(
    folder: Path,
    manifest: dict[str, Any],
    find_format: Callable[[str], FormatSpec],
    found: Verification,
    told: Callable[[str], None],
) -> None:
    spec = find_format(manifest["format"]["name"])
    heads = {table["name"]: _head(table) for table in manifest["tables"]}
    accounts: dict[str, Account] = {}
    with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
        for entry in manifest["files"]:
            if not entry["parts"]:
                continue
            told(entry["path"])
            with plain_copy(folder / entry["path"], entry["path"], Path(scratch)) as path:
                for part in _parts(entry, heads):
                    head = heads[part.table]
                    read = account(read_part(spec, path, head, part), head.schema)
                    accounts[part.table] = accounts[part.table] + read if part.table in accounts else read
                    if read.aggregates.rows != part.rows:
                        counted = f"{entry['path']} has {read.aggregates.rows} rows of {part.table}"
                        found.problems.append(f"{counted}, the manifest says {part.rows}")
    for table in manifest["tables"]:
        _compare(table, heads[table["name"]].schema, accounts.get(table["name"]), found)


def _compare(table: dict[str, Any], schema: pa.Schema, read: Account | None, found: Verification) -> None:
    if read is None:
        found.problems.append(f"{table['name']} is in no file")
        return
    columns = {name: ColumnAggregate(**figures) for name, figures in table["aggregates"].items()}
    expected = TableAggregates(rows=table["rows"], columns=columns)
    found.rows += read.aggregates.rows
    found.problems += [f"{table['name']}: {problem}" for problem in differences(expected, read.aggregates, schema)]


def _parts(entry: dict[str, Any], heads: dict[str, TableHead]) -> Iterator[FilePart]:
    for part in entry["parts"]:
        names = tuple(heads[part["table"]].schema.names)
        yield FilePart(table=part["table"], rows=part["rows"], columns=names, route=tuple(part.get("route", ())))


def _head(table: dict[str, Any]) -> TableHead:
    fields = []
    for column in table["columns"]:
        made = field_of(column["name"], column["type"], nullable=column["nullable"])
        if column["kind"] == Kind.TEXT and made.metadata[KIND] != Kind.TEXT.encode():
            made = field_of(column["name"], text_form(column["type"]), nullable=column["nullable"])
        fields.append(made)
    labels = {column["name"]: column.get("label", column["name"]) for column in table["columns"]}
    return TableHead(name=table["name"], schema=pa.schema(fields), labels=labels)


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
