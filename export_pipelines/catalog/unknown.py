"""What a live database has that its catalog does not know: no export holds it until somebody decides on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from export_pipelines.catalog.inventory import LiveTable, read_inventory
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.omissions import NotInCatalog


def find_unknown(connection: psycopg.Connection[Any], catalog: Catalog) -> NotInCatalog:
    """Tables and views, and columns of the catalog's tables."""
    live = read_inventory(connection, schema=catalog.schema_)
    places = {(table.schema, table.name): table for table in live}
    present = {name: places[place] for name in catalog.tables if (place := catalog.relation_name(name)) in places}
    columns = {name: unknown_columns(catalog, name, table) for name, table in present.items()}
    return NotInCatalog(
        tables=tuple(table.label for table in unknown_tables(catalog, live)),
        columns={name: unknown for name, unknown in columns.items() if unknown},
    )


def unknown_columns(catalog: Catalog, name: str, live: LiveTable) -> tuple[str, ...]:
    """Columns of a table of the catalog that it does not describe, in the table's order."""
    return tuple(column for column in live.columns if column not in catalog.tables[name].columns)


def unknown_tables(catalog: Catalog, live: Iterable[LiveTable]) -> tuple[LiveTable, ...]:
    """Those that are neither exported nor excluded, and that no extension brought."""
    exported = {catalog.relation_name(name) for name in catalog.tables}
    return tuple(
        table
        for table in live
        if (table.schema, table.name) not in exported and not exclusions_of(catalog, table) and table.extension is None
    )


def exclusions_of(catalog: Catalog, table: LiveTable) -> set[str]:
    """The entries of ``excluded`` that a table falls under."""
    names = {table.label, f"{table.schema}.*", *([table.name] if table.schema == catalog.schema_ else [])}
    return names & catalog.excluded.keys()
