"""How a row of one table leads to one row of another: a foreign key, read either way, or what the names suggest.

Which of them lead to the tenant is `tenancy`; what they are called in the catalog is `relations`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from export_pipelines.catalog.inventory import Key, Kind, LiveColumn, LiveForeignKey, LiveTable
from export_pipelines.catalog.naming import noun_stem, slug
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

    ``project_id``, ``projectId`` or ``project_uuid`` mean the key of ``project`` or ``projects``, if there is one such
    table, its column is unique and NOT NULL, and the types agree. Not where a ``project_type`` beside it says that the
    table differs from row to row.
    """
    places: dict[tuple[str, str], list[LiveTable]] = {}
    for table in tables.values():
        if table.kind in _STORED:
            places.setdefault((table.schema, noun_stem(slug(table.name))), []).append(table)
    found = {table.oid: list(_named(table, places)) for table in tables.values() if table.kind in _STORED}
    return {oid: links for oid, links in found.items() if links}


_STORED = (Kind.TABLE, Kind.PARTITIONED)
_ENDINGS = ("id", "uuid", "guid")


def _named(table: LiveTable, places: Mapping[tuple[str, str], list[LiveTable]]) -> Iterator[Link]:
    names = {slug(name) for name in table.columns}
    declared = {column for key in table.foreign_keys for column in key.columns}
    for column in table.columns.values():
        base, _, ending = slug(column.name).rpartition("_")
        if not base or ending not in _ENDINGS or f"{base}_type" in names or column.name in declared:
            continue
        target = _target(table, noun_stem(base), places)
        key = None if target is None or target.oid == table.oid else _key(target, column, ending)
        if target is not None and key is not None:
            yield Link(
                columns=(column.name,),
                references=target.oid,
                referenced_columns=(key,),
                basis=Basis.NAMED,
                optional=not column.not_null,
            )


def _target(table: LiveTable, base: str, places: Mapping[tuple[str, str], list[LiveTable]]) -> LiveTable | None:
    """The one table of that name: in the same schema, there with the same prefix (Django's app), or in another one."""
    prefix = f"{slug(table.name).partition('_')[0]}_"
    in_others = [found for (schema, name), found in places.items() if name == base and schema != table.schema]
    for found in (
        places.get((table.schema, base), []),
        places.get((table.schema, prefix + base), []),
        [other for group in in_others for other in group],
    ):
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _key(target: LiveTable, column: LiveColumn, ending: str) -> str | None:
    """The target's unique column that is called after the reference, and is of its type."""
    wanted = (ending, slug(column.name))
    for name, other in target.columns.items():
        if slug(name) in wanted and (name,) in target.unique_keys and _comparable(column, other):
            return name
    return None


def _comparable(one: LiveColumn, other: LiveColumn) -> bool:
    kinds = {value_type(column.type).kind for column in (one, other)}
    return base_type(one.type) == base_type(other.type) or kinds == {ValueKind.INTEGER}


def _nullable(table: LiveTable, key: LiveForeignKey) -> bool:
    """Whether a row may refer to nothing: one NULL among the columns is enough."""
    return not all(table.columns[name].not_null for name in key.columns)
