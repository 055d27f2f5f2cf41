"""Read the data files of a package again, as deep as asked, and compare with what its manifest says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import ColumnAggregate, FilePart, TableAggregates
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.core.types import as_text as text_form
from export_pipelines.core.types import field_of, kind_of
from export_pipelines.packaging.manifest_reading import ReadFile, ReadManifest, ReadTable
from export_pipelines.pipeline.verification.data_files import plain_copy, read_part, refusing_crafted
from export_pipelines.pipeline.verification.findings import Check, Depth, Verification, words_of
from export_pipelines.pipeline.verification.sampling import Sampler
from export_pipelines.validation.row_digest import Account, account, accounting, differences


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One look into all data files."""

    spec: FormatSpec
    heads: dict[str, TableHead]
    depth: Depth
    found: Verification
    sampler: Sampler
    session: duckdb.DuckDBPyConnection
    accounts: dict[str, Account] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)  # tables of which a file could not be read: nothing to compare

    def check_file(self, folder: Path, entry: ReadFile, scratch: Path) -> None:
        tables = [part.table for part in entry.parts]
        with self._judged(entry.path, tables), plain_copy(folder / entry.path, entry.path, scratch) as path:
            for part in parts_of(entry, self.heads):
                with self._judged(entry.path, [part.table]):
                    self._read_part(path, entry, part)

    @contextmanager
    def _judged(self, name: str, tables: list[str]) -> Iterator[None]:
        """What a reader refuses is a problem of that file; the others are still read."""
        try:
            with refusing_crafted(name):
                yield
        except IntegrityViolation as error:
            self.unread.update(tables)
            self.found.fail(Check.SCHEMA, words_of(error))

    def _read_part(self, path: Path, entry: ReadFile, part: FilePart) -> None:
        head = self.heads[part.table]
        batches = iter(read_part(self.spec, path, head, part))
        first = next(batches, None)
        if first is not None:
            if first.schema.names != head.schema.names:
                raise IntegrityViolation(f"{entry.path} has other columns of {part.table} than the manifest says")
            self.sampler.take(part.table, pa.RecordBatch.from_arrays(first.columns, schema=head.schema))
        if self.depth is not Depth.FULL:
            return
        read = account(batches if first is None else chain((first,), batches), head.schema, self.session)
        self.accounts[part.table] = self.accounts[part.table] + read if part.table in self.accounts else read
        if read.aggregates.rows != part.rows:
            counted = f"{entry.path} has {read.aggregates.rows} rows of {part.table}"
            self.found.fail(Check.ROWS, f"{counted}, the manifest says {part.rows}")


def check_content(
    folder: Path,
    manifest: ReadManifest,
    spec: FormatSpec,
    found: Verification,
    *,
    depth: Depth,
    sample_rows: int,
    on_file: Callable[[str], None],
) -> None:
    """Check every data file; what is wrong goes to ``found``, ``on_file`` hears each path before."""
    found.looked_at(Check.SCHEMA)
    heads = {table.name: head_of(table) for table in manifest.tables}
    sampler = Sampler(found.samples, rows=sample_rows, tables=len(heads))
    with accounting() as session, tempfile.TemporaryDirectory(prefix="export-pipelines-verify-") as scratch:
        reading = _Reading(spec=spec, heads=heads, depth=depth, found=found, sampler=sampler, session=session)
        for entry in manifest.files:
            if entry.parts:
                on_file(entry.path)
                reading.check_file(folder, entry, Path(scratch))
    if depth is Depth.FULL:
        for table in manifest.tables:
            if table.name not in reading.unread:
                _compare(table, heads[table.name].schema, reading.accounts.get(table.name), found)
        if not reading.unread:
            found.looked_at(Check.ROWS, Check.VALUES)


def _compare(table: ReadTable, schema: pa.Schema, read: Account | None, found: Verification) -> None:
    if read is None:
        found.fail(Check.ROWS, f"{table.name} is in no file")
        return
    columns = {name: ColumnAggregate(**dict(figures)) for name, figures in table.aggregates.items()}
    rows = read.aggregates.rows
    found.rows += rows
    if rows != table.rows:
        found.fail(Check.ROWS, f"{table.name}: the source has {table.rows} rows, the files have {rows}")
    expected = TableAggregates(rows=rows, columns=columns)
    found.fail(
        Check.VALUES, *(f"{table.name}: {problem}" for problem in differences(expected, read.aggregates, schema))
    )


def parts_of(entry: ReadFile, heads: Mapping[str, TableHead]) -> Iterator[FilePart]:
    """Which rows of which tables a file holds, in its order."""
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
