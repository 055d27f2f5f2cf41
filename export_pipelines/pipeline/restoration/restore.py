"""Make the tables of a migration package again in an empty database: DDL, rows, constraints, comparison, one commit.

The package was verified before (`export_pipelines.pipeline.verification.verify`), and its maker may mean harm all the
same. So only statements run that this program itself would write (`export_pipelines.packaging.ddl_statements`), one at
a time; and before the first row, the database is asked what the new tables and constraints refer to and call
(`export_pipelines.pipeline.restoration.restored_objects`). Errors of the target may quote a row, so only their SQLSTATE
and the names of objects are reported.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import psycopg

from export_pipelines.core.catalog import Catalog, Column, Table, TenantPath, TenantRoot
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.migration import CONSTRAINTS_FILE, SCHEMA_FILE, ExtensionStatement, LeftOut, LoadTable
from export_pipelines.core.model import ColumnAggregate, FilePart, TableAggregates, TableSelection, TenantScope
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import FormatSpec
from export_pipelines.formats.csv import CsvWriter
from export_pipelines.packaging.ddl_statements import Statement
from export_pipelines.packaging.manifest_reading import ReadManifest, ReadMigration, ReadTable, read_manifest
from export_pipelines.packaging.migration_scripts import (
    ARRAY_FUNCTION,
    READING,
    ReadScripts,
    after_copy,
    before_copy,
    copy_statement,
    read_scripts,
)
from export_pipelines.pipeline.overlap import ahead
from export_pipelines.pipeline.restoration.restored_objects import (
    Objects,
    objects_in,
    require_columns,
    require_empty,
    require_own,
)
from export_pipelines.pipeline.verification.content import head_of
from export_pipelines.pipeline.verification.data_files import plain_copy, read_part
from export_pipelines.sources.aggregates import read_aggregates
from export_pipelines.sources.extensions import installed, search_path
from export_pipelines.sources.session import administering, describe, encoding_of, pin
from export_pipelines.validation.row_digest import differences

Listener = Callable[[str], None]
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


def restore_package(
    folder: Path,
    url: str,
    find_format: Callable[[str], FormatSpec],
    *,
    schema: str | None = None,
    dry_run: bool = False,
    on_table: Listener = lambda _table: None,
    warned: Listener = lambda _warning: None,
) -> Restoration:
    """Into the database at ``url``, in the package's schema or in ``schema``; a failure leaves nothing behind.

    A dry run makes the tables and constraints without rows, takes them back, and asks the database whether it has.
    ``warned`` hears of a login with more rights than restoring needs. `RequestRejected` when the package has no
    scripts, or statements that this program does not write, or expressions that call what is not theirs to call, or the
    schema already holds something; `IntegrityViolation` when rows do not arrive as they were.
    """
    manifest = read_manifest(folder / MANIFEST)
    migration = manifest.migration
    if migration is None:
        raise RequestRejected(
            "is not a migration package; make one with `export-pipelines bulk --type migration`", field="PACKAGE"
        )
    scripts = read_scripts({name: _text(folder / name) for name in (SCHEMA_FILE, CONSTRAINTS_FILE)}, migration)
    target = migration.schema_ if schema is None else _schema_name(schema)
    restorer = _Restorer(manifest, migration, scripts, folder, find_format, target)
    with administering(url, what="target database") as connection, _explained(url):
        for warning in _warnings(connection):
            warned(warning)
        with connection.transaction(force_rollback=dry_run):
            number = _transaction(connection)
            restorer.restore(connection, on_table, dry_run=dry_run)
            if _transaction(connection) != number:
                raise IntegrityViolation("the transaction was ended by a statement of the package; look at the target")
        if dry_run:
            _require_rolled_back(connection, number)
    rows = {table.name: table.rows for table in manifest.tables}
    tables = {table.table: rows[table.table] for table in migration.tables}
    left_out = (*migration.left_out, *restorer.left_out)
    return Restoration(schema=target, tables=tables, left_out=left_out, dry_run=dry_run)


class _Restorer:
    def __init__(
        self,
        manifest: ReadManifest,
        migration: ReadMigration,
        scripts: ReadScripts,
        folder: Path,
        find_format: Callable[[str], FormatSpec],
        schema: str,
    ) -> None:
        self._manifest = manifest
        self._migration = migration
        self._scripts = scripts
        self._folder = folder
        self._spec = find_format(manifest.format.name)
        self._schema = schema
        self._schemas = (schema, *migration.other_schemas)
        self._read = {table.name: table for table in manifest.tables}
        self._extensions: dict[str, str] = {}  # of the target, with their schemas
        self.left_out: list[LeftOut] = []  # by the target, for want of an extension

    def restore(self, connection: psycopg.Connection[Any], on_table: Listener, *, dry_run: bool) -> None:
        self._prepare(connection)
        before = objects_in(connection, self._schemas)
        _run(connection, self._scripts.before)
        require_columns(connection, self._migration.tables, self._schema)
        with connection.transaction(
            force_rollback=True
        ):  # without rows, no expression is evaluated before it is judged
            self._judge(connection, before)
            _run(connection, self._after())
            self._judge(connection, before)
        if dry_run:
            return
        connection.execute(ARRAY_FUNCTION.encode())
        for table in self._migration.tables:
            on_table(table.table)
            self._load(connection, table)
        _run(connection, self._after())
        self._compare(connection)

    def _judge(self, connection: psycopg.Connection[Any], before: Objects) -> None:
        made = objects_in(connection, self._schemas).without(before)
        require_own(connection, made, self._schemas, self._extensions)

    def _after(self) -> list[Statement]:
        possible = [statement for entry, statement in self._scripts.optional if not self._lacking(entry)]
        return [*self._scripts.after, *possible]

    def _lacking(self, entry: ExtensionStatement) -> list[str]:
        return [name for name in entry.extensions if name not in self._extensions]

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        optional = [entry for entry, _ in self._scripts.optional]
        named = {*self._migration.extensions, *(name for entry in optional for name in entry.extensions)}
        self._extensions = installed(connection, named)
        missing = [name for name in self._migration.extensions if name not in self._extensions]
        if missing:
            raise RequestRejected(
                f"the target lacks extensions that columns of the package need: {', '.join(missing)}; make them with "
                "CREATE EXTENSION, or have somebody do it who may",
                field="--url",
            )
        for entry in optional:
            if lacking := self._lacking(entry):
                reason = f"needs extensions that the target lacks: {', '.join(lacking)}"
                self.left_out.append(LeftOut(table=entry.table, what=entry.what, reason=reason))
        for name in self._schemas:
            require_empty(connection, name)
        path = search_path([self._schema, *self._extensions.values()])
        pin(connection, {"search_path": path})
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


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRejected(f"{path.name} of the package cannot be read as UTF-8", field="PACKAGE") from error


def _run(connection: psycopg.Connection[Any], statements: Iterable[Statement]) -> None:
    """Each alone, in the extended protocol (``binary``), which takes no second statement behind a semicolon."""
    for statement in statements:
        connection.execute(statement.text.encode(), binary=True)


def _transaction(connection: psycopg.Connection[Any]) -> str:
    """The number of the transaction that the connection is in."""
    row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()
    assert row is not None
    return str(row[0])


def _require_rolled_back(connection: psycopg.Connection[Any], number: str) -> None:
    """`IntegrityViolation` unless the database says that this transaction has changed nothing."""
    row = connection.execute("SELECT pg_catalog.pg_xact_status(%s::pg_catalog.xid8)", (number,)).fetchone()
    if row is None or row[0] != "aborted":
        raise IntegrityViolation("the dry run was not taken back; look at the target")


_WARNINGS = """
SELECT rolsuper, ARRAY(
    SELECT r.rolname::text FROM pg_catalog.pg_roles r
    WHERE r.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')
    AND pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER') ORDER BY 1)
FROM pg_catalog.pg_roles WHERE rolname = current_user
"""


def _warnings(connection: psycopg.Connection[Any]) -> Iterator[str]:
    row = connection.execute(_WARNINGS).fetchone()
    superuser, roles = row or (False, [])
    if superuser:
        yield "the login is a superuser; restoring needs no more than CREATE on the database"
    elif roles:
        yield f"the login may become {', '.join(roles)}; restoring needs no more than CREATE on the database"


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
