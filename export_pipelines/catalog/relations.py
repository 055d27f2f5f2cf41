"""Relations between the tables of a proposed catalog: what they are called, and which of them nest in JSON."""

from __future__ import annotations

from export_pipelines.catalog.inventory import LiveForeignKey, LiveTable
from export_pipelines.catalog.naming import relation_name, slug
from export_pipelines.catalog.survey import Survey
from export_pipelines.catalog.tenancy import nullable
from export_pipelines.core.catalog import Relation

Nests = dict[int, tuple[LiveForeignKey, str]]  # by child's oid: the foreign key, and the field in the parent's record


def relation_names(table: LiveTable, survey: Survey) -> dict[str, str]:
    """Names of the relations to exported tables, by the name of their constraint."""
    names: dict[str, str] = {}
    for foreign_key in sorted(table.foreign_keys, key=lambda key: (len(key.columns), key.columns, key.name)):
        if foreign_key.references in survey.tables:
            referenced = survey.keys[foreign_key.references]
            names[foreign_key.name] = relation_name(foreign_key.columns, referenced, taken=names.values())
    return names


def find_nests(survey: Survey) -> Nests:
    """For each child, the one foreign key along which its rows sit inside a parent's record.

    Never inside the tenant's record, never where a row could be without a parent, never in a circle.
    """
    nests: Nests = {}
    for oid, table in survey.tables.items():
        if oid == survey.root.table.oid:
            continue
        for foreign_key in _most_part_like(table, survey.paths.through.get(oid)):
            parent = foreign_key.references
            if parent in (oid, survey.root.table.oid) or parent not in survey.tables or nullable(table, foreign_key):
                continue
            if not _leads_to(parent, oid, nests):
                taken = {*survey.tables[parent].columns, *(f for key, f in nests.values() if key.references == parent)}
                nests[oid] = foreign_key, slug(survey.keys[oid], taken=taken)
                break
    return nests


def relations_of(table: LiveTable, survey: Survey, names: dict[str, str], nests: Nests) -> dict[str, Relation]:
    """The table's foreign keys to exported tables, by relation name, in order."""
    nest, nest_as = nests.get(table.oid, (None, None))
    relations = {
        names[foreign_key.name]: Relation(
            columns=foreign_key.columns,
            references=survey.keys[foreign_key.references],
            referenced_columns=foreign_key.referenced_columns,
            nest_as=nest_as if foreign_key is nest else None,
        )
        for foreign_key in table.foreign_keys
        if foreign_key.name in names
    }
    return dict(sorted(relations.items()))


def _most_part_like(table: LiveTable, through: LiveForeignKey | None) -> list[LiveForeignKey]:
    """A part of its parent first: its key extends the parent's, it goes when the parent goes, it is the tenant path."""
    return sorted(
        table.foreign_keys,
        key=lambda key: (
            not set(key.columns) < set(table.primary_key),
            not key.cascades,
            key is not through,
            key.columns,
        ),
    )


def _leads_to(start: int, goal: int, nests: Nests) -> bool:
    at = start
    while at != goal and at in nests:
        at = nests[at][0].references
    return at == goal
