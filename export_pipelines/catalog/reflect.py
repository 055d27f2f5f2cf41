"""Proposes a catalog for a PostgreSQL database we did not write.

Everything found is either offered for export or listed with the reason why not. A proposal is meant to be read
and corrected; what had to be guessed is in the notes. Reading the database is `inventory`, finding the tenant
`tenancy`, guessing from names `naming`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.catalog.inventory import LiveTable, pinned, read_inventory
from export_pipelines.catalog.naming import (
    CREDENTIAL,
    alive_when,
    classify,
    deleted_column,
    is_credential,
    time_column,
    updated_column,
)
from export_pipelines.catalog.relations import Nests, find_nests, relation_names, relations_of
from export_pipelines.catalog.survey import Survey, excluded_key, home_schema, survey_tables, usable_tables
from export_pipelines.catalog.tenancy import Root, find_paths, find_root
from export_pipelines.core.catalog import Catalog, Column, Grain, Partition, Table, TenantPath, TenantRoot

_SMALL_ROWS = 100_000  # reading all of so few rows for their earliest time is cheap without an index
_EARLIEST_HISTORY = dt.date(1970, 1, 1)  # older rows are in the first period, which is open to the past
_LABELS = ("name", "title", "label", "slug", "display_name", "company_name")


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """A proposed catalog, and what a person should look at in it."""

    catalog: Catalog
    notes: tuple[str, ...]


def reflect(
    connection: psycopg.Connection[Any],
    *,
    name: str,
    schemas: Sequence[str] | None = None,
    tenant_table: str | None = None,
    tenant_key: str | None = None,
    tenant_column: str | None = None,
) -> Reflection:
    """A catalog of everything in these schemas (default: all of the application's).

    Changes nothing. Raises `RequestRejected` naming the candidates when the tenant is not clear.
    """
    everything = read_inventory(connection, schema="public")
    schema = home_schema(everything, schemas)
    if schema != "public":
        everything = read_inventory(connection, schema=schema)
    chosen = [table for table in everything if schemas is None or table.schema in schemas]
    excluded = {
        f"{other}.*": "schema left out when this catalog was made"
        for other in sorted({table.schema for table in everything} - {table.schema for table in chosen})
    }
    usable, unusable = usable_tables(chosen)
    candidates = {table.oid: table for table in usable}
    root = find_root(candidates, table=tenant_table, key=tenant_key, column=tenant_column)
    paths = find_paths(candidates, root)
    survey, left_out = survey_tables(schema, usable, root, paths)
    excluded |= {excluded_key(table, schema): reason for table, reason in [*unusable, *left_out]}
    tables, notes = _tables(survey)
    catalog = Catalog(
        name=name,
        schema=schema,
        history_start=_history_start(connection, survey, tables),
        tenant=_tenant_root(root),
        tables=tables,
        excluded=dict(sorted(excluded.items())),
    )
    return Reflection(catalog=catalog, notes=(*_root_notes(root), *paths.notes, *notes))


def _tables(survey: Survey) -> tuple[dict[str, Table], list[str]]:
    notes: list[str] = []
    nests = find_nests(survey)
    tables = {survey.keys[oid]: _table(table, survey, nests, notes) for oid, table in survey.tables.items()}
    return dict(sorted(tables.items())), notes


def _table(table: LiveTable, survey: Survey, nests: Nests, notes: list[str]) -> Table:
    key = survey.keys[table.oid]
    columns = {name: _column(table, name, survey) for name in table.columns}
    offered = {name: table.columns[name] for name, column in columns.items() if column.exported}
    moment = time_column(offered.values())
    primary = table.primary_key or (table.unique_keys[0] if table.unique_keys else ())
    if any(not columns[name].exported for name in primary):
        notes.append(f"{table.label}: its primary key holds a credential and is left out")
        primary = ()
    names = relation_names(table, survey)
    deleted = deleted_column(offered)
    through = survey.paths.through.get(table.oid)
    column = survey.paths.columns.get(table.oid)
    return Table(
        source=None if (table.schema, table.name) == (survey.schema, key) else f"{table.schema}.{table.name}",
        description=table.comment,
        primary_key=primary,
        tenant=TenantPath(through=names[through.name]) if through else TenantPath(column=column),
        time_column=moment.name if moment else None,
        deleted_column=deleted,
        alive_when=alive_when(offered[deleted]) if deleted else None,
        updated_column=updated_column(offered),
        partition=Partition(grain=Grain.MONTH if moment and moment.not_null else Grain.NONE),
        columns=columns,
        relations=relations_of(table, survey, names, nests),
    )


def _column(table: LiveTable, name: str, survey: Survey) -> Column:
    live = table.columns[name]
    linked = {column for foreign_key in table.foreign_keys for column in foreign_key.columns}
    linked.add(survey.paths.columns.get(table.oid, ""))
    return Column(
        type=live.type,
        classification=classify(name),
        nullable=not live.not_null,
        description=live.comment,
        exclude=CREDENTIAL if is_credential(live) and name not in linked else None,
    )


def _tenant_root(root: Root) -> TenantRoot:
    columns = root.table.columns
    label = next((name for name in _LABELS if name in columns and name != root.key), None)
    return TenantRoot(table=root.table.label, key=root.key, label=label, type=columns[root.key].type)


def _root_notes(root: Root) -> list[str]:
    if not root.guessed:
        return []
    return [f"the tenant was taken to be {root.table.label} by {root.column}; name tenant_table if it is another"]


def _history_start(connection: psycopg.Connection[Any], survey: Survey, tables: dict[str, Table]) -> dt.date:
    """First day of the month of the earliest row, as far as that is cheap to know; else the catalog's default."""
    earliest: list[dt.date] = []
    for oid, live in survey.tables.items():
        column = tables[survey.keys[oid]].partition_column
        cheap = column in live.indexed or 0 <= live.rows_estimate < _SMALL_ROWS
        if column is None or live.is_view or not cheap:
            continue
        found = _earliest(connection, live, column)
        if found is not None:
            earliest.append(found)
    if not earliest:
        return Catalog.model_fields["history_start"].get_default()  # type: ignore[no-any-return]
    return min(earliest).replace(day=1)


def _earliest(connection: psycopg.Connection[Any], table: LiveTable, column: str) -> dt.date | None:
    query = sql.SQL(
        "SELECT greatest({floor}::date, least(min({column})::date, current_date)) AS day FROM {table} "
        "WHERE {column} > '-infinity' AND {column} < 'infinity'"
    ).format(
        floor=sql.Literal(_EARLIEST_HISTORY.isoformat()),
        column=sql.Identifier(column),
        table=sql.Identifier(table.schema, table.name),
    )
    try:
        with pinned(connection) as cursor:
            row = cursor.execute(query).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    day = row["day"] if row else None
    return day if isinstance(day, dt.date) else None
