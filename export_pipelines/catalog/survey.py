"""Decides which relations of a database are offered for export, and the reason for each of the others.

The decisions span tables; what is said about one table's columns is `reflect`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from export_pipelines.catalog.inventory import Kind, LiveTable
from export_pipelines.catalog.links import Link
from export_pipelines.catalog.naming import slug
from export_pipelines.catalog.sensitivity import is_credential
from export_pipelines.catalog.tenancy import Paths, Root
from export_pipelines.core.errors import RequestRejected

UNREACHABLE = (
    "no path to the tenant; add `tenant: {shared: reason}` if it is reference data the same for all, "
    "or a virtual relation"
)
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
    keys: dict[int, str]  # their catalog keys
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
    tables: dict[int, LiveTable] = {}
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
    for table in sorted(tables.values(), key=lambda t: (t.schema != schema, slug(t.name) != t.name, t.schema, t.name)):
        wanted = slug(table.name)
        if wanted in keys.values() and table.schema != schema:
            wanted = slug(f"{table.schema}_{table.name}")
        keys[table.oid] = slug(wanted, taken=keys.values())
    return Survey(schema=schema, tables=tables, keys=keys, root=root, paths=paths), left_out


def only_by_name(link: Link) -> str:
    """Why a table is left out that the tenant reaches, if names are to be believed."""
    return (
        f"no path to the tenant but one through {', '.join(link.columns)} that rests on names, not on foreign keys; if "
        "it is right, delete this line and the # of the table above, or run `catalog init --follow-names`"
    )


def excluded_key(table: LiveTable, schema: str) -> str:
    """How the catalog names a table that it does not export; `check` reads it the same way."""
    return table.name if table.schema == schema and "." not in table.name else table.label
