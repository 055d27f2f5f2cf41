"""Check a package offline: nothing but the files, no database, no service.

Papers are checked against each other, bytes against checksums, rows against the counts and totals that the source's
database computed when the package was made, and the manifest's signature against keys where some are given.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected
from export_pipelines.core.model import ColumnAggregate, FilePart, TableAggregates
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.signing import PublicKey, SignatureStatus, SignatureVerdict
from export_pipelines.core.types import as_text as text_form
from export_pipelines.core.types import field_of, kind_of
from export_pipelines.packaging.manifest_reading import (
    ReadFile,
    ReadManifest,
    ReadTable,
    SealedManifest,
    read_any_manifest,
    read_manifest,
)
from export_pipelines.packaging.sealing import Keys
from export_pipelines.packaging.signing import check_signature
from export_pipelines.pipeline.unpacking import is_archive, unpacked
from export_pipelines.pipeline.validate import plain_copy, read_part
from export_pipelines.validation.account import Account, account, accounting, differences

_READ_BYTES = 1 << 20
_NO_KEYS = Keys()
_UNSIGNED = SignatureVerdict(status=SignatureStatus.MISSING)


class Depth(StrEnum):
    """How closely to look; each looks at what those before it do."""

    CHECKSUM = "checksum"  # every byte
    SCHEMA = "schema"  # that each file can be read and has the columns it should
    FULL = "full"  # every row, against the database's own counts and totals


@dataclass(kw_only=True)
class Verification:
    """What was checked and what is wrong; no problem means the package is what it says.

    Who says so is ``signature``: it is `trusted` only where keys were given and one of them signed. What was not looked
    at is None.
    """

    export_id: str
    files: int = 0
    rows: int = 0
    opened: bool = True  # False: encrypted, and only what lies outside was looked at
    problems: list[str] = field(default_factory=list)
    bytes_match: bool | None = None
    schema_matches: bool | None = None
    rows_match: bool | None = None
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # first rows of each table
    signature: SignatureVerdict = _UNSIGNED

    @property
    def valid(self) -> bool:
        return not self.problems


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What a check works with."""

    find_format: Callable[[str], FormatSpec]
    keys: Keys  # that open an encrypted archive
    trusted: Mapping[str, PublicKey] | None  # that may have signed; None: nobody is asked
    unopened: bool
    depth: Depth
    sample_rows: int
    told: Callable[[str], None]

    def signature_in(self, folder: Path) -> SignatureVerdict:
        return check_signature((folder / MANIFEST).read_bytes(), self.trusted)


def verify_package(
    path: Path,
    find_format: Callable[[str], FormatSpec],
    *,
    keys: Keys = _NO_KEYS,
    trusted: Mapping[str, PublicKey] | None = None,
    unopened: bool = False,
    depth: Depth = Depth.FULL,
    sample_rows: int = 0,
    told: Callable[[str], None] = lambda _file: None,
) -> Verification:
    """Check a package folder, an archive or a manifest; ``told`` hears each file's path as it is checked.

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
        told=told,
    )
    if unopened and path.is_file() and path.name != MANIFEST:
        raise RequestRejected(f"needs the folder with the {MANIFEST} beside the archive", field="--unopened")
    with unpacked(path, keys) as folder:
        manifest = read_any_manifest(folder / MANIFEST) if (folder / MANIFEST).is_file() else None
        if isinstance(manifest, SealedManifest):
            return _verify_sealed(manifest, folder, means)
        archives = sorted(folder.glob("*.zip")) if not is_archive(path) and not (folder / CHECKSUMS).exists() else []
        if archives:
            return _verify_archive(archives[0], folder, means)
        return _verify_folder(folder, means)


def _verify_folder(folder: Path, means: _Means) -> Verification:
    manifest = _manifest_in(folder)
    found = Verification(export_id=manifest.export.id, signature=means.signature_in(folder))
    _check_files(folder, manifest, found, means.told)
    found.bytes_match = found.valid
    if found.valid and (means.depth is not Depth.CHECKSUM or means.sample_rows):
        _check_content(folder, manifest, found, means)
    return found


def _verify_archive(archive: Path, folder: Path, means: _Means) -> Verification:
    """A published folder that holds the archive and a copy of its manifest, and nothing else."""
    _manifest_in(folder)
    with unpacked(archive, _NO_KEYS) as inside:
        found = _verify_folder(inside, means)
        if (inside / MANIFEST).read_bytes() != (folder / MANIFEST).read_bytes():
            found.problems.append(f"{MANIFEST} beside the archive is not the one in it")
    _refuse_others(folder, archive.name, found)
    return found


def _refuse_others(folder: Path, archive: str, found: Verification) -> None:
    others = sorted(path.name for path in folder.iterdir() if path.name not in (archive, MANIFEST))
    found.problems += [f"{name} is not part of the package" for name in others]


def _verify_sealed(manifest: SealedManifest, folder: Path, means: _Means) -> Verification:
    """A published folder that holds an encrypted archive and says little about it; both manifests are signed."""
    outside = Verification(export_id=manifest.export.id, signature=means.signature_in(folder), opened=False)
    means.told(manifest.sealed.path)
    archive = _sealed_archive(manifest, folder, outside)
    if archive is None:
        return outside
    found = outside
    if not means.unopened:
        with unpacked(archive, means.keys) as inside:
            found = _verify_folder(inside, means)
        if found.export_id != manifest.export.id:
            found.problems.append(f"{MANIFEST} beside the archive is of another export than the one in it")
        if not outside.signature.trusted:
            found.signature = outside.signature
    _refuse_others(folder, archive.name, found)
    return found


def _sealed_archive(manifest: SealedManifest, folder: Path, found: Verification) -> Path | None:
    """The archive, where it is what the manifest beside it says."""
    sealed, archive = manifest.sealed, folder / manifest.sealed.path
    if archive.parent != folder or archive.is_symlink() or not archive.is_file():
        found.problems.append(f"{sealed.path} is missing")
        return None
    found.files = 1
    if archive.stat().st_size != sealed.size_bytes or file_sha256(archive) != sealed.sha256:
        found.problems.append(f"{sealed.path} is not what the manifest says")
        return None
    return archive


def _manifest_in(folder: Path) -> ReadManifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise RequestRejected(f"{folder} holds no {MANIFEST}; it is not a finished package", field="PACKAGE")
    return read_manifest(path)


def _check_files(folder: Path, manifest: ReadManifest, found: Verification, told: Callable[[str], None]) -> None:
    listed = {entry.path: entry for entry in manifest.files}
    entries = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    linked = {name for name, path in entries.items() if path.is_symlink()}
    present = {name for name, path in entries.items() if path.is_file()} - linked - {MANIFEST}
    found.problems += [f"{name} is a symbolic link, its content is elsewhere" for name in sorted(linked)]
    found.problems += [f"{name} is missing" for name in sorted(listed.keys() - present - linked)]
    found.problems += [f"{name} is not in the manifest" for name in sorted(present - listed.keys())]
    for name in sorted(listed.keys() & present):
        told(name)
        entry = listed[name]
        size = (folder / name).stat().st_size
        if size != entry.size_bytes:
            found.problems.append(f"{name} has {size} bytes, the manifest says {entry.size_bytes}")
        elif file_sha256(folder / name) != entry.sha256:
            found.problems.append(f"{name} has another SHA-256 than the manifest says")
        found.files += 1
    sums = folder / CHECKSUMS
    expected = "".join(f"{entry.sha256}  {name}\n" for name, entry in listed.items() if name != CHECKSUMS)
    if CHECKSUMS in present and sums.read_bytes() != expected.encode():
        found.problems.append(f"{CHECKSUMS} and the manifest disagree")


def _check_content(folder: Path, manifest: ReadManifest, found: Verification, means: _Means) -> None:
    """Read the files as deep as asked; what cannot be read as it should has no schema."""
    found.schema_matches = False
    accounts: dict[str, Account] = {}
    with accounting() as session:
        for entry, part, batches, head in _reading(folder, manifest, means):
            with _crafted(entry.path):
                first = next(batches, None)
                _sample(part.table, first, found, means.sample_rows)
                if means.depth is not Depth.FULL:
                    _require_columns(entry, part, first, head, found)
                    continue
                rest = batches if first is None else chain((first,), batches)
                read = account(rest, head.schema, session)
            accounts[part.table] = accounts[part.table] + read if part.table in accounts else read
            if read.aggregates.rows != part.rows:
                counted = f"{entry.path} has {read.aggregates.rows} rows of {part.table}"
                found.problems.append(f"{counted}, the manifest says {part.rows}")
    found.schema_matches = found.valid
    if means.depth is Depth.FULL:
        for table in manifest.tables:
            _compare(table, head_of(table).schema, accounts.get(table.name), found)
        found.rows_match = found.valid


def _reading(
    folder: Path, manifest: ReadManifest, means: _Means
) -> Iterator[tuple[ReadFile, FilePart, Iterator[pa.RecordBatch], TableHead]]:
    """Every part of every data file, being read."""
    spec = means.find_format(manifest.format.name)
    heads = {table.name: head_of(table) for table in manifest.tables}
    with tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
        for entry in manifest.files:
            if not entry.parts:
                continue
            means.told(entry.path)
            with _crafted(entry.path), plain_copy(folder / entry.path, entry.path, Path(scratch)) as path:
                for part in _parts(entry, heads):
                    yield entry, part, iter(read_part(spec, path, heads[part.table], part)), heads[part.table]


def _require_columns(
    entry: ReadFile, part: FilePart, first: pa.RecordBatch | None, head: TableHead, found: Verification
) -> None:
    if first is not None and first.schema.names != head.schema.names:
        found.problems.append(f"{entry.path} has other columns of {part.table} than the manifest says")


def _sample(table: str, batch: pa.RecordBatch | None, found: Verification, rows: int) -> None:
    taken = found.samples.setdefault(table, []) if rows else []
    if batch is not None and len(taken) < rows:
        taken += batch.slice(0, rows - len(taken)).to_pylist()


@contextmanager
def _crafted(name: str) -> Iterator[None]:
    """What readers of our own files raise over bytes that somebody made up is beyond listing; the verdict is one."""
    try:
        yield
    except ExportError:
        raise
    except Exception as error:
        raise IntegrityViolation(f"{name} is not a file as this program writes it ({type(error).__name__})") from error


def _compare(table: ReadTable, schema: pa.Schema, read: Account | None, found: Verification) -> None:
    if read is None:
        found.problems.append(f"{table.name} is in no file")
        return
    columns = {name: ColumnAggregate(**dict(figures)) for name, figures in table.aggregates.items()}
    expected = TableAggregates(rows=table.rows, columns=columns)
    found.rows += read.aggregates.rows
    found.problems += [f"{table.name}: {problem}" for problem in differences(expected, read.aggregates, schema)]


def _parts(entry: ReadFile, heads: dict[str, TableHead]) -> Iterator[FilePart]:
    for part in entry.parts:
        names = tuple(heads[part.table].schema.names)
        yield FilePart(table=part.table, rows=part.rows, columns=names, route=part.route)


def head_of(table: ReadTable) -> TableHead:
    """What readers of its files need to know of a table."""
    fields = []
    for column in table.columns:
        made = field_of(column.name, column.type, nullable=column.nullable)
        if column.kind != kind_of(made):
            made = field_of(column.name, text_form(column.type), nullable=column.nullable)
        fields.append(made)
    labels = {column.name: column.label or column.name for column in table.columns}
    return TableHead(name=table.name, schema=pa.schema(fields), labels=labels)


def file_sha256(path: Path) -> str:
    """Hex digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
