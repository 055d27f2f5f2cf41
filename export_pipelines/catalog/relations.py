"""Relations between the tables of a proposed catalog: what they are called, and which of them nest in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from export_pipelines.catalog.inventory import LiveTable
from export_pipelines.catalog.links import Basis, Link, declared_links
from export_pipelines.catalog.naming import relation_name, slug
from export_pipelines.catalog.survey import Survey
from export_pipelines.core.catalog import Relation

Names = Mapping[Link, str]
Nests = dict[int, tuple[Link, str]]  # by child's oid: the foreign key, and the field in the parent's record


def relation_names(table: LiveTable, survey: Survey, named: Sequence[Link] = ()) -> Names:
    """Names of the table's relations: its foreign keys to exported tables, its path to the tenant, those by name."""
    names: dict[Link, str] = {}
    through = survey.paths.through.get(table.oid)
    for link in (*sorted(declared_links(table), key=_order), *([through] if through else []), *named):
        if link.references in survey.tables and link not in names:
            referenced = survey.keys[link.references]
            columns = () if link.basis is Basis.REVERSE else link.columns
            names[link] = relation_name(columns, referenced, taken=names.values())
    return names


def find_nests(survey: Survey) -> Nests:
    """For each child, the one foreign key along which its rows sit inside a parent's record.

    Never inside the tenant's record, never where a row could be without a parent, never in a circle.
    """
    nests: Nests = {}
    for oid, table in survey.tables.items():
        if oid == survey.root.table.oid:
            continue
        for link in _most_part_like(table, survey.paths.through.get(oid)):
            parent = link.references
            if parent in (oid, survey.root.table.oid) or parent not in survey.tables or link.optional:
                continue
            if not _leads_to(parent, oid, nests):
                taken = {*survey.tables[parent].columns, *(f for key, f in nests.values() if key.references == parent)}
                nests[oid] = link, slug(survey.keys[oid], taken=taken)
                break
    return nests


def relations_of(table: LiveTable, survey: Survey, names: Names, nests: Nests) -> dict[str, Relation]:
    """The table's relations by name, in order; whatever is not its own foreign key is virtual."""
    nest, nest_as = nests.get(table.oid, (None, None))
    relations = {
        name: Relation(
            columns=link.columns,
            references=survey.keys[link.references],
            referenced_columns=link.referenced_columns,
            nest_as=nest_as if link == nest else None,
            virtual=link.basis is not Basis.DECLARED,
        )
        for link, name in names.items()
    }
    return dict(sorted(relations.items()))


def _order(link: Link) -> tuple[int, tuple[str, ...]]:
    return len(link.columns), link.columns


def _most_part_like(table: LiveTable, through: Link | None) -> list[Link]:
    """A part of its parent first: its key extends the parent's, it goes when the parent goes, it is the tenant path."""
    return sorted(
        declared_links(table),
        key=lambda link: (
            not set(link.columns) < set(table.primary_key),
            not link.cascades,
            link != through,
            link.columns,
        ),
    )


def _leads_to(start: int, goal: int, nests: Nests) -> bool:
    at = start
    while at != goal and at in nests:
        at = nests[at][0].references
    return at == goal
