"""What the steps need from the outside world. Adapters satisfy these; the core never names one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
from pydantic import BaseModel

from export_pipelines.core.fidelity import Carriage, ColumnFacts
from export_pipelines.core.isolation import SessionIsolation
from export_pipelines.core.migration import MigrationScripts
from export_pipelines.core.model import PlannerGuess, SharedSnapshot, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.omissions import NotInCatalog, OtherRows
from export_pipelines.core.windows import Period


class Snapshot(Protocol):
    """One consistent, tenant-scoped state of a source; usable until its context ends."""

    @property
    def shared(self) -> SharedSnapshot:
        """What other readers, of this or another tenant, join it by."""
        ...

    def require_sound(self, tables: Iterable[str]) -> None:
        """`RequestRejected` unless the database itself keeps other tenants' rows of these tables away, and the tables
        are what the catalog says.
        """
        ...

    def read(self, selection: TableSelection) -> Iterator[pa.RecordBatch]:
        """Rows of one table in batches bounded by bytes, in the catalog's schema; may run in another thread.

        `ValueBeyondRepresentation` when a column has to be read as text.
        """
        ...

    def aggregate(self, selection: TableSelection) -> TableAggregates:
        """The database's own figures for the same rows."""
        ...

    def count_by_policy(self, selection: TableSelection) -> int:
        """Rows of the selection by the database's policies alone, to compare with what was read."""
        ...

    def count_other_rows(self, selection: TableSelection) -> OtherRows:
        """The rows that the selection leaves out, counted by the database."""
        ...

    def expect_other_rows(self, selection: TableSelection) -> OtherRows:
        """The same by the planner, and counted where that is cheap."""
        ...

    def not_in_catalog(self) -> NotInCatalog:
        """What the source has and the catalog does not know, in the tables that it covers and beside them."""
        ...

    def attest(self, tables: Iterable[str]) -> SessionIsolation:
        """What keeps other tenants' rows of these tables from this session."""
        ...

    def count_marked(self, selections: Iterable[TableSelection]) -> dict[str, int] | None:
        """By table: rows of the canary tenant with its marker that the selections would hold if tenants were mixed;
        None without a canary.
        """
        ...

    def spellings(self, table: str) -> frozenset[str]:
        """Texts in the table's tenant column, as far as `read`, that are the tenant's id to the source only."""
        ...

    def beyond_representation(self, selection: TableSelection) -> tuple[str, ...]:
        """The columns that have to be read as text for every value to arrive."""
        ...

    def ddl(self, selections: Iterable[TableSelection]) -> MigrationScripts:
        """How these tables can be made again elsewhere; foreign keys only where all rows they need are selected."""
        ...

    def guess(self, selection: TableSelection, *, period: Period | None = None) -> PlannerGuess:
        """What the planner expects, without reading the rows; their periods are counted where that is cheap."""
        ...


class Source(Protocol):
    """Where rows come from."""

    def snapshot(self, scope: TenantScope, *, join: SharedSnapshot | None = None) -> AbstractContextManager[Snapshot]:
        """The state as it is now, or the one that another session holds.

        Raises `RequestRejected` when isolation cannot be enforced or the tenant is the canary, `Unavailable` when the
        server is down or the session to join has ended.
        """
        ...

    def tenants(self) -> list[str]:
        """Ids of all tenants that can be exported, sorted."""
        ...

    def ping(self) -> None:
        """`Unavailable` unless the server answers; reads no rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object as a store lists it."""

    key: str
    size_bytes: int
    modified_at: dt.datetime  # when its bytes were written; a move may keep that


@dataclass(frozen=True, kw_only=True)
class Freed:
    """How much was, or would be, taken away."""

    items: int = 0
    size_bytes: int = 0

    def __add__(self, other: Freed) -> Freed:
        return Freed(items=self.items + other.items, size_bytes=self.size_bytes + other.size_bytes)


class ObjectStore(Protocol):
    """Durable bytes under keys with forward slashes. A write that fails leaves nothing visible.

    What is staged need not outlive the machine before it is moved: whoever was at work on it begins anew.
    """

    def writing(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A sink; the object appears, whole, when the context ends without an error."""
        ...

    def reading(self, key: str) -> AbstractContextManager[BinaryIO]:
        """A seekable source."""
        ...

    def local(self, key: str) -> AbstractContextManager[Path]:
        """The object as a file on this machine; a copy that vanishes with the context where it is remote."""
        ...

    def move(self, key: str, to: str) -> None:
        """Give an object another key, replacing what is there."""
        ...

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        """`move` many objects (key, new key) in their order; all of it is durable when this returns."""
        ...

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size in bytes) of everything below a prefix, sorted."""
        ...

    def scan(self, prefix: str) -> Iterator[StoredObject]:
        """Everything below a prefix, a page at a time; what lies in one folder comes together."""
        ...

    def drop_unfinished(self, prefix: str, *, before: dt.datetime, dry_run: bool = False) -> Freed:
        """Remove writes below a prefix that began, and grew last, before an instant and were never finished.

        Where there are folders, those that are empty since then go as well.
        """
        ...

    def delete(self, prefix: str) -> int:
        """Remove everything below a prefix or the one object of that key; the bytes freed."""
        ...

    def exists(self, key: str) -> bool: ...

    def url(self, key: str) -> str:
        """Where an operator finds the object; not a download link."""
        ...

    def presigned_url(self, key: str, *, ttl: dt.timedelta, filename: str) -> str | None:
        """A short-lived direct link, or None where the store has none."""
        ...


class Progress(Protocol):
    """Told while rows move; raises `Cancelled` from `advance` when somebody asked to stop."""

    def advance(self, *, table: str, rows: int) -> None: ...

    def expect(self, rows: int) -> None:
        """Told once, before the first row: about how many will come."""
        ...

    def file_created(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TableHead:
    """What a writer must know of a table before its first row."""

    name: str
    schema: pa.Schema  # fields made by core.types.field_of
    title: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, ColumnFacts] = field(default_factory=dict)  # of the columns that the format is undecided about


class DocumentWriter(Protocol):
    """Writes tables into one file, one after another. Never closes the sink."""

    def begin(self, table: TableHead) -> None:
        """Start a table; only formats with ``FormatSpec.many_tables`` accept a second one."""
        ...

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows of the current table. Batches are at most a few MB and are never changed."""
        ...

    def close(self) -> None:
        """Finish the last table and write the footer."""
        ...


@dataclass(frozen=True, kw_only=True)
class FormatSpec:
    """Everything the rest of the system knows about a file format.

    ``read`` yields the rows of one table of a finished file in the canonical schema, using another library than
    ``open`` wrote it with. ``undecided`` and ``settles`` are for formats that choose one form for a whole column: of
    which columns facts are gathered before writing, and how such a column then sits in the files.
    """

    name: str
    title: str
    extension: str
    media_type: str
    open: Callable[[BinaryIO, Mapping[str, Any]], DocumentWriter]
    read: Callable[[Path, TableHead], Iterable[pa.RecordBatch]]
    carries: Callable[[pa.Field, Mapping[str, Any]], Carriage]  # how a column sits in a file written with these options
    read_nested: Callable[[Path, tuple[str, ...], TableHead], Iterable[pa.RecordBatch]] | None = None
    undecided: Callable[[pa.Field, Mapping[str, Any]], bool] | None = None
    settles: Callable[[pa.Field, ColumnFacts], Carriage] | None = None
    describe: Callable[[TableHead], tuple[str, bytes]] | None = None  # (file name, content) of a schema for readers
    aliases: tuple[str, ...] = ()
    options: type[BaseModel] | None = None  # pydantic model of its options
    many_tables: bool = False  # one file holds all tables
    together_option: str | None = None  # an option that, set to false, gives each table a file after all
    nests: bool = False  # child rows may sit inside their parent's record
    compressible: bool = True  # worth another compression
    joinable: bool = False  # files of a table, one behind the other, are one file but for repeated headers
    how_to_open: str = ""  # for people who are no engineers, in plain sentences
    plain_text: bool = False  # UTF-8 throughout, with letters and digits as they are: it can be searched as bytes
    read_ahead: bool = True  # its reader leaves Python's lock, so that another core can work on what it has read
    max_rows: int | None = None  # of one table in one file
    written_with: str = ""
    read_with: str = ""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A file in a mail; small enough to be held in memory."""

    filename: str
    media_type: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Message:
    """One mail to one recipient, plain text and perhaps files."""

    recipient: str
    subject: str
    body: str
    message_id: str  # the same for every try, so that a receiver can drop a repeat
    attachments: tuple[Attachment, ...] = ()


class Clock(Protocol):
    def __call__(self) -> dt.datetime:
        """Now, aware UTC."""
        ...
