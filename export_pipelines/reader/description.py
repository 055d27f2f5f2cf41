"""What a manifest says of its package and tables, as far as whoever reads the rows wants to know it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.rejection import rejected_file
from export_pipelines.packaging.omissions import omissions_in, sentences, sentences_beside


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: str  # PostgreSQL's name, such as numeric(12,2)
    kind: str  # how its values travel: a word of export_pipelines.core.types.Kind
    nullable: bool
    label: str | None = None
    classification: str | None = None
    masked: str | None = None  # why every value is NULL


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table of a package."""

    name: str
    rows: int
    columns: Mapping[str, Column] = field(repr=False)  # by name, in the order of the files
    primary_key: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=(), repr=False)  # sentences: rows and columns that are not in it


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a package is."""

    id: str  # of the export
    name: str | None
    tenant_id: str | None
    export_type: str | None
    format: str
    catalog: str | None
    requested_at: dt.datetime | None
    snapshot_at: dt.datetime | None  # when the rows were read, or the point in time that they are of
    tables: Mapping[str, Table]
    left_out: tuple[str, ...]  # sentences: tables that are not in it


def describe(document: bytes) -> Description:
    """From a manifest's bytes, which the checks have parsed before; `RequestRejected` where a fact has no such type."""
    try:
        manifest = _Manifest.model_validate_json(document)
    except ValidationError as error:
        raise rejected_file(error, f"{MANIFEST} is not a manifest", field="package") from error
    source, omissions = manifest.source, omissions_in(json.loads(document))
    by_table = {table.table: tuple(sentences(table)) for table in omissions.tables} if omissions else {}
    return Description(
        id=manifest.export.id,
        name=manifest.export.name,
        tenant_id=manifest.export.tenant_id,
        export_type=manifest.export.type,
        format=manifest.format.name,
        catalog=source.catalog,
        requested_at=manifest.export.requested_at,
        snapshot_at=source.snapshot.taken_at if source.snapshot else source.point_in_time,
        tables=MappingProxyType({table.name: table for table in _tables(manifest, by_table)}),
        left_out=tuple(sentences_beside(omissions)) if omissions else (),
    )


def _tables(manifest: _Manifest, left_out: Mapping[str, tuple[str, ...]]) -> Iterator[Table]:
    for table in manifest.tables:
        columns = {column.name: Column(**dict(column)) for column in table.columns}
        yield Table(
            name=table.name,
            rows=table.rows,
            columns=MappingProxyType(columns),
            primary_key=table.primary_key,
            left_out=left_out.get(table.name, ()),
        )


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Export(_Part):
    id: str
    name: str | None = None
    tenant_id: str | None = None
    type: str | None = None
    requested_at: AwareDatetime | None = None


class _Format(_Part):
    name: str


class _Snapshot(_Part):
    taken_at: AwareDatetime | None = None


class _Source(_Part):
    catalog: str | None = None
    snapshot: _Snapshot | None = None
    point_in_time: AwareDatetime | None = None


class _Column(_Part):
    name: str
    type: str
    kind: str
    nullable: bool
    label: str | None = None
    classification: str | None = None
    masked: str | None = None


class _Table(_Part):
    name: str
    rows: int
    columns: tuple[_Column, ...]
    primary_key: tuple[str, ...] = ()
    left_out: Any = None


class _Manifest(_Part):
    export: _Export
    format: _Format
    source: _Source = _Source()
    tables: tuple[_Table, ...]
