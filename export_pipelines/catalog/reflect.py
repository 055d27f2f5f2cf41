"""Proposes a catalog for a PostgreSQL database we did not write.

Everything found is either offered for export or listed with the reason why not. A proposal is meant to be read
and corrected; what had to be guessed is in the notes. Reading the database is `inventory`, finding the tenant
`tenancy`, guessing from names `naming` and `sensitivity`, what names alone suggest `suggestions`.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.catalog.inventory import Key, LiveTable, pinned, read_inventory
from export_pipelines.catalog.links import Basis, Link, Tables, declared_links, named_links
from export_pipelines.catalog.naming import alive_when, deleted_column, time_column
from export_pipelines.catalog.orphans import Orphans, count_orphans, tables_with_nulls
from export_pipelines.catalog.relations import Nests, find_nests, relation_names, relations_of
from export_pipelines.catalog.sensitivity import CREDENTIAL, classify, is_credential
from export_pipelines.catalog.suggestions import Remarked
from export_pipelines.catalog.survey import (
    REFERENCE,
    UNREACHABLE,
    Survey,
    excluded_key,
    home_schema,
    only_by_name,
    reference_tables,
    survey_tables,
    usable_tables,
    why_unreachable,
)
from export_pipelines.catalog.tenancy import Links, Paths, Root, find_paths, find_root
from export_pipelines.catalog.tenant_setting import application_setting
from export_pipelines.core.catalog import Catalog, Column, Grain, Partition, Table, TenantPath, TenantRoot, Withheld

_SMALL_ROWS = 100_000  # reading all of so few rows for their earliest time is cheap without an index
_EARLIEST_HISTORY = dt.date(1970, 1, 1)  # older rows are in the first period, which is open to the past
_LABELS = ("name", "title", "label", "slug", "display_name", "company_name")


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """A proposed catalog, and what a person should look at in it."""

    catalog: Catalog
    notes: tuple[str, ...]
    suggested: Catalog | None = None  # the same with every relation that names alone suggest; None: there is none
    remarks: Mapping[Remarked, str] = field(default_factory=dict)  # comments for lines of the file


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

    Relations that only the names of columns suggest are taken if each of their values is found, or with
    ``follow_names``; the others are in ``suggested``. Tables that are not exported are described all the same, among
    the withheld ones. Changes nothing. Raises `RequestRejected` naming the candidates when the tenant is not clear.
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
    named = named_links(candidates)
    root = find_root(candidates, table=tenant_table, key=tenant_key, column=tenant_column, named=named)
    named = {oid: [link for link in links if link.references != root.table.oid] for oid, links in named.items()}
    orphans = count_orphans(connection, candidates, named)
    named = {
        oid: [replace(link, proven=(oid, link) in orphans and orphans[oid, link].none) for link in links]
        for oid, links in named.items()
    }
    orphans = {(oid, replace(link, proven=found.none)): found for (oid, link), found in orphans.items()}
    taken = {oid: [link for link in links if link.proven or follow_names] for oid, links in named.items()}
    followed = find_paths(candidates, root, named=named)
    paths = find_paths(candidates, root, named=taken)
    further, _ = survey_tables(schema, usable, root, followed)
    survey, left_out = survey_tables(schema, usable, root, paths)
    tables, notes = _tables(survey, taken)
    withheld = {
        survey.keys[table.oid]: _withheld(table, reason, further, named)
        for table, reason in _explained(left_out, followed, candidates, named, orphans)
    }
    for table, reason in unusable:
        excluded[excluded_key(table, schema)] = reason
    catalog = Catalog(
        name=name,
        schema=schema,
        tenant=_tenant_root(connection, root, usable, paths),
        tables=tables,
        withheld=dict(sorted(withheld.items())),
        excluded=dict(sorted(excluded.items())),
        history_start=_history_start(connection, survey, tables),
    )
    shown = {key: table for key, table in _tables(further, named)[0].items() if key in tables}
    count = sum(len(shown[key].relations) - len(table.relations) for key, table in tables.items())
    if count:
        notes.append(
            f"relations without a foreign key that names suggest: {count}; they are commented out, read and accept them"
        )
    notes.extend(_taken_by_name(survey))
    if withheld:
        notes.append(f"described and withheld, each with its reason and `export: false`: {', '.join(sorted(withheld))}")
    nulls = _unowned(connection, survey)
    notes.extend(f"{survey.tables[oid].label}: {text}" for oid, text in nulls.items())
    remarks: dict[Remarked, str] = {(survey.keys[oid], "tenant", ""): text for oid, text in nulls.items()}
    for (oid, link), found in orphans.items():
        remarks[survey.keys[oid], ", ".join(link.columns), survey.keys[link.references]] = f"by name; {found}"
    return Reflection(
        catalog=catalog,
        notes=(*_root_notes(root), *_setting_notes(catalog), *paths.notes, *notes),
        suggested=catalog.model_copy(update={"tables": shown}) if count else None,
        remarks=remarks,
    )


Counted = Mapping[tuple[int, Link], Orphans]


def _explained(
    left_out: Sequence[tuple[LiveTable, str]], followed: Paths, tables: Tables, named: Links, orphans: Counted
) -> Iterator[tuple[LiveTable, str]]:
    """Each table that is left out with the reason that helps."""
    unreachable = [table for table, reason in left_out if reason == UNREACHABLE and table.oid not in followed.through]
    links = {oid: [*declared_links(table), *named.get(oid, ())] for oid, table in tables.items()}
    reference = reference_tables(unreachable, links)
    for table, reason in left_out:
        link = followed.through.get(table.oid)
        if reason != UNREACHABLE:
            yield table, reason
        elif link is not None:
            yield table, only_by_name(link, orphans.get((table.oid, link)))
        else:
            yield table, why_unreachable(table, reference=table.oid in reference)


def _withheld(table: LiveTable, reason: str, further: Survey, named: Links) -> Withheld:
    """The table as it would be exported, so that a word takes it in; without a tenant where nobody could guess it."""
    known = table.oid in further.paths.columns or table.oid in further.paths.through
    tenant = None if known else TenantPath(shared="Reference data, the same for every tenant")
    entry = _table(table, further, {}, named.get(table.oid, ()), [], tenant).model_dump(
        exclude_defaults=True, mode="json"
    )
    if not known and reason != REFERENCE:
        del entry["tenant"]
    return Withheld.model_validate({"export": False, "reason": reason, **entry})


def _unowned(connection: psycopg.Connection[Any], survey: Survey) -> dict[int, str]:
    """By oid: of tables whose own tenant column is NULL in some rows, what that means and what else it could."""
    found = tables_with_nulls(connection, survey.tables, survey.paths.columns)
    return {
        oid: f"rows with NULL in {column} are in no export; if they are every tenant's, set null_is_shared: true"
        for oid, column in found.items()
    }


def _taken_by_name(survey: Survey) -> Iterator[str]:
    """A line for all paths to the tenant that rest on names, and on rows where there are any."""
    found = sorted(
        f"{survey.tables[oid].label}.{', '.join(link.columns)} → {survey.tables[link.references].label}"
        for oid, link in survey.paths.through.items()
        if link.basis is Basis.NAMED and oid in survey.tables and link.references in survey.tables
    )
    if found:
        listed = "; ".join(found)
        yield f"without a foreign key, taken for the way to the tenant: {listed}; check that they are right"


def _tables(survey: Survey, named: Mapping[int, Sequence[Link]]) -> tuple[dict[str, Table], list[str]]:
    notes: list[str] = []
    nests = find_nests(survey)
    tables = {
        survey.keys[oid]: _table(table, survey, nests, named.get(oid, ()), notes)
        for oid, table in survey.tables.items()
    }
    return dict(sorted(tables.items())), notes


def _table(
    table: LiveTable,
    survey: Survey,
    nests: Nests,
    named: Sequence[Link],
    notes: list[str],
    tenant: TenantPath | None = None,
) -> Table:
    key = survey.keys[table.oid]
    linked = _linked(table, survey, named)
    columns = {name: _column(table, name, linked) for name in table.columns}
    offered = {name: table.columns[name] for name, column in columns.items() if column.exported}
    moment = time_column(offered.values())
    primary = table.primary_key or _referenced_key(table, survey)
    if any(not columns[name].exported for name in primary):
        notes.append(f"{table.label}: its primary key holds a credential and is left out")
        primary = ()
    names = relation_names(table, survey, named)
    deleted = deleted_column(offered)
    through = survey.paths.through.get(table.oid)
    column = survey.paths.columns.get(table.oid)
    if tenant is None:
        tenant = TenantPath(through=names[through]) if through else TenantPath(column=column)
    return Table(
        source=None if (table.schema, table.name) == (survey.schema, key) else f"{table.schema}.{table.name}",
        description=table.comment,
        primary_key=primary,
        tenant=tenant,
        time_column=moment.name if moment else None,
        deleted_column=deleted,
        alive_when=alive_when(offered[deleted]) if deleted else None,
        partition=Partition(grain=Grain.MONTH if moment and moment.not_null else Grain.NONE),
        columns=columns,
        relations=relations_of(table, survey, names, nests),
    )


def _referenced_key(table: LiveTable, survey: Survey) -> Key:
    """Of several unique keys, the one that most foreign keys refer to, and then the shortest."""
    counts = Counter(
        tuple(sorted(key.referenced_columns))
        for other in survey.tables.values()
        for key in other.foreign_keys
        if key.references == table.oid
    )
    return max(table.unique_keys, key=lambda key: counts[tuple(sorted(key))], default=())


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


def _tenant_root(
    connection: psycopg.Connection[Any], root: Root, tables: Sequence[LiveTable], paths: Paths
) -> TenantRoot:
    columns = root.table.columns
    label = next((name for name in _LABELS if name in columns and name != root.key), None)
    setting = application_setting(connection, tables, root, paths.columns)
    return TenantRoot(
        table=root.table.label,
        key=root.key,
        label=label,
        type=columns[root.key].type,
        **({"setting": setting} if setting else {}),
    )


def _root_notes(root: Root) -> list[str]:
    if not root.guessed:
        return []
    return [f"the tenant was taken to be {root.table.label} by {root.column}; name tenant_table if it is another"]


def _setting_notes(catalog: Catalog) -> Iterator[str]:
    if catalog.tenant.setting != TenantRoot.model_fields["setting"].default:
        yield f"policies of the application compare {catalog.tenant.setting}, so exports set it too (`tenant.setting`)"


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
