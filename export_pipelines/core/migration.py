"""What it takes to make the tables of an export again in another database: DDL as text, in the order in which it runs.

`export_pipelines.sources.ddl` reads it from the live database, `export_pipelines.packaging.migration_scripts` puts it
into a package and `export_pipelines.pipeline.restoration.restore` carries it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SCHEMA_FILE, LOAD_FILE, CONSTRAINTS_FILE = "schema.sql", "load.sql", "constraints.sql"
SCRIPTS = (SCHEMA_FILE, CONSTRAINTS_FILE, LOAD_FILE)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something of a table that the package does not carry."""

    table: str
    what: str  # kind and name: ``foreign key invoices_client_id_fkey``
    reason: str


@dataclass(frozen=True, kw_only=True)
class LoadColumn:
    """A column of a file on its way into a table."""

    name: str
    type: str  # as declared, a domain's own name where it is one
    array: bool = False  # also a domain over one: the file has a JSON array
    generated: bool = False  # the database computes it; the file's values are for comparing


@dataclass(frozen=True, kw_only=True)
class LoadTable:
    """A table that rows are loaded into."""

    table: str  # its key in the catalog, which its files are named after
    schema: str | None  # None: the package's own, for which another may stand in
    name: str
    columns: tuple[LoadColumn, ...]  # as they are in the file

    @property
    def relation(self) -> str:
        """As SQL, on a search path that begins with the package's schema."""
        return quoted(self.name) if self.schema is None else f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def filled(self) -> tuple[LoadColumn, ...]:
        """The columns that get their values from the file."""
        return tuple(column for column in self.columns if not column.generated)

    @property
    def direct(self) -> bool:
        """Whether ``COPY`` takes the file as it is."""
        return not any(column.array or column.generated for column in self.columns)


@dataclass(frozen=True, kw_only=True)
class ExtensionStatement:
    """A statement that comes after the others, where the target has these extensions; without it rows are the same."""

    table: str
    what: str  # as in `LeftOut`
    extensions: tuple[str, ...]
    statement: str


@dataclass(frozen=True, kw_only=True)
class MigrationScripts:
    """DDL of the exported tables, without schema where they are in the package's own."""

    schema: str  # which the script's names belong to; any other can take its place
    other_schemas: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()  # that the tables cannot be made without
    before: tuple[str, ...]  # types, sequences, tables
    after: tuple[str, ...]  # keys, indexes, foreign keys, positions of sequences
    optional: tuple[ExtensionStatement, ...] = ()
    tables: tuple[LoadTable, ...]  # in load order: a table comes after those it refers to
    left_out: tuple[LeftOut, ...] = ()


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def load_order(tables: Iterable[str], parents: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Parents before children; tables that refer to each other in a circle, and all else, as they come."""
    ordered: dict[str, None] = {}
    entered: set[str] = set()

    def place(table: str) -> None:
        if table in entered:
            return
        entered.add(table)
        for parent in parents.get(table, ()):
            place(parent)
        ordered[table] = None

    for table in tables:
        place(table)
    return tuple(ordered)
