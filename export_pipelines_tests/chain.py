"""Rows from a database through a format's file and back, with the figures of either end, as an export has them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import psycopg
import pyarrow as pa

from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TableAggregates, TableSelection, TenantScope
from export_pipelines.core.ports import TableHead
from export_pipelines.formats.registry import find_format
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.postgres import PostgresSnapshot, PostgresSource
from export_pipelines.sources.session import administering
from export_pipelines.validation.row_digest import account, differences
from export_pipelines_tests.workshop import login_url

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A database whose catalog was proposed and whose policies are applied."""

    catalog: Catalog
    url: str  # of the login that may become the reader

    @contextmanager
    def snapshot(self, engine: Engine, tenant: str = "1") -> Iterator[PostgresSnapshot]:
        source = PostgresSource(
            self.url,
            self.catalog,
            check_tables=lambda *_: None,
            report=cast("Any", None),
            compare=find_unknown,
            engine=engine,
        )
        with source.snapshot(TenantScope(tenant_id=tenant)) as snapshot:
            yield snapshot

    def selection(self, table: str) -> TableSelection:
        return TableSelection(table=table, columns=self.catalog.tables[table].exported_columns)

    def read(self, engine: Engine, table: str, tenant: str = "1") -> tuple[pa.Table, TableAggregates]:
        """Rows and the database's figures; read again where columns need text."""
        selection = self.selection(table)
        with self.snapshot(engine, tenant) as snapshot:
            if as_text := snapshot.beyond_representation(selection):
                selection = replace(selection, as_text=as_text)
            schema = self.catalog.tables[table].arrow_schema(selection.columns, selection.as_text)
            rows = pa.Table.from_batches(snapshot.read(selection), schema=schema)
            return rows, snapshot.aggregate(selection)


def linked(admin_url: str, server: Any, *, tenant_table: str = "public.firms") -> Chain:
    """Propose a catalog, apply its policies and make a login, with roles that no other database of the server has."""
    with administering(admin_url) as connection:
        proposed = reflect(connection, name="case", tenant_table=tenant_table).catalog
        catalog = proposed.model_copy(update={"reader_role": f"chain_{id(proposed)}_{next(_numbers)}_reader"})
        apply_rls(connection, catalog)
    return Chain(catalog=catalog, url=login_url(server, admin_url, catalog.reader_role))


def written(rows: pa.Table, format_name: str, folder: Path, table: str = "t") -> tuple[Path, TableHead]:
    """The file of these rows."""
    spec, head = find_format(format_name), TableHead(name=table, schema=rows.schema)
    path = folder / f"{table}.{spec.extension}"
    with path.open("wb") as sink:
        writer = spec.open(sink, {})
        writer.begin(head)
        for batch in rows.to_batches():
            writer.write(batch)
        writer.close()
    return path, head


def problems(rows: pa.Table, figures: TableAggregates, formats: Iterable[str], folder: Path) -> list[str]:
    """What validation finds wrong with files of these formats: against the database's figures, and row by row."""
    digest = account(rows.to_batches(), rows.schema).digest
    found = []
    for name in formats:
        path, head = written(rows, name, folder)
        read = account(find_format(name).read(path, head), rows.schema)
        wrong = differences(figures, read.aggregates, rows.schema) + (["digest"] if read.digest != digest else [])
        found += [f"{name}: {problem}" for problem in wrong]
    return found


def load(url: str, *scripts: str | bytes) -> None:
    with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
        for script in scripts:
            connection.execute(script.encode() if isinstance(script, str) else script)


def cells(rows: pa.Table, names: Iterable[str]) -> list[Any]:
    """The named columns, row by row."""
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))
