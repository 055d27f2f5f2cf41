"""A package's manifest as a stranger hands it over: parsed into types, so that whoever checks the package can trust
their shape, and that no path in it means another file to another program. What the figures say is for
`export_pipelines.pipeline.verification.verify` to judge.

Fields that a check does not need are not read; `export_pipelines.packaging.manifest` writes them all.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.migration import ExtensionStatement, LeftOut, LoadTable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.package_paths import MAX_FILES, paths_problem
from export_pipelines.core.rejection import rejected_file
from export_pipelines.packaging.manifest import MANIFEST_VERSION

MAX_BYTES = 64 * 1024 * 1024
_MAX_DEPTH = 100  # of tables nested in each other; each level is a reader above a reader
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class ReadColumn(_Part):
    """A column as it travelled."""

    name: Name
    type: Name
    kind: Name
    nullable: bool
    label: str | None = None
    masked: str | None = None


class ReadFigures(_Part):
    """The source's account of one column."""

    non_null: Count
    total: str | None = None
    low: float | None = None
    high: float | None = None


class ReadFilters(_Part):
    """What narrowed a table, as it was asked for."""

    time_column: str | None = None
    start: str | None = None
    end: str | None = None
    include_deleted: bool = True
    columns: dict[str, tuple[str | None, ...]] = Field(default_factory=dict)


class ReadTable(_Part):
    """A table with the source's own figures."""

    name: Name
    rows: Count
    filters: ReadFilters = ReadFilters()
    aggregation: dict[str, Any] | None = None
    left_out: Any = None  # what is no statement is a problem of the package, and no reason to refuse it
    columns: tuple[ReadColumn, ...] = Field(min_length=1)
    aggregates: dict[str, ReadFigures]

    @model_validator(mode="after")
    def _each_column_once_with_figures(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names) or set(names) != self.aggregates.keys():
            raise ValueError("names a column twice, or has other aggregates than columns")
        return self


class ReadRows(_Part):
    """Rows of one table in a file."""

    table: Name
    rows: Count
    route: tuple[Name, ...] = Field(default=(), max_length=_MAX_DEPTH)


class ReadFile(_Part):
    """A file and what it should be."""

    path: Name
    size_bytes: Count
    sha256: Name
    parts: tuple[ReadRows, ...] = ()


class ReadLakePart(_Part):
    """A partition that rows of a table come from."""

    table: Name
    rows: Count


class ReadSource(_Part):
    """Where the rows come from."""

    parts: tuple[ReadLakePart, ...] = ()


class ReadMigration(_Part):
    """How the tables are made again."""

    schema_: Name = Field(alias="schema")
    other_schemas: tuple[Name, ...] = ()
    extensions: tuple[Name, ...] = ()
    tables: tuple[LoadTable, ...]
    optional: tuple[ExtensionStatement, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class _Export(_Part):
    id: Name


class _Format(_Part):
    name: Name


class ReadManifest(_Part):
    """As much of a manifest as a check needs."""

    export: _Export
    format: _Format
    tables: tuple[ReadTable, ...]
    left_out: Any = None
    source: ReadSource = ReadSource()
    files: tuple[ReadFile, ...] = Field(min_length=1, max_length=MAX_FILES)
    migration: ReadMigration | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Path of each file that lies beside the manifest, and its bytes."""
        return {file.path: file.size_bytes for file in self.files}

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        tables, paths = {table.name for table in self.tables}, {file.path for file in self.files}
        if len(tables) != len(self.tables) or len(paths) != len(self.files):
            raise ValueError("names a table or a file twice")
        if any(part.table not in tables for file in self.files for part in file.parts):
            raise ValueError("has a file with rows of a table that it does not name")
        if self.migration and {table.table for table in self.migration.tables} != tables:
            raise ValueError("has scripts for other tables than it has rows of")
        return self


class _Sealed(_Part):
    path: Name
    method: Name
    size_bytes: Count
    sha256: Name


class SealedManifest(_Part):
    """What lies beside an encrypted archive."""

    export: _Export
    sealed: _Sealed

    @property
    def sizes(self) -> dict[str, int]:
        """Path of the archive that lies beside the manifest, and its bytes."""
        return {self.sealed.path: self.sealed.size_bytes}


class _Version(_Part):
    manifest_version: int
    sealed: object = None


def read_manifest(path: Path) -> ReadManifest:
    """The manifest of readable files; errors are those of `read_any_manifest`."""
    found = read_any_manifest(path)
    if isinstance(found, SealedManifest):
        raise RequestRejected(f"{path} is that of an encrypted package; give its archive or folder", field="PACKAGE")
    return found


def read_any_manifest(path: Path) -> ReadManifest | SealedManifest:
    """The manifest in a file; `RequestRejected` where it is none, or of another version.

    `IntegrityViolation` where it is a link, or names files that other programs could take for others.
    """
    return parse_manifest(manifest_content(path), str(path))


def manifest_content(path: Path) -> bytes:
    """The bytes of a manifest's file, at most `MAX_BYTES`; errors as `read_any_manifest`."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise IntegrityViolation(f"{path} is no regular file, its content is elsewhere")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise RequestRejected(f"{path} is larger than {MAX_BYTES} bytes", field="PACKAGE")
    return content


def parse_manifest(content: bytes, name: str) -> ReadManifest | SealedManifest:
    """As `read_any_manifest`, of bytes that came from the file or archive ``name``."""
    try:
        version = _Version.model_validate_json(content)
        if version.manifest_version != MANIFEST_VERSION:
            raise RequestRejected(f"{name} has a version this program does not know; upgrade it", field="PACKAGE")
        if version.sealed is not None:
            found: ReadManifest | SealedManifest = SealedManifest.model_validate_json(content)
        else:
            found = ReadManifest.model_validate_json(content)
    except ValidationError as error:
        raise rejected_file(error, f"{name} is not a manifest", field="PACKAGE") from error
    unsafe = paths_problem([MANIFEST, *found.sizes])
    if unsafe is not None:
        raise IntegrityViolation(f"{name} names files that programs do not read alike: {unsafe}")
    return found
