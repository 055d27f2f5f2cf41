"""Starts to read tables exactly as an export does, to find what an export would fail with.

The same session, the same query, the same engine and the same checks of what arrives; only the number of rows and the
time are bounded. Rows are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import ExportError, ValueBeyondRepresentation
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.sources.aggregates import select_aggregates
from export_pipelines.sources.canary import is_canary
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.postgres import Resolver
from export_pipelines.sources.reading import read_selection
from export_pipelines.sources.session import begin, begin_statements, connected, encoding_of
from export_pipelines.sources.spellings import Spellings
from export_pipelines.sources.stream import RowReader, translated

ROWS = 100  # of a table
TIMEOUT_SECONDS = 30  # for one table


def first_tenant(url: str, catalog: Catalog) -> TenantScope | None:
    """The first tenant by its key, the canary left out; None where there is none. Read as the directory role."""
    root = catalog.tenant
    query = sql.SQL("SELECT {key}::text FROM {table} WHERE NOT {canary} ORDER BY {key} LIMIT 1").format(
        key=sql.Identifier(root.key),
        table=sql.Identifier(*root.table.split(".")),
        canary=is_canary(catalog),
    )
    with connected(url) as connection, translated(url):
        begin(connection, catalog, None)
        row = connection.execute(query).fetchone()
    return TenantScope(tenant_id=row[0]) if row else None


def try_tables(
    url: str, catalog: Catalog, scope: TenantScope, tables: Sequence[str], engine: Engine, resolve: Resolver
) -> dict[str, ExportError]:
    """Table → what an export of it would fail with; tables whose first rows arrive are left out.

    ``__cause__`` of an error is the driver's. Raises what opening the session fails with.
    """
    failed: dict[str, ExportError] = {}
    reader: RowReader | None = None
    limit = sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(f"{TIMEOUT_SECONDS * 1000:.0f}ms"))
    opening = [statement.as_string() for statement in (*begin_statements(catalog, scope), limit)]
    with connected(url) as connection:
        begin(connection, catalog, scope)
        connection.execute(limit)
        with translated(url):
            catalog = catalog.resolved(resolve(connection, catalog, tables))
        spellings = Spellings(catalog, scope, lambda query: connection.execute(query).fetchone() or ())
        for name in tables:
            columns = catalog.tables[name].exported_columns
            selection = TableSelection(table=name, columns=columns, include_deleted=False)
            reader = reader or engine.open(url, opening)
            usable = False  # after an error a reader is fit for nothing else; the next table gets one of its own
            try:
                _plan_figures(connection, catalog, selection, scope, url)
                _read(reader, catalog, selection, scope, engine, spellings)
                usable = True
            except ValueBeyondRepresentation:  # an export reads such a column once more, as text
                pass
            except ExportError as error:
                failed[name] = error
            finally:
                if not usable:
                    reader.close()
                    reader = None
        if reader is not None:
            reader.close()
    return failed


def _read(
    reader: RowReader,
    catalog: Catalog,
    selection: TableSelection,
    scope: TenantScope,
    engine: Engine,
    spellings: Spellings,
) -> None:
    rows = read_selection(reader, catalog, selection, scope, uncast=engine.uncast, same=spellings.same, most_rows=ROWS)
    for _ in rows:
        pass


def _plan_figures(
    connection: psycopg.Connection, catalog: Catalog, selection: TableSelection, scope: TenantScope, url: str
) -> None:
    """Whether the database can plan the figures that files are compared with."""
    with translated(url), connection.transaction():
        for _names, statement in select_aggregates(catalog, selection, scope, encoding=encoding_of(connection)):
            connection.execute(sql.SQL("EXPLAIN {}").format(statement))
