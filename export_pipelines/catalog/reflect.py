"""Proposes a catalog for a PostgreSQL database we did not write.

Everything found is either offered for export or listed with the reason why not. A proposal is meant to be read
and corrected; what had to be guessed is in the notes. Reading the database is `inventory`, finding the tenant
`tenancy`, guessing from names `naming` and `sensitivity`, what names alone suggest `suggestions`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.catalog.inventory import LiveTable, pinned, read_inventory
from export_pipelines.catalog.links import Link, named_links
from export_pipelines.catalog.naming import alive_when, deleted_column, time_column
from export_pipelines.catalog.relations import Nests, find_nests, relation_names, relations_of
from export_pipelines.catalog.sensitivity import CREDENTIAL, classify, is_credential
from export_pipelines.catalog.survey import (
    UNREACHABLE,
    Survey,
    excluded_key,
    home_schema,
    only_by_name,
    survey_tables,
    usable_tables,
)
from export_pipelines.catalog.tenancy import Paths, Root, find_paths, find_root
from export_pipelines.core.catalog import Catalog, Column, Grain, Partition, Table, TenantPath, TenantRoot

_SMALL_ROWS = 100_000  # reading all of so few rows for their earliest time is cheap without an index
_EARLIEST_HISTORY = dt.date(1970, 1, 1)  # older rows are in the first period, which is open to the past
_LABELS = ("name", "title", "label", "slug", "display_name", "company_name")


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """A proposed catalog, and what a person should look at in it."""

    catalog: Catalog
    notes: tuple[str, ...]
    suggested: Catalog | None = None  # the same with every relation that names alone suggest; None: there is none


def reflect(
    connection: psycopg.Connection[Any],
    *,
    name: str,
    schemas: Sequence[str] | None = None,
    tenant_table: str | None = None,
    tenant_key: str | None = None,
    tenant_column: str | None = None,
    follow_names: bool = False,
) -> Reflection:
    """A catalog of everything in these schemas (default: all of the application's).

    Relations that only the names of columns suggest are in ``suggested``; with ``follow_names`` they are taken at their
    word. Changes nothing. Raises `RequestRejected` naming the candidates when the tenant is not clear.
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
    named = {
        oid: [link for link in links if link.references != root.table.oid]
        for oid, links in named_links(candidates).items()
    }
    draft = _Draft(name=name, schema=schema, root=root, usable=usable, unusable=unusable, excluded=excluded)
    followed = find_paths(candidates, root, named=named)
    paths = followed if follow_names else find_paths(candidates, root)
    further, further_left_out = survey_tables(schema, usable, root, followed)
    survey, left_out = survey_tables(schema, usable, root, paths)
    survey = replace(survey, keys=further.keys)  # a table is called the same, whatever is accepted later
    tables, notes = _tables(survey, named if follow_names else {})
    catalog = draft.catalog(left_out, tables, followed)
    catalog = catalog.model_copy(update={"history_start": _history_start(connection, survey, tables)})
    suggested = None
    if not follow_names:
        suggested = draft.catalog(further_left_out, _tables(further, named)[0], followed)
    count = _relations(suggested) - _relations(catalog)
    if count:
        notes.append(
            f"relations without a foreign key that names suggest: {count}; they are commented out, read and accept them"
        )
    return Reflection(
        catalog=catalog,
        notes=(*_root_notes(root), *paths.notes, *notes),
        suggested=suggested if count else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """What a catalog and the one with further relations have in common."""

    name: str
    schema: str
    root: Root
    usable: Sequence[LiveTable]
    unusable: Sequence[tuple[LiveTable, str]]
    excluded: dict[str, str]

    def catalog(self, left_out: Sequence[tuple[LiveTable, str]], tables: dict[str, Table], followed: Paths) -> Catalog:
        excluded = dict(self.excluded)
        for table, reason in (*self.unusable, *left_out):
            link = followed.through.get(table.oid) if reason == UNREACHABLE else None
            excluded[excluded_key(table, self.schema)] = reason if link is None else only_by_name(link)
        return Catalog(
            name=self.name,
            schema=self.schema,
            tenant=_tenant_root(self.root),
            tables=tables,
            excluded=dict(sorted(excluded.items())),
        )


def _relations(catalog: Catalog | None) -> int:
    return sum(len(table.relations) for table in catalog.tables.values()) if catalog else 0


def _tables(survey: Survey, named: Mapping[int, Sequence[Link]]) -> tuple[dict[str, Table], list[str]]:
    notes: list[str] = []
    nests = find_nests(survey)
    tables = {
        survey.keys[oid]: _table(table, survey, nests, named.get(oid, ()), notes)
        for oid, table in survey.tables.items()
    }
    return dict(sorted(tables.items())), notes


def _table(table: LiveTable, survey: Survey, nests: Nests, named: Sequence[Link], notes: list[str]) -> Table:
    key = survey.keys[table.oid]
    linked = _linked(table, survey, named)
    columns = {name: _column(table, name, linked) for name in table.columns}
    offered = {name: table.columns[name] for name, column in columns.items() if column.exported}
    moment = time_column(offered.values())
    primary = table.primary_key or (table.unique_keys[0] if table.unique_keys else ())
    if any(not columns[name].exported for name in primary):
        notes.append(f"{table.label}: its primary key holds a credential and is left out")
        primary = ()
    names = relation_names(table, survey, named)
    deleted = deleted_column(offered)
    through = survey.paths.through.get(table.oid)
    column = survey.paths.columns.get(table.oid)
    return Table(
        source=None if (table.schema, table.name) == (survey.schema, key) else f"{table.schema}.{table.name}",
        description=table.comment,
        primary_key=primary,
        tenant=TenantPath(through=names[through]) if through else TenantPath(column=column),
        time_column=moment.name if moment else None,
        deleted_column=deleted,
        alive_when=alive_when(offered[deleted]) if deleted else None,
        partition=Partition(grain=Grain.MONTH if moment and moment.not_null else Grain.NONE),
        columns=columns,
        relations=relations_of(table, survey, names, nests),
    )


def _linked(table: LiveTable, survey: Survey, named: Sequence[Link]) -> set[str]:
    """Columns that lead somewhere and are therefore no credentials, whatever they are called."""
    through = survey.paths.through.get(table.oid)
    linked = {column for foreign_key in table.foreign_keys for column in foreign_key.columns}
    linked.update(column for link in (*named, *([through] if through else [])) for column in link.columns)
    linked.add(survey.paths.columns.get(table.oid, ""))
    return linked


def _column(table: LiveTable, name: str, linked: set[str]) -> Column:
    live = table.columns[name]
    return Column(
        type=live.type,
        classification=classify(table.name, live),
        nullable=not live.not_null,
        description=live.comment,
        exclude=CREDENTIAL if is_credential(table.name, live) and name not in linked else None,
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
