"""What the steps of an export hand to each other: small frozen records, never rows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Literal

from export_pipelines.core.fidelity import Carriage
from export_pipelines.core.isolation import IsolationAccount
from export_pipelines.core.measures import Aggregation
from export_pipelines.core.migration import MigrationScripts
from export_pipelines.core.omissions import Omissions
from export_pipelines.core.windows import Period, Window

MAX_TENANT_ID = 200  # characters; the tables of the service refuse longer ones


@dataclass(frozen=True, kw_only=True)
class TenantScope:
    """Whose rows may be seen; every read and every object key takes one."""

    tenant_id: str


@dataclass(frozen=True, kw_only=True)
class Condition:
    """That a column has one of some values, checked and written as PostgreSQL reads them."""

    column: str
    values: tuple[str, ...]
    or_null: bool = False  # NULL counts, too

    @property
    def wanted(self) -> list[str | None]:
        """The values as people asked for them, None for NULL."""
        return [*self.values, *([None] if self.or_null else [])]


@dataclass(frozen=True, kw_only=True)
class TableSelection:
    """What is read of one table, already checked against the catalog."""

    table: str
    columns: tuple[str, ...]
    window: Window | None = None  # on window_column
    window_column: str | None = None
    include_deleted: bool = True
    conditions: tuple[Condition, ...] = ()  # all of them hold
    aggregation: Aggregation | None = None  # figures for each period in the place of rows; then columns are theirs
    as_text: tuple[str, ...] = ()  # columns with values that files cannot hold as what they are; found while reading
    whole: bool = False  # although a date range was asked for; by `export_pipelines.core.whole_tables`

    @property
    def narrowed(self) -> bool:
        """Whether a window or a filter by value keeps rows out."""
        return bool(self.conditions) or (self.window is not None and not self.window.unbounded)

    def narrow(self, exported: tuple[str, ...]) -> bool:
        """Whether it is anything but the whole table, so that it may neither become nor be taken from a partition."""
        chosen = self.aggregation is not None or self.columns != exported
        return self.narrowed or chosen or not self.include_deleted


@dataclass(frozen=True, kw_only=True)
class PlannerGuess:
    """What the source's planner expects of a selection, from its statistics alone."""

    rows: int
    width_bytes: int  # of a row's chosen values, on average
    analysed: bool = True  # False: the source never gathered statistics, so the guess is little more than a default
    periods: int | None = None  # that its rows are split into; None: not asked for, or too costly to count


@dataclass(frozen=True, kw_only=True)
class PlannedDelivery:
    """What becomes a row of the outbox when the export is complete."""

    method: str  # a kind of destination
    recipient: str  # whom or where, in the words of the destination
    options: dict[str, Any] = field(default_factory=dict)  # what the entry of `delivery` says beside, as JSON


@dataclass(frozen=True, kw_only=True)
class Split:
    """How the rows of a table are spread over files; both may hold."""

    period: Period | None = None
    max_bytes: int | None = None  # of a finished file
    many_files: bool = False  # confirmed


@dataclass(frozen=True, kw_only=True)
class Sealing:
    """How the package is encrypted. The password is never part of a plan."""

    method: Literal["AES256", "age"]
    recipients: tuple[str, ...] = ()
    hide_names: bool = True

    @property
    def needs_password(self) -> bool:
        return not self.recipients


@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """A validated request: what to read, how to write it, where it goes."""

    request_id: str
    attempt: int
    scope: TenantScope
    catalog: str
    export_type: str
    name: str
    selections: tuple[TableSelection, ...]
    format: str
    format_options: dict[str, Any] = field(default_factory=dict)
    compression: str = "none"
    split: Split = Split()
    sealing: Sealing | None = None
    requested_at: dt.datetime
    deliveries: tuple[PlannedDelivery, ...] = ()
    keep: dt.timedelta | None = None  # how long to keep the package; None: as long as the service does
    converted_from: str | None = None  # the export whose rows these are
    expected_rows: int | None = None  # as estimated when it was ordered, or as an earlier attempt found
    parallel_jobs: int = 1  # connections that read tables at the same time
    point_in_time: dt.datetime | None = None  # read the lake as it was then, not the source
    withheld: tuple[str, ...] = ()  # tables that the role of whoever asked may not export
    left_out: tuple[str, ...] = ()  # tables asked for, without a time column that the date range could be of

    @property
    def whole_tables(self) -> tuple[str, ...]:
        """Tables that come whole although a date range was asked for."""
        return tuple(selection.table for selection in self.selections if selection.whole)


@dataclass(frozen=True, kw_only=True)
class SnapshotInfo:
    """The one state of the source that an export was read from."""

    snapshot_id: str
    lsn: str | None
    taken_at: dt.datetime
    server_version: str
    role: str


@dataclass(frozen=True, kw_only=True)
class SharedSnapshot:
    """A snapshot that other sessions may join while the one that took it lasts."""

    exported_id: str  # of pg_export_snapshot()
    info: SnapshotInfo


@dataclass(frozen=True, kw_only=True)
class ColumnAggregate:
    """Figures the database computed for one column; the meaning of ``total`` follows the column's kind.

    Sum for integers and decimals, days or microseconds since 1970 for dates and times, octets for text, JSON and
    bytes, number of trues for booleans; floats have ``low`` and ``high`` instead.
    """

    non_null: int
    total: str | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class TableAggregates:
    """The source's own account of a selection, from the same snapshot as its rows."""

    rows: int
    columns: dict[str, ColumnAggregate]


@dataclass(frozen=True, kw_only=True)
class StagedTable:
    """One table, extracted: canonical Parquet in the object store."""

    table: str
    keys: tuple[str, ...]
    rows: int
    size_bytes: int
    aggregates: TableAggregates
    columns: tuple[str, ...]
    as_text: tuple[str, ...] = ()  # columns that this export carries as text, whatever the catalog says
    aggregation: Aggregation | None = None  # of its selection
    guess: PlannerGuess | None = None  # before it was read; None for stages that were kept before there were guesses


@dataclass(frozen=True, kw_only=True)
class LakeRetention:
    """How long a partition's past is kept. The newest snapshot always is."""

    snapshots: int = 3  # the newest so many
    days: int = 0  # and those that were the newest at some time within so many days


@dataclass(frozen=True, kw_only=True)
class LakePart:
    """One partition of one table as it was materialised, with the snapshot of its own that it was read from."""

    table: str
    partition: str  # month=2024-03, day=2024-03-05; empty for a table that is not cut
    rows: int  # in the partition, rows marked as deleted included
    snapshot: SnapshotInfo


@dataclass(frozen=True, kw_only=True)
class Stage:
    """All tables of an export, read from one snapshot; or, with ``parts``, each partition from one of its own."""

    snapshot: SnapshotInfo  # with parts, the newest of theirs
    tables: tuple[StagedTable, ...]
    omissions: Omissions
    isolation: IsolationAccount | None = None  # None: kept by a version that did not attest it, or not from the source
    parts: tuple[LakePart, ...] = ()
    migration: MigrationScripts | None = None


@dataclass(frozen=True, kw_only=True)
class RetainedStage:
    """What a finished export read, kept so that it can be written again in another format."""

    request_id: str
    catalog: str
    selections: tuple[TableSelection, ...]
    stage: Stage


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """The rows of one table inside one file."""

    table: str
    rows: int
    columns: tuple[str, ...]
    route: tuple[str, ...] = ()  # fields from the file's top records down to these rows, when they are nested
    settled: tuple[tuple[str, Carriage], ...] = ()  # columns whose form follows from all of their values, and how


@dataclass(frozen=True, kw_only=True)
class ExportFile:
    """One finished data file, already durable in object storage."""

    key: str
    path: str  # inside the package, with forward slashes
    format: str
    media_type: str
    rows: int  # data rows of all tables in it; a header is not counted
    size_bytes: int  # as stored, after compression
    sha256: str  # of the stored bytes, hex
    crc32: int  # of the same bytes, as a ZIP of the whole package needs it
    parts: tuple[FilePart, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TableVerdict:
    """What an independent re-read found for one table."""

    table: str
    rows: int
    rows_match: bool
    aggregates_match: bool
    digest_match: bool
    canary_seen: int | None = None  # None: there is no canary to look for
    problems: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        return self.rows_match and self.aggregates_match and self.digest_match and not self.problems


@dataclass(frozen=True, kw_only=True)
class Package:
    """A finished package: every object of it, the manifest last."""

    prefix: str
    files: tuple[ExportFile, ...]
    manifest_sha256: str
    rows: int
    size_bytes: int
