"""Decides which relations of a database are offered for export, and the reason for each of the others.

The decisions span tables; what is said about one table's columns is `reflect`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from export_pipelines.catalog.inventory import Kind, LiveColumn, LiveTable
from export_pipelines.catalog.links import Link
from export_pipelines.catalog.naming import slug
from export_pipelines.catalog.orphans import Orphans
from export_pipelines.catalog.sensitivity import classify, is_credential
from export_pipelines.catalog.tenancy import Paths, Root
from export_pipelines.core.catalog import Classification
from export_pipelines.core.errors import RequestRejected

UNREACHABLE = (
    "no path to the tenant; name its `tenant` (a column, through a virtual relation, or shared with a reason), then "
    "set `export: true`"
)
REFERENCE = "no path to the tenant; if its rows are the same for every tenant, set `export: true`"
_OWNERS = ("owner", "user", "tenant", "account", "customer")
_REFERENCES = ("_id", "_uuid", "_uid", "_guid")
_OWNERS_VIEW = (
    "the row-level security of its tables would not apply to the exporter; ALTER VIEW … SET (security_invoker = true)"
)
_WITHOUT_POLICIES = {
    Kind.MATERIALIZED: "materialized views cannot have row-level security; export the tables they are made of",
    Kind.FOREIGN: "foreign tables cannot have row-level security; export them where they live",
}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The inventory with every decision that spans tables."""

    schema: str
    tables: dict[int, LiveTable]  # that will be exported, by oid, in order
    keys: dict[int, str]  # catalog keys, also of the tables left out
    root: Root
    paths: Paths


def home_schema(everything: Iterable[LiveTable], schemas: Sequence[str] | None) -> str:
    """The schema whose tables are named without it: the first asked for, ``public``, or the fullest."""
    counts = Counter(table.schema for table in everything)
    if schemas:
        unknown = [schema for schema in schemas if schema not in counts]
        if unknown:
            there = ", ".join(sorted(counts)) or "none"
            raise RequestRejected(f"{unknown[0]!r} has no tables; schemas with tables: {there}", field="schemas")
        return schemas[0]
    if not counts:
        raise RequestRejected("the database has no tables that this role may see; connect to another one")
    return "public" if "public" in counts else min(counts, key=lambda schema: (-counts[schema], schema))


def usable_tables(tables: Iterable[LiveTable]) -> tuple[list[LiveTable], list[tuple[LiveTable, str]]]:
    """Tables and views that can be exported at all, and the others with the reason."""
    usable, unusable = [], []
    for table in tables:
        if table.extension is not None:
            unusable.append((table, f"belongs to the extension {table.extension}"))
        elif table.kind in _WITHOUT_POLICIES:
            unusable.append((table, _WITHOUT_POLICIES[table.kind]))
        elif "." in table.name or "." in table.schema:
            unusable.append((table, "a name with a dot cannot be written in the catalog; export a view of it"))
        elif not table.columns or all(is_credential(table.name, column) for column in table.columns.values()):
            unusable.append((table, "has no column that may be exported"))
        else:
            usable.append(table)
    return usable, unusable


def survey_tables(
    schema: str, usable: Iterable[LiveTable], root: Root, paths: Paths
) -> tuple[Survey, list[tuple[LiveTable, str]]]:
    """The tables to export with their catalog keys, and those left out with the reason."""
    usable, tables = list(usable), {}
    left_out = []
    for table in usable:
        if table.oid not in paths.columns and table.oid not in paths.through:
            left_out.append((table, UNREACHABLE))
        elif table.is_view and not table.security_invoker:
            left_out.append((table, _OWNERS_VIEW))
        else:
            tables[table.oid] = table
    keys: dict[int, str] = {}
    # Plain names of the home schema keep their name whatever else wants it.
    for table in sorted(usable, key=lambda t: (t.schema != schema, slug(t.name) != t.name, t.schema, t.name)):
        wanted = slug(table.name)
        if wanted in keys.values() and table.schema != schema:
            wanted = slug(f"{table.schema}_{table.name}")
        keys[table.oid] = slug(wanted, taken=keys.values())
    return Survey(schema=schema, tables=tables, keys=keys, root=root, paths=paths), left_out


def only_by_name(link: Link, orphans: Orphans | None) -> str:
    """Why a table is left out that the tenant reaches, if names are to be believed."""
    counted = f" ({orphans})" if orphans else ""
    return (
        f"no path to the tenant but one through {', '.join(link.columns)} that rests on names, not on foreign "
        f"keys{counted}; if it is right, set `export: true`"
    )


def why_unreachable(table: LiveTable, *, reference: bool) -> str:
    """Why a table is left out that nothing leads from to the tenant, and the step that takes it in."""
    pair = polymorphic_pair(table)
    if reference:
        return REFERENCE
    if pair is None:
        return UNREACHABLE
    return (
        f"its rows belong to records of several tables ({', '.join(pair)}), which no relation can follow; name a "
        "tenant column of its own, or export a view that has one"
    )


def polymorphic_pair(table: LiveTable) -> tuple[str, str] | None:
    """(column with the name of a table, column with its id) of rows that belong to records of several tables."""
    names = {slug(name): name for name in table.columns}
    for plain, name in names.items():
        base = plain.removesuffix("_type").removesuffix("_model").removesuffix("model")
        other = next((names[key] for key in (f"{base}_id", f"{base}res_id") if key in names), None)
        if base != plain and other is not None:
            return name, other
    return None


def reference_tables(tables: Sequence[LiveTable], links: Mapping[int, Sequence[Link]]) -> set[int]:
    """Oids of those that could be lists which are the same for everybody.

    They hold nothing delicate, refer to nothing but each other, belong to no record whose table differs by row, and no
    such row refers to them.
    """
    scattered = {table.oid for table in tables if polymorphic_pair(table)}
    scattered |= {link.references for oid in scattered for link in links.get(oid, ())}
    found = {
        table.oid
        for table in tables
        if table.oid not in scattered
        and not any(_delicate(table.name, column) for column in table.columns.values())
        and not _refers_to_others(table, links.get(table.oid, ()))
    }
    while True:
        referring = {
            oid for oid in found for link in links.get(oid, ()) if link.references not in found and not link.by_actor
        }
        if not referring:
            return found
        found -= referring


def _refers_to_others(table: LiveTable, links: Iterable[Link]) -> bool:
    """Whether a column looks like a reference, and nothing tells to what."""
    known = {column for link in links for column in link.columns} | {*table.primary_key}
    return any(
        name not in known
        and (slug(name) in _OWNERS or (slug(name).endswith(_REFERENCES) and slug(name) != "parent_id"))
        for name in table.columns
    )


def _delicate(table: str, column: LiveColumn) -> bool:
    return is_credential(table, column) or classify(table, column) is not Classification.INTERNAL


def excluded_key(table: LiveTable, schema: str) -> str:
    """How the catalog names a table that it does not export; `check` reads it the same way."""
    return table.name if table.schema == schema and "." not in table.name else table.label
