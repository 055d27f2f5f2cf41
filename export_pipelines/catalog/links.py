"""How a row of one table leads to one row of another: a foreign key, read either way, or what the names suggest.

Which of them lead to the tenant is `tenancy`; what they are called in the catalog is `relations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from export_pipelines.catalog.inventory import Key, Kind, LiveColumn, LiveForeignKey, LiveTable
from export_pipelines.catalog.naming import names_an_actor, noun_stem, slug
from export_pipelines.core.types import Kind as ValueKind
from export_pipelines.core.types import base_type, value_type

Tables = Mapping[int, LiveTable]  # by oid


class Basis(IntEnum):
    """What a link rests on."""

    DECLARED = 0  # the row's own foreign key
    REVERSE = 1  # the other row's foreign key, which is unique, so that at most one row refers to this one
    NAMED = 2  # no constraint; the column is called as a foreign key would be


@dataclass(frozen=True, kw_only=True)
class Link:
    """From the rows of a table to at most one row of another each; the columns of both are in the same order."""

    columns: Key
    references: int  # oid of the other table
    referenced_columns: Key
    basis: Basis
    optional: bool  # a column of the referring side may be NULL
    cascades: bool = False  # rows vanish with the row they refer to
    proven: bool = True  # by a constraint, or by the rows there are (`orphans`)

    @property
    def guessed(self) -> bool:
        """Whether nothing but names speaks for it."""
        return self.basis is Basis.NAMED and not self.proven

    @property
    def by_actor(self) -> bool:
        """Whether it leads to who did something with the row, and not to what the row is a part of."""
        return self.basis is not Basis.REVERSE and names_an_actor(self.columns[-1])


def declared_links(table: LiveTable) -> list[Link]:
    """The table's foreign keys."""
    return [
        Link(
            columns=key.columns,
            references=key.references,
            referenced_columns=key.referenced_columns,
            basis=Basis.DECLARED,
            optional=_nullable(table, key),
            cascades=key.cascades,
        )
        for key in table.foreign_keys
    ]


def reverse_links(tables: Tables) -> dict[int, list[Link]]:
    """By oid of the table referred to: the unique foreign keys of others, read backwards.

    A foreign key that is not unique is none: several tenants could refer to one row.
    """
    links: dict[int, list[Link]] = {}
    for table in tables.values():
        for key in table.foreign_keys:
            if key.references != table.oid and any(set(unique) <= set(key.columns) for unique in table.distinct_keys):
                link = Link(
                    columns=key.referenced_columns,
                    references=table.oid,
                    referenced_columns=key.columns,
                    basis=Basis.REVERSE,
                    optional=_nullable(table, key),
                )
                links.setdefault(key.references, []).append(link)
    return links


def named_links(tables: Tables) -> dict[int, list[Link]]:
    """By oid: links that Rails, Django, Laravel and Prisma would mean by the name of a column without a foreign key.

    ``project_id``, ``projectId``, ``projectid`` or ``project_uuid`` mean the key of ``project`` or ``projects``, if
    there is one such table, its column is unique and NOT NULL, and the types agree; ``billing_address_id`` means
    ``addresses`` where there are no ``billing_addresses``.
    Where the id is unique only together with columns that both tables have, such as the tenant's, the link has those as
    well. Not where a ``project_type`` beside it says that the table differs from row to row.
    """
    places: dict[tuple[str, str], list[LiveTable]] = {}
    for table in tables.values():
        if table.kind in _STORED:
            places.setdefault((table.schema, noun_stem(slug(table.name))), []).append(table)
    found = {table.oid: list(_named(table, places)) for table in tables.values() if table.kind in _STORED}
    return {oid: links for oid, links in found.items() if links}


_STORED = (Kind.TABLE, Kind.PARTITIONED)
_ENDINGS = ("uuid", "guid", "id")
_TEXTS = {"text", "character varying"}
# First words of names that mean a row of another system.
_ELSEWHERE = (
    "external",
    "ext",
    "remote",
    "foreign",
    "legacy",
    "old",
    "original",
    "source",
    "provider",
    "third",
    "stripe",
)
_Places = Mapping[tuple[str, str], list[LiveTable]]  # by schema and stem of the name


def _named(table: LiveTable, places: _Places) -> Iterator[Link]:
    names = {slug(name) for name in table.columns}
    declared = {column for key in table.foreign_keys for column in key.columns}
    for column in table.columns.values():
        base, ending = _split(slug(column.name))
        if not base or f"{base}_type" in names or column.name in declared:
            continue
        target = _target(table, base, places)
        pairs = () if target is None or target.oid == table.oid else _pairs(table, target, column, ending)
        if target is not None and pairs:
            yield Link(
                columns=tuple(here for here, _ in pairs),
                references=target.oid,
                referenced_columns=tuple(there for _, there in pairs),
                basis=Basis.NAMED,
                optional=any(not table.columns[here].not_null for here, _ in pairs),
                proven=False,
            )


def _split(name: str) -> tuple[str, str]:
    """``project_id`` → project, id; ``projectid`` too; ("", "") for a name that is no reference."""
    base, _, ending = name.rpartition("_")
    if ending in _ENDINGS:
        return base, ending
    found = next((ending for ending in _ENDINGS if name.endswith(ending)), "")
    return (name.removesuffix(found), found) if found and "_" not in name else ("", "")


def _target(table: LiveTable, base: str, places: _Places) -> LiveTable | None:
    """The one table of that name, or of the name without its first words, which say what the row is to this one."""
    words = base.split("_")
    for first in range(len(words) if words[0] not in _ELSEWHERE else 1):
        found = _of_name(table, noun_stem("_".join(words[first:])), places)
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _of_name(table: LiveTable, base: str, places: _Places) -> list[LiveTable]:
    """In the same schema, there with the same prefix (Django's app), or in another one."""
    prefix = f"{slug(table.name).partition('_')[0]}_"
    in_others = [found for (schema, name), found in places.items() if name == base and schema != table.schema]
    return (
        places.get((table.schema, base), [])
        or places.get((table.schema, prefix + base), [])
        or [other for group in in_others for other in group]
    )


def _pairs(table: LiveTable, target: LiveTable, column: LiveColumn, ending: str) -> tuple[tuple[str, str], ...]:
    """(column, the target's) that make the reference: its id, and what else its shortest key has, called the same."""
    for key in target.unique_keys:
        own = [
            name
            for name in key
            if slug(name) in (ending, slug(column.name)) and comparable(column, target.columns[name])
        ]
        others = [name for name in key if name not in own]
        if len(own) == 1 and all(_shares(table, target, name) for name in others):
            return (*((name, name) for name in others), (column.name, own[0]))
    return ()


def _shares(table: LiveTable, target: LiveTable, name: str) -> bool:
    return name in table.columns and comparable(table.columns[name], target.columns[name])


def comparable(one: LiveColumn, other: LiveColumn) -> bool:
    """Whether values of one could be meant to be those of the other: the same type, integers, or texts."""
    kinds = {value_type(column.type).kind for column in (one, other)}
    bases = {base_type(one.type), base_type(other.type)}
    return len(bases) == 1 or kinds == {ValueKind.INTEGER} or bases == _TEXTS


def _nullable(table: LiveTable, key: LiveForeignKey) -> bool:
    """Whether a row may refer to nothing: one NULL among the columns is enough."""
    return not all(table.columns[name].not_null for name in key.columns)
