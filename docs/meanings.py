"""Sentences for the generated tables, for fields whose name says enough in the code but not to a stranger.

`make_docs` refuses an entry for a field that is gone, or that has a description in the code by now.
"""

from __future__ import annotations

CATALOG = {
    "Catalog.version": "Version of this file's shape.",
    "Catalog.name": "Of the catalog; first part of asset keys and lake folders.",
    "Catalog.title": "For people, in the README of a package.",
    "Catalog.description": "For people.",
    "Catalog.schema": "PostgreSQL schema of tables that do not name theirs.",
    "Catalog.timezone": "Where a day begins when a request gives dates; IANA name.",
    "Catalog.history_start": "First period of the lake; older rows and rows without a time are in it.",
    "Catalog.drift": "Tables and columns that the catalog does not know: `warn` in `catalog check`, or `fail`, which "
    "also refuses exports of a table with a new column. Every package "
    "[names them](packages.md#what-is-left-out) either way.",
    "Catalog.reader_role": "Role that extraction becomes. The role that lists tenants is its name with `_directory`.",
    "Catalog.tenant": "Where tenants live.",
    "Catalog.tenant_buckets": "So many hash buckets of tenants are the lake's partitions in Dagster, instead of the "
    "tenants themselves. See below.",
    "Catalog.canary": "A tenant whose rows must turn up in nobody's export. See below.",
    "Catalog.tables": "Exportable tables by name.",
    "TenantRoot.key": "Its key column; the tenant id of a request is this as text.",
    "TenantRoot.label": "Its column with a name for people.",
    "Table.description": "For people; in the package's README and in Dagster.",
    "Table.module": "Group of tables that a request may name, and of the assets in Dagster.",
    "Table.primary_key": "Checked to be unique in the lake; order of nested records.",
    "Table.tenant": "How a row belongs to a tenant.",
    "Table.time_column": "What `date_range` filters.",
    "Table.deleted_column": "Marks deleted rows, which are left out unless `include_deleted`: a row is deleted when "
    "this is neither NULL nor `alive_when`.",
    "Table.partition": "How the lake cuts the table.",
    "Table.roles": "Who may ask for it. For the coming API; the request table does not know roles.",
    "Table.columns": "Columns by name, in the order of the files.",
    "Table.relations": "Foreign keys by name.",
    "TenantPath.column": "Column of this table that holds the tenant's key.",
    "Column.type": "PostgreSQL type as `format_type` prints it.",
    "Column.classification": "How delicate: `public`, `internal`, `personal`, `identifier` or `sensitive`. In the "
    "manifest; previews in Dagster show `public` and `internal` columns only.",
    "Column.nullable": "A NULL in a column that says `false` stops the export.",
    "Column.description": "For people; in the package's README and Table Schema.",
    "Column.label": "Header for people, with the option `headers: labels`.",
    "Column.mask": "Why the column is always NULL in exports.",
    "Column.exclude": "Why the column is never exported.",
    "Relation.columns": "Columns of this table.",
    "Relation.references": "Table of the catalog they refer to.",
    "Relation.referenced_columns": "Its columns, in the same order.",
    "Relation.virtual": "Known here only; the database has no such foreign key.",
    "Partition.grain": "`month`, `day` or `none`.",
    "Partition.column": "Default: the table's `time_column`.",
    "Measure.function": "`sum`, `count`, `min`, `max`, `avg` or `count_distinct`.",
    "Measure.label": "Header for people.",
    "Measure.description": "For people; in the package's README and Table Schema.",
}

CONFIGURATION = {
    "SplitFiles.enabled": "`false` turns the part off, whatever else it says.",
    "Encryption.enabled": "`false` turns the part off, whatever else it says.",
}
