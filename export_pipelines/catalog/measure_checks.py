"""Whether the database can compute what a catalog measures: only it knows which types can be told apart and sorted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.catalog.findings import Finding, error
from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.measures import Function


def check_measures(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> Iterator[Finding]:
    """Plans a query a column and runs none."""
    for name in tables:
        table = catalog.tables[name]
        for column in _compared(table):
            query = sql.SQL("EXPLAIN SELECT count(DISTINCT {}) FROM {}").format(
                sql.Identifier(column), sql.Identifier(*catalog.relation_name(name))
            )
            try:
                with connection.transaction():
                    connection.execute(query)
            except psycopg.errors.UndefinedFunction:
                message = f"is {table.columns[column].type}, whose values the database cannot tell apart"
                yield error(message, "take it out of dimensions and measures", table=name, column=column)
            except psycopg.Error:
                continue  # a column or a right that is missing is reported by the checks of drift and isolation


def _compared(table: Table) -> list[str]:
    counted = [
        str(measure.column) for measure in table.measures.values() if measure.function is Function.COUNT_DISTINCT
    ]
    return list(dict.fromkeys((*table.dimensions, *counted)))
