"""The stage of an audit package: what the control database says of one tenant, read in one snapshot.

The service reads its own tables as their owner, so no policy stands between tenants here: the tenant filter in the SQL
does, and every batch is checked for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import ExportPlan, PlannerGuess, Stage, StagedTable, TableSelection
from export_pipelines.core.naming import segment, stage_prefix
from export_pipelines.core.omissions import NotInCatalog, OtherRows, RowCount
from export_pipelines.core.ports import Progress
from export_pipelines.core.service_catalog import SERVICE_CATALOG
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.extract.omissions import omissions_of
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.sources.aggregates import read_aggregates
from export_pipelines.sources.conform import conform, require_tenant
from export_pipelines.sources.names import GUARD
from export_pipelines.sources.query import select_rows
from export_pipelines.sources.relation import from_where
from export_pipelines.sources.session import encoding_of, pin, settings_of, share_snapshot
from export_pipelines.stores.control import Control

_COLUMNS = """
SELECT c.relname::text AS place, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'export_control'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
GROUP BY 1 ORDER BY 1
"""
_BATCH_ROWS = 2000
_ROW_BYTES = 300  # of an entry; only an estimate needs it


def stage_service(plan: ExportPlan, services: ExportServices, progress: Progress) -> Stage:
    """Requests, their events, files and deliveries, and the audit log, of the plan's tenant."""
    services.store.delete(stage_prefix(plan.request_id, plan.attempt))
    with services.reading_control() as connection:
        pin(connection, settings_of(SERVICE_CATALOG))
        snapshot = share_snapshot(connection).info
        tables = [_staged(plan, selection, services, connection, progress) for selection in plan.selections]
        unknown = _not_described(dict(connection.execute(_COLUMNS).fetchall()))
    omissions = omissions_of(
        plan,
        services.catalog,
        rows={table.table: RowCount(rows=table.rows) for table in tables},
        others={table.table: OtherRows() for table in tables},
        unknown=unknown,
    )
    return Stage(snapshot=snapshot, tables=tuple(tables), omissions=omissions)


def not_described(control: Control) -> NotInCatalog:
    """What a migration added to the service's state and nobody described."""
    return _not_described({row["place"]: row["columns"] for row in control.rows(_COLUMNS)})


def _not_described(found: Mapping[str, Sequence[str]]) -> NotInCatalog:
    known = {SERVICE_CATALOG.relation_name(name)[1]: name for name in SERVICE_CATALOG.tables}
    columns = {
        name: tuple(column for column in found.get(place, ()) if column not in SERVICE_CATALOG.tables[name].columns)
        for place, name in known.items()
    }
    return NotInCatalog(
        tables=tuple(place for place in found if place not in known and place not in SERVICE_CATALOG.excluded),
        columns={name: listed for name, listed in columns.items() if listed},
    )


def service_rows(plan: ExportPlan, control: Control) -> dict[str, PlannerGuess]:
    """How many rows there are, for an estimate."""
    guesses = {}
    for selection in plan.selections:
        (row,) = control.rows(
            psycopg.sql.SQL("SELECT count(*) AS rows {}").format(from_where(SERVICE_CATALOG, selection, plan.scope))
        )
        guesses[selection.table] = PlannerGuess(rows=row["rows"], width_bytes=_ROW_BYTES)
    return guesses


def _staged(
    plan: ExportPlan,
    selection: TableSelection,
    services: ExportServices,
    connection: psycopg.Connection[Any],
    progress: Progress,
) -> StagedTable:
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/canonical/{segment(selection.table)}.parquet"
    schema = SERVICE_CATALOG.tables[selection.table].arrow_schema(selection.columns)
    batches = _batches(plan, selection, connection, schema)
    rows = write_canonical(services.store, key, batches, schema, table=selection.table, progress=progress)
    aggregates = read_aggregates(
        lambda query: connection.execute(query).fetchone() or (),
        SERVICE_CATALOG,
        selection,
        plan.scope,
        encoding=encoding_of(connection),
    )
    if rows != aggregates.rows:
        raise IntegrityViolation(f"{selection.table}: {rows} rows arrived, the database counts {aggregates.rows}")
    size_bytes = sum(size for _, size in services.store.list(key))
    return StagedTable(
        table=selection.table,
        keys=(key,),
        rows=rows,
        size_bytes=size_bytes,
        aggregates=aggregates,
        columns=selection.columns,
    )


def _batches(
    plan: ExportPlan, selection: TableSelection, connection: psycopg.Connection[Any], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    guarded = SERVICE_CATALOG.tables[selection.table].tenant.column is not None
    received = pa.schema([*schema, pa.field(GUARD, pa.string())]) if guarded else schema
    with _cursor(connection) as cursor:
        cursor.execute(select_rows(SERVICE_CATALOG, selection, plan.scope))
        while rows := cursor.fetchmany(_BATCH_ROWS):
            batch = _batch(rows, received)
            if guarded:
                require_tenant(batch, plan.scope.tenant_id, selection.table)
            yield conform(batch, schema, selection.table)


@contextmanager
def _cursor(connection: psycopg.Connection[Any]) -> Iterator[psycopg.ServerCursor[Any]]:
    """Rows stay in the server until they are fetched."""
    with connection.cursor(name="service_rows") as cursor:
        yield cursor


def _batch(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
