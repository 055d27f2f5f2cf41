"""Make the tables of a migration package again in an empty database: DDL, rows, constraints, comparison, one commit.

The package was verified before (`export_pipelines.pipeline.verify`). What the target answers may quote a row, so only
SQLSTATE and names of objects are told of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Catalog, Column, Table, TenantPath, TenantRoot
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.migration import CONSTRAINTS_FILE, SCHEMA_FILE, LeftOut, LoadTable
from export_pipelines.core.model import ColumnAggregate, FilePart, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import FormatSpec
from export_pipelines.formats.csv import CsvWriter
from export_pipelines.packaging.manifest_reading import ReadManifest, ReadMigration, ReadTable, read_manifest
from export_pipelines.packaging.migration import ARRAY_FUNCTION, READING, after_copy, before_copy, copy_statement
from export_pipelines.pipeline.content_checks import head_of
from export_pipelines.pipeline.overlap import ahead
from export_pipelines.pipeline.validate import plain_copy, read_part
from export_pipelines.sources.aggregates import read_aggregates
from export_pipelines.sources.session import administering, describe, encoding_of, pin
from export_pipelines.validation.account import differences

Told = Callable[[str], None]
_LONGEST_NAME_BYTES = 63
_NOBODY = TenantScope(tenant_id="-")  # the tables hold one tenant's rows and no other's


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """What was restored, or with ``dry_run`` could be."""

    schema: str
    tables: dict[str, int]  # rows, in load order
    left_out: tuple[LeftOut, ...]
    dry_run: bool

    @property
    def rows(self) -> int:
        return sum(self.tables.values())


class _RolledBack(Exception):
    """Ends a dry run's transaction."""


def restore_package(
    folder: Path,
    url: str,
    find_format: Callable[[str], FormatSpec],
    *,
    schema: str | None = None,
    dry_run: bool = False,
    told: Told = lambda _table: None,
) -> Restoration:
    """Into the database at ``url``, in the package's schema or in ``schema``; a failure leaves nothing behind.

    A dry run makes the tables and constraints without rows, and takes them back. `RequestRejected` when the package
    has no scripts or the schema already holds something, `IntegrityViolation` when rows do not arrive as they were.
    """
    manifest = read_manifest(folder / MANIFEST)
    migration = manifest.migration
    if migration is None:
        raise RequestRejected(
            "is not a migration package; make one with `export-pipelines bulk --type migration`", field="PACKAGE"
        )
    target = migration.schema_ if schema is None else _schema_name(schema)
    restorer = _Restorer(manifest, migration, folder, find_format, target)
    with administering(url, what="target database") as connection, _explained(url):
        try:
            with connection.transaction():
                restorer.restore(connection, told, dry_run=dry_run)
                if dry_run:
                    raise _RolledBack
        except _RolledBack:
            pass
    rows = {table.name: table.rows for table in manifest.tables}
    tables = {table.table: rows[table.table] for table in migration.tables}
    return Restoration(schema=target, tables=tables, left_out=migration.left_out, dry_run=dry_run)


class _Restorer:
    def __init__(
        self,
        manifest: ReadManifest,
        migration: ReadMigration,
        folder: Path,
        find_format: Callable[[str], FormatSpec],
        schema: str,
    ) -> None:
        self._manifest = manifest
        self._migration = migration
        self._folder = folder
        self._spec = find_format(manifest.format.name)
        self._schema = schema
        self._read = {table.name: table for table in manifest.tables}

    def restore(self, connection: psycopg.Connection[Any], told: Told, *, dry_run: bool) -> None:
        self._prepare(connection)
        connection.execute(self._script(SCHEMA_FILE))
        if not dry_run:
            connection.execute(ARRAY_FUNCTION.encode())
            for table in self._migration.tables:
                told(table.table)
                self._load(connection, table)
        connection.execute(self._script(CONSTRAINTS_FILE))
        if not dry_run:
            self._compare(connection)

    def _script(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        for name in (self._schema, *self._migration.other_schemas):
            _require_empty(connection, name)
        pin(connection, {"search_path": sql.Identifier(self._schema).as_string()})
        for statement in READING:
            connection.execute(statement.encode())

    def _load(self, connection: psycopg.Connection[Any], table: LoadTable) -> None:
        for statement in before_copy(table):
            connection.execute(statement.encode())
        with connection.cursor() as cursor, cursor.copy(copy_statement(table).encode()) as copy:
            rows = CsvWriter(cast("BinaryIO", copy), {})
            for batch in self._batches(table.table):
                rows.write(batch)
        for statement in after_copy(table):
            connection.execute(statement.encode())

    def _batches(self, table: str) -> Iterator[Any]:
        head = head_of(self._read[table])
        with tempfile.TemporaryDirectory(prefix="export-pipelines-restore-") as scratch:
            for entry in self._manifest.files:
                for part in entry.parts:
                    if part.table == table:
                        rows = FilePart(table=table, rows=part.rows, columns=tuple(head.schema.names), route=part.route)
                        with plain_copy(self._folder / entry.path, entry.path, Path(scratch)) as path:
                            yield from ahead(read_part(self._spec, path, head, rows))

    def _compare(self, connection: psycopg.Connection[Any]) -> None:
        """By the same figures that the source's database computed of the same rows."""
        catalog = self._as_catalog()
        problems: list[str] = []
        for table in self._manifest.tables:
            selection = _all_of(table, catalog)
            expected = TableAggregates(rows=table.rows, columns=_expected(table))
            restored = read_aggregates(
                lambda query: connection.execute(query).fetchone() or (),
                catalog,
                selection,
                _NOBODY,
                encoding=encoding_of(connection),
            )
            found = differences(expected, restored, head_of(table).schema)
            problems += [f"{table.name}: {problem}" for problem in found]
        if problems:
            raise IntegrityViolation(
                f"the restored rows are not those of the package; nothing was kept: {'; '.join(problems)}"
            )

    def _as_catalog(self) -> Catalog:
        """The restored tables in the words of a catalog, for whoever asks tables for their figures."""
        places = {table.table: (table.schema or self._schema, table.name) for table in self._migration.tables}
        shared = TenantPath(shared="all rows are of the package's tenant")
        return Catalog(
            name="restored",
            schema=self._schema,
            tenant=TenantRoot(table="restored.tenants"),
            tables={
                table.name: Table(
                    source=".".join(places[table.name]),
                    tenant=shared,
                    columns={column.name: Column(type=column.type) for column in table.columns},
                )
                for table in self._manifest.tables
            },
        )


def _schema_name(name: str) -> str:
    """PostgreSQL cuts longer names short; an empty one is a script's variable that was not set."""
    if not 1 <= len(name.encode()) <= _LONGEST_NAME_BYTES or "\0" in name:
        raise RequestRejected(
            f"{name!r} is no name of a schema, which has 1 to {_LONGEST_NAME_BYTES} bytes; leave it out for the "
            "package's own",
            field="--schema",
        )
    return name


def _require_empty(connection: psycopg.Connection[Any], schema: str) -> None:
    """`RequestRejected` when the schema holds anything but parts of extensions; made when it is not there."""
    row = connection.execute(
        """
        SELECT (SELECT count(*) FROM (
            SELECT 'pg_class'::regclass AS kind, oid FROM pg_class
            WHERE relnamespace = n.oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
            UNION ALL
            SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = n.oid AND typtype IN ('e', 'd', 'r')
        ) AS held WHERE NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = held.kind AND d.objid = held.oid AND d.deptype = 'e'))
        FROM pg_namespace n WHERE n.nspname = %s
        """,
        (schema,),
    ).fetchone()
    if row is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    elif row[0]:
        raise RequestRejected(
            f"schema {schema!r} of the target already holds {row[0]} tables, views, sequences or types; restore "
            "into an empty database, or give another schema",
            field="--schema",
        )


def _all_of(table: ReadTable, catalog: Catalog) -> TableSelection:
    described = catalog.tables[table.name]
    as_text = tuple(column.name for column in table.columns if described.form_of(column.name).kind != column.kind)
    return TableSelection(table=table.name, columns=described.exported_columns, as_text=as_text)


def _expected(table: ReadTable) -> dict[str, ColumnAggregate]:
    return {name: ColumnAggregate(**dict(figures)) for name, figures in table.aggregates.items()}


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """The driver's errors as ours. A message of the target can quote a value, its primary fields name objects."""
    try:
        yield
    except ExportError:
        raise
    except psycopg.OperationalError as error:
        raise Unavailable(f"target database {describe(url)} failed: SQLSTATE {error.sqlstate}") from error
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        named = _named(error.diag.table_name, error.diag.column_name, error.diag.constraint_name)
        raise IntegrityViolation(
            f"the target does not take the rows (SQLSTATE {error.sqlstate}{named}); nothing was kept"
        ) from error
    except psycopg.Error as error:
        raise RequestRejected(
            f"the target refuses what the package needs ({error.diag.message_primary}); nothing was kept", field="--url"
        ) from error


def _named(*names: str | None) -> str:
    given: Iterable[str] = (name for name in names if name)
    listed = ", ".join(given)
    return f", {listed}" if listed else ""
