"""Reads a query's columns through an engine as the product does: its casts, its session, its checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
from psycopg import sql

from export_pipelines.core.catalog import Column
from export_pipelines.core.types import field_of
from export_pipelines.sources.conform import conform
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.query import projected
from export_pipelines.sources.session import SETTINGS
from export_pipelines.sources.stream import RowReader

SESSION = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    *(f"SELECT set_config('{name}', '{value}', true)" for name, value in SETTINGS.items()),
)


@contextmanager
def reading(engine: Engine, url: str) -> Iterator[RowReader]:
    reader = engine.open(url, SESSION)
    try:
        yield reader
    finally:
        reader.close()


def batches(reader: RowReader, engine: Engine, columns: Mapping[str, Column], rows: str) -> Iterator[pa.RecordBatch]:
    """``rows`` is a SELECT that gives the columns their names."""
    schema = pa.schema([field_of(name, column.travels_as) for name, column in columns.items()])
    listed = [
        sql.SQL("{} AS {}").format(projected(name, column, column.travels_as, engine.uncast), sql.Identifier(name))
        for name, column in columns.items()
    ]
    query = f"SELECT {sql.SQL(', ').join(listed).as_string()} FROM ({rows}) AS t0"
    for batch in reader.read(query, schema, "t"):
        yield conform(batch, schema, "t")


def table(reader: RowReader, engine: Engine, columns: Mapping[str, Column], rows: str) -> pa.Table:
    schema = pa.schema([field_of(name, column.travels_as) for name, column in columns.items()])
    return pa.Table.from_batches(batches(reader, engine, columns, rows), schema=schema)


def typed(**types: str) -> dict[str, Column]:
    return {name: Column(type=pg_type) for name, pg_type in types.items()}
