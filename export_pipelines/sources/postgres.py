"""A PostgreSQL database as a `Source`: one snapshot, one tenant, several connections.

The first connection holds the snapshot and answers counts and aggregates; readers join the snapshot on connections
of their own, so that reading and counting run side by side. A reader that ended well leaves its connection, still
inside the snapshot, to the next one: opening it costs 20–30 ms, more than reading a small partition.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.isolation import SessionIsolation
from export_pipelines.core.migration import MigrationScripts
from export_pipelines.core.model import PlannerGuess, SharedSnapshot, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.omissions import NotInCatalog, OtherRows
from export_pipelines.core.resolution import Resolution
from export_pipelines.core.windows import Period
from export_pipelines.sources.aggregates import read_aggregates
from export_pipelines.sources.canary import count_marked, is_canary
from export_pipelines.sources.ddl import read_ddl
from export_pipelines.sources.encoding import Unencodable, locate
from export_pipelines.sources.engines import Engine, choose_engine
from export_pipelines.sources.labels import require_labels
from export_pipelines.sources.omitted import count_other_rows, expect_other_rows
from export_pipelines.sources.period_counts import expect_periods
from export_pipelines.sources.query import explain, select_beyond, was_analysed
from export_pipelines.sources.reading import read_selection
from export_pipelines.sources.relation import agreement, from_where
from export_pipelines.sources.session import begin, begin_statements, connected, encoding_of, share_snapshot
from export_pipelines.sources.spellings import Spellings
from export_pipelines.sources.stream import RowReader, SnapshotGone, translated

SessionReport = Callable[[psycopg.Connection, Catalog, Iterable[str]], SessionIsolation]
TableCheck = Callable[[psycopg.Connection, Catalog, tuple[str, ...]], None]
"""Raises `RequestRejected` unless the session's role sees only its tenant's rows and the tables are as described."""
Comparison = Callable[[psycopg.Connection, Catalog], NotInCatalog]
Resolver = Callable[[psycopg.Connection, Catalog, Iterable[str]], Resolution]
"""Facts of the live database about tables; without one, keys are taken for PostgreSQL's own types."""


class PostgresSource:
    """Reads the tables of a catalog from the server at ``url``."""

    def __init__(
        self,
        url: str,
        catalog: Catalog,
        *,
        check_tables: TableCheck,
        report: SessionReport,
        compare: Comparison,
        resolve: Resolver | None = None,
        engine: Engine | None = None,
    ) -> None:
        self._url = url
        self._catalog = catalog
        self._check_tables = check_tables
        self._report = report
        self._compare = compare
        self._resolve = resolve
        self._engine = engine or choose_engine()

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    @contextmanager
    def snapshot(self, scope: TenantScope, *, join: SharedSnapshot | None = None) -> Iterator[PostgresSnapshot]:
        """A consistent state of the tenant's rows, held until the context ends."""
        with connected(self._url) as connection:
            with _translated(self._url):
                self._require_tenant(connection, scope)
                begin(connection, self._catalog, scope, join.exported_id if join else None)
                shared = share_snapshot(connection, join.info if join else None)
                snapshot = PostgresSnapshot(
                    self._url,
                    self._resolved(connection, self._catalog.tables),
                    scope,
                    connection,
                    shared,
                    self._check_tables,
                    self._report,
                    self._compare,
                    self._engine,
                )
            try:
                yield snapshot
            finally:
                snapshot.close()

    def tenants(self) -> list[str]:
        """Ids of all tenants but the canary as text, sorted; read as the directory role, which sees nothing else."""
        root = self._catalog.tenant
        with connected(self._url) as connection, _translated(self._url):
            begin(connection, self._catalog, None)
            query = sql.SQL("SELECT {key}::text FROM {table} WHERE NOT {canary} ORDER BY 1").format(
                key=sql.Identifier(root.key),
                table=sql.Identifier(*root.table.split(".")),
                canary=is_canary(self._resolved(connection, ())),
            )
            return [row[0] for row in connection.execute(query)]

    def ping(self) -> None:
        """`Unavailable` unless the server takes a connection and answers."""
        with connected(self._url) as connection, _translated(self._url):
            connection.execute("SELECT 1")

    def _resolved(self, connection: psycopg.Connection, tables: Iterable[str]) -> Catalog:
        return (
            self._catalog.resolved(self._resolve(connection, self._catalog, tables)) if self._resolve else self._catalog
        )

    def _require_tenant(self, connection: psycopg.Connection, scope: TenantScope) -> None:
        root = self._catalog.tenant
        begin(connection, self._catalog, None)
        # One tenant has one id, whatever the key's collation takes for the same.
        query = sql.SQL('SELECT {canary} FROM {table} WHERE {key}::text COLLATE "C" = {value}').format(
            canary=is_canary(self._resolved(connection, ())),
            table=sql.Identifier(*root.table.split(".")),
            key=sql.Identifier(root.key),
            value=sql.Literal(scope.tenant_id),
        )
        # PostgreSQL's text cannot hold a NUL, so no tenant has one.
        found = None if "\0" in scope.tenant_id else connection.execute(query).fetchone()
        connection.execute("ROLLBACK")
        if found is None:
            raise RequestRejected(
                f"{scope.tenant_id!r} is not among the tenants in {root.table}.{root.key}", field="tenant_id"
            )
        if found == (True,):
            raise RequestRejected(
                f"{scope.tenant_id!r} is the catalog's canary, whose rows are never exported; name another tenant",
                field="tenant_id",
            )


class PostgresSnapshot:
    """One tenant's rows at one instant."""

    def __init__(
        self,
        url: str,
        catalog: Catalog,
        scope: TenantScope,
        connection: psycopg.Connection,
        shared: SharedSnapshot,
        check_tables: TableCheck,
        report: SessionReport,
        compare: Comparison,
        engine: Engine,
    ) -> None:
        self._url = url
        self._catalog = catalog
        self._scope = scope
        self._connection = connection
        self._check_tables = check_tables
        self._report = report
        self._compare = compare
        self._engine = engine
        self._lock = threading.Lock()  # psycopg answers one statement at a time
        self._checked: set[str] = set()
        self._spellings = Spellings(catalog, scope, self._one)
        self._idle: list[RowReader] = []
        self._closed = False
        self._shared = shared
        self._ended: RequestRejected | Unavailable | None = None  # what ended the transaction, and with it the snapshot

    @property
    def shared(self) -> SharedSnapshot:
        return self._shared

    def require_sound(self, tables: Iterable[str]) -> None:
        """Checked once for each table; `RequestRejected` when a policy is missing or not enforced."""
        missing = tuple(table for table in tables if table not in self._checked)
        if missing:
            with self._lock, _translated(self._url):
                self._check_tables(self._connection, self._catalog, missing)
            self._checked.update(missing)

    def _require_asked(self, selection: TableSelection) -> None:
        """`require_sound`, and that the filters can be met."""
        self.require_sound([selection.table])
        if selection.conditions:
            with self._lock, _translated(self._url):
                require_labels(self._connection, self._catalog, selection)

    def read(self, selection: TableSelection) -> Iterator[pa.RecordBatch]:
        """Rows in the catalog's schema, each batch checked for type, range and tenant."""
        self.require_sound([selection.table])
        with self._located(selection), self._reader() as reader:
            yield from read_selection(
                reader, self._catalog, selection, self._scope, uncast=self._engine.uncast, same=self._spellings.same
            )

    def spellings(self, table: str) -> frozenset[str]:
        """Texts in the table's tenant column, as far as it was read, that are the tenant's id to the database only."""
        return self._spellings.of(table)

    def count_by_policy(self, selection: TableSelection) -> int:
        """Rows of the selection by the policies alone, without the tenant filter in the SQL."""
        self.require_sound([selection.table])
        rows = from_where(self._catalog, selection, self._scope, by_policy=True)
        return int(self._one(sql.SQL("SELECT count(*) {}").format(rows))[0])

    def count_other_rows(self, selection: TableSelection) -> OtherRows:
        """Rows marked as deleted, behind figures, and of the whole table; safe to call from another thread."""
        self._require_asked(selection)
        return count_other_rows(self._catalog, selection, self._scope, self._one)

    def expect_other_rows(self, selection: TableSelection) -> OtherRows:
        """As `count_other_rows`, in some milliseconds whatever the table's size."""
        self._require_asked(selection)
        return expect_other_rows(self._catalog, selection, self._scope, self._one)

    def not_in_catalog(self) -> NotInCatalog:
        """By the system catalogs, as the snapshot shows them."""
        with self._lock, _translated(self._url):
            return self._compare(self._connection, self._catalog)

    def attest(self, tables: Iterable[str]) -> SessionIsolation:
        """Role, policies and row security of this session."""
        with self._lock, _translated(self._url):
            return self._report(self._connection, self._catalog, tables)

    def count_marked(self, selections: Iterable[TableSelection]) -> dict[str, int] | None:
        """The canary's rows, in this snapshot and by another session."""
        if self._catalog.canary is None:
            return None
        with _translated(self._url):
            return count_marked(self._url, self._catalog, self._catalog.canary, self._shared, selections)

    def aggregate(self, selection: TableSelection) -> TableAggregates:
        """The database's own figures for the same rows; safe to call from another thread than `read`."""
        self._require_asked(selection)
        if selection.aggregation is not None:
            self._require_agreement(selection)
        encoding = encoding_of(self._connection)
        with self._located(selection):
            return read_aggregates(self._one, self._catalog, selection, self._scope, encoding=encoding)

    @contextmanager
    def _located(self, selection: TableSelection) -> Iterator[None]:
        """A text that is no UTF-8 is refused with the column it is in."""
        try:
            yield
        except Unencodable as error:
            with _translated(self._url):
                raise locate(self._url, self._catalog, selection, self._scope) from error

    def _require_agreement(self, selection: TableSelection) -> None:
        """That nothing was lost or counted twice on the way from rows to figures."""
        names, query = agreement(self._catalog, selection, self._scope)
        if not names:
            return
        grouped, plain = self._one(query)
        for name, one, other in zip(names, grouped, plain, strict=True):
            if one != other and not (one.is_nan() and other.is_nan()):
                raise IntegrityViolation(
                    f"{selection.table}.{name}: its figures do not add up to the table's; nothing was written"
                )

    def beyond_representation(self, selection: TableSelection) -> tuple[str, ...]:
        """The columns of which some value is beyond what their kind can be in a file; one scan of the rows."""
        self.require_sound([selection.table])
        columns, query = select_beyond(self._catalog, selection, self._scope)
        return tuple(name for name, found in zip(columns, self._one(query), strict=True) if found)

    def guess(self, selection: TableSelection, *, period: Period | None = None) -> PlannerGuess:
        """Rows and width by the server's planner; a millisecond, whatever the table's size.

        Periods are counted where the planner expects that to take some milliseconds.
        """
        self._require_asked(selection)
        explained = self._one(explain(self._catalog, selection, self._scope))
        (analysed,) = self._one(was_analysed(self._catalog, selection.table))
        found = explained[0][0]["Plan"]
        periods = expect_periods(self._catalog, selection, self._scope, self._one, period) if period else None
        return PlannerGuess(
            rows=int(found["Plan Rows"]), width_bytes=int(found["Plan Width"]), analysed=analysed, periods=periods
        )

    def ddl(self, selections: Iterable[TableSelection]) -> MigrationScripts:
        """From the system catalogs, which show the schema as it is now; rows that it counts are the snapshot's."""
        chosen = tuple(selections)
        self.require_sound(selection.table for selection in chosen)
        with self._lock, _translated(self._url):
            return read_ddl(self._connection, self._catalog, chosen, self._scope)

    def close(self) -> None:
        """End the idle readers' transactions; a reader still at work closes its own."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _reader(self) -> Iterator[RowReader]:
        """A connection inside the snapshot for one reader; only one that ended well is used again."""
        try:
            reader = self._idle.pop()
        except IndexError:
            begin_sql = begin_statements(self._catalog, self._scope, self._shared.exported_id)
            reader = self._opened([statement.as_string() for statement in begin_sql])
        usable = False
        try:
            yield reader
            usable = True
        finally:
            if usable and not self._closed:
                self._idle.append(reader)
            else:
                reader.close()

    def _opened(self, statements: list[str]) -> RowReader:
        """A reader cannot join when another thread's statement failed: then that is what went wrong."""
        try:
            return self._engine.open(self._url, statements)
        except SnapshotGone:
            if self._ended is not None:
                raise self._ended from None
            raise

    def _one(self, query: sql.Composed) -> tuple[Any, ...]:
        try:
            with self._lock, _translated(self._url):
                row = self._connection.execute(query).fetchone()
        except (RequestRejected, Unavailable) as error:
            self._ended = self._ended or error  # later ones are only told that the transaction was aborted
            raise
        assert row is not None
        return row


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """psycopg's errors as ours; a character that a filter cannot have is the request's."""
    try:
        with translated(url):
            yield
    except Unencodable as error:
        cause = error.__cause__
        if not isinstance(cause, psycopg.errors.UntranslatableCharacter) or _has_no_place_in_utf8(cause):
            raise
        raise RequestRejected(
            "a value has a character that the source's encoding does not have, so no row has it; leave it out",
            field="filters",
        ) from cause


def _has_no_place_in_utf8(error: psycopg.errors.UntranslatableCharacter) -> bool:
    """Whether a value of the source is meant: "character … has no equivalent in encoding "UTF8"", in any language."""
    return "UTF8" in (error.diag.message_primary or "")[-8:]
