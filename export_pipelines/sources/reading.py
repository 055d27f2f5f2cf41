"""The rows of one selection on their way from a reader: as the catalog says, and none of another tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.sources.conform import conform, require_tenant
from export_pipelines.sources.query import Casts, select_rows
from export_pipelines.sources.stream import RowReader


def read_selection(
    reader: RowReader,
    catalog: Catalog,
    selection: TableSelection,
    scope: TenantScope,
    *,
    uncast: Casts,
    same: Callable[[str, list[str]], bool] | None = None,
    most_rows: int | None = None,
) -> Iterator[pa.RecordBatch]:
    """Batches in the catalog's schema, each checked for type, range and tenant; at most so many rows.

    ``same`` is asked whether other texts in a table's tenant column are the tenant's id to the database.
    """
    shape = catalog.shape(selection.table, selection.aggregation)
    schema = shape.arrow_schema(selection.columns, selection.as_text)
    tenant = catalog.tables[selection.table].tenant
    query = select_rows(catalog, selection, scope, uncast)
    if most_rows is not None:
        query += sql.SQL(" LIMIT {}").format(sql.Literal(most_rows))
    for received in reader.read(query.as_string(), schema, selection.table):
        if tenant.column is not None:
            require_tenant(
                received,
                scope.tenant_id,
                selection.table,
                null_is_shared=tenant.null_is_shared,
                same=partial(same, selection.table) if same is not None else None,
            )
        yield conform(received, schema, selection.table)
