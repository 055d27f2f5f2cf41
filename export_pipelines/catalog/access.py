"""Which columns the reader role has to read, as a consequence of the catalog alone.

Granting them is `rls`, checking them is `isolation`; both must mean the same set.
"""

from __future__ import annotations

from export_pipelines.core.catalog import Catalog


def needed_columns(catalog: Catalog, name: str) -> tuple[str, ...]:
    """Columns of one table in catalog order: exported and not masked, or used to filter and to find the tenant."""
    needed = {column for column, spec in catalog.tables[name].columns.items() if spec.exported and not spec.mask}
    needed |= filter_columns(catalog, name)
    return tuple(column for column in catalog.tables[name].columns if column in needed)


def filter_columns(catalog: Catalog, name: str) -> set[str]:
    """Columns of one table that queries compare with, exported or not."""
    table = catalog.tables[name]
    named = (table.tenant.column, table.time_column, table.deleted_column, table.partition_column)
    columns = {column for column in named if column is not None}
    if table.tenant.through is not None:
        columns.update(table.relations[table.tenant.through].columns)
    return columns | _asked_by_children(catalog, name)


def unneeded_columns(catalog: Catalog, name: str) -> tuple[str, ...]:
    """Columns the reader role has no business reading: masked or excluded, and not needed for a filter."""
    needed = set(needed_columns(catalog, name))
    return tuple(column for column in catalog.tables[name].columns if column not in needed)


def _asked_by_children(catalog: Catalog, name: str) -> set[str]:
    """Columns that policies of other tables compare with on their way to the tenant."""
    columns: set[str] = set()
    for child in catalog.tables.values():
        if child.tenant.through is not None:
            relation = child.relations[child.tenant.through]
            if relation.references == name:
                columns.update(relation.referenced_columns)
    return columns
