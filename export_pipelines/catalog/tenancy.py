"""Finds the tenant in a database we did not write: its table, the columns that name it, and the paths to them.

Works on the inventory alone. Turning the answer into a catalog is `reflect`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from export_pipelines.catalog.inventory import Kind, LiveTable
from export_pipelines.catalog.links import Basis, Link, Tables, comparable, declared_links, reverse_links
from export_pipelines.catalog.naming import spelled_plainly
from export_pipelines.core.errors import RequestRejected

# Names under which applications usually keep a tenant; a customer or a store is one only where nothing else is.
_USUAL = (
    "tenant_id",
    "organisation_id",
    "organization_id",
    "org_id",
    "workspace_id",
    "account_id",
    "clinic_id",
    "company_id",
    "team_id",
    "firm_id",
    "practice_id",
    "school_id",
)
_POSSIBLE = ("customer_id", "client_id", "store_id", "shop_id", "site_id", "group_id", "project_id")
_CANDIDATES = 5  # tables that are named where the tenant is not clear

Links = Mapping[int, Sequence[Link]]  # by oid of the table they start from
# Of a path, the worst first: links that only names suggest, that lead to who did something, that may be NULL, that are
# read backwards, that rows but no constraint bear out; all links.
Price = tuple[int, int, int, int, int, int]
_NO_GAPS = (0, 0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Root:
    """The table of tenants and how others name it."""

    table: LiveTable
    key: str
    column: str  # what most tables call their reference to it
    guessed: bool
    column_named: bool  # by the caller, who wants no other path where a table has it


@dataclass(frozen=True, kw_only=True)
class Paths:
    """For each table, by oid: its own tenant column, or the link that leads one step nearer to one."""

    columns: dict[int, str]
    through: dict[int, Link]
    notes: tuple[str, ...]


def find_root(
    tables: Tables, *, table: str | None, key: str | None, column: str | None, named: Links | None = None
) -> Root:
    """The tenant's table: named by the caller, or the one that most tables refer to under a usual name.

    ``named`` are links without a constraint, which count as well.

    Raises `RequestRejected` listing the candidates where that is not clear.
    """
    column_named = column is not None
    if table is not None:
        root, guessed = _named(tables, table), False
    else:
        root, column, guessed = *_guessed(tables, column, named or {}), True
    common, referenced = _commonest(tables, root, named or {})
    key = key or referenced or (root.primary_key[0] if len(root.primary_key) == 1 else None)
    if key is None or key not in root.columns:
        listed = ", ".join(root.columns)
        raise RequestRejected(
            f"the tenant's key in {root.label} is not clear; name one of {listed}", field="tenant_key"
        )
    column = column or common or f"{root.name.removesuffix('s')}_{key}"
    return Root(table=root, key=key, column=column, guessed=guessed, column_named=column_named)


def find_paths(tables: Tables, root: Root, *, named: Links | None = None) -> Paths:
    """How each table's rows belong to a tenant; tables that are in neither mapping cannot be reached.

    ``named`` are links without a constraint that may be followed all the same.
    """
    notes: list[str] = []
    columns = {root.table.oid: root.key}
    for table in tables.values():
        if table.oid != root.table.oid:
            column = _own_column(table, root, notes)
            if column is not None:
                columns[table.oid] = column
    gaps = {oid for oid, column in columns.items() if _may_be_null(tables[oid], column)}
    replaceable = set() if root.column_named else gaps - {root.table.oid}
    links = _all_links(tables, named or {})
    through = _nearest(tables, {oid: (0, 0, int(oid in gaps), 0, 0, 0) for oid in columns}, replaceable, links, notes)
    notes.extend(_gap(tables[oid], column, through.get(oid), tables) for oid, column in columns.items() if oid in gaps)
    columns = {oid: column for oid, column in columns.items() if oid not in through}
    return Paths(columns=columns, through=through, notes=tuple(notes))


def _may_be_null(table: LiveTable, column: str) -> bool:
    """Nothing is known of a view's columns, so they are believed."""
    return table.kind is not Kind.VIEW and not table.columns[column].not_null


def _gap(table: LiveTable, column: str, instead: Link | None, tables: Tables) -> str:
    if instead is not None:
        return f"{table.label}.{column} may be NULL; took the path through {_spelled(instead, tables)}, which may not"
    return f"{table.label}.{column} may be NULL; such rows belong to no tenant and are never exported"


def _named(tables: Tables, name: str) -> LiveTable:
    found = [table for table in tables.values() if name in (table.label, table.name)]
    if len(found) == 1:
        return found[0]
    if found:
        labels = ", ".join(table.label for table in found)
        raise RequestRejected(
            f"{name!r} is the name of several tables: {labels}; write one of them", field="tenant_table"
        )
    labels = ", ".join(sorted(table.label for table in tables.values())[:20]) or "none"
    raise RequestRejected(f"{name!r} is not a table of this database; there are: {labels}", field="tenant_table")


def _references(tables: Tables, named: Links) -> Counter[tuple[str, int, str]]:
    """How many tables refer to another one: by (column, oid of the other, its column), each by one column alone."""
    return Counter(
        (link.columns[-1], link.references, link.referenced_columns[-1])
        for table in tables.values()
        for link in (*declared_links(table), *named.get(table.oid, ()))
        if len(link.columns) == 1 and link.references in tables and link.references != table.oid
    )


def _guessed(tables: Tables, column: str | None, named: Links) -> tuple[LiveTable, str]:
    """(table, column) that most other tables refer to by a column of the same usual name, in any spelling."""
    found = _references(tables, named)
    spellings: dict[tuple[str, int], Counter[str]] = {}
    for (name, oid, _), count in found.items():
        spellings.setdefault((spelled_plainly(name), oid), Counter())[name] += count
    for names in [(column,)] if column is not None else [_USUAL, _POSSIBLE]:
        plain = {spelled_plainly(name) for name in names}
        counts = {place: spelled.total() for place, spelled in spellings.items() if place[0] in plain}
        best = [place for place, count in counts.items() if count == max(counts.values())]
        usual = {place: min(spellings[place], key=lambda n, p=place: (-spellings[p][n], n)) for place in best}  # type: ignore[misc]
        if len(best) == 1:
            return tables[best[0][1]], usual[best[0]]
        if best:
            listed = "; ".join(
                sorted(f"{tables[place[1]].label} by {usual[place]} ({counts[place]} tables)" for place in best)
            )
            raise RequestRejected(f"several tables could be the tenant: {listed}; name it", field="tenant_table")
    raise RequestRejected(
        f"no column that refers to another table is called {column or ' or '.join((*_USUAL, *_POSSIBLE))}, "
        f"so the tenant is not clear; {_most_referenced(tables, found)}"
        "name its table, and tenant_column where tables refer to it by another name",
        field="tenant_table",
    )


def _most_referenced(tables: Tables, found: Counter[tuple[str, int, str]]) -> str:
    """The tables that could be the tenant's, as words."""
    counts: Counter[int] = Counter()
    for (_, oid, _), count in found.items():
        counts[oid] += count
    if not counts:
        return ""
    order = sorted(counts, key=lambda oid: (-counts[oid], tables[oid].label))[:_CANDIDATES]
    return f"most referred to are {', '.join(f'{tables[oid].label} ({counts[oid]} times)' for oid in order)}; "


def _commonest(tables: Tables, root: LiveTable, named: Links) -> tuple[str | None, str | None]:
    """(column, key it refers to) by which most other tables refer to the tenant; a usual name settles a tie."""
    usual = {spelled_plainly(name) for name in _USUAL + _POSSIBLE}
    for links in ({}, named):  # constraints first
        counts: Counter[tuple[str, str]] = Counter()
        for (column, oid, key), count in _references(tables, links).items():
            if oid == root.oid:
                counts[column, key] += count
        if counts:
            return min(counts, key=lambda pair: (-counts[pair], spelled_plainly(pair[0]) not in usual, pair))
    return None, None


def _own_column(table: LiveTable, root: Root, notes: list[str]) -> str | None:
    """The table's own tenant column: of the usual name, or else a foreign key to the tenant."""
    key = root.table.columns[root.key]
    same_name = table.columns.get(root.column) or next(
        (column for name, column in table.columns.items() if spelled_plainly(name) == spelled_plainly(root.column)),
        None,
    )
    elsewhere = {foreign.columns for foreign in table.foreign_keys if foreign.references != root.table.oid}
    if same_name is not None and (same_name.name,) not in elsewhere:
        if comparable(same_name, key):
            return same_name.name
        notes.append(
            f"{table.label}.{same_name.name} is {same_name.type}, the tenant's key is {key.type}; "
            "not taken for the tenant"
        )
    keys = sorted(
        (link.optional, link.columns[0])
        for link in declared_links(table)
        if link.references == root.table.oid and link.referenced_columns == (root.key,)
    )
    if not keys:
        return None
    if len(keys) > 1:
        listed = ", ".join(column for _, column in keys)
        notes.append(f"{table.label} refers to the tenant by {listed}; took {keys[0][1]}, check that it is the owner")
    return keys[0][1]


def _all_links(tables: Tables, named: Links) -> dict[int, list[Link]]:
    """Every link between two different tables of these."""
    backwards = reverse_links(tables)
    return {
        oid: [
            link
            for link in (*declared_links(table), *backwards.get(oid, ()), *named.get(oid, ()))
            if link.references in tables and link.references != oid
        ]
        for oid, table in tables.items()
    }


def _nearest(
    tables: Tables, own: Mapping[int, Price], replaceable: set[int], links: Links, notes: list[str]
) -> dict[int, Link]:
    """For tables without a tenant column, the link that starts the best path to one.

    ``own`` are the tables with one; those ``replaceable`` get a path all the same if it has no gaps.

    Best is: the fewest links that names alone suggest; then the fewest to who did something with the row, none of which
    may be NULL; then the fewest that may be NULL, since those lose rows; then the fewest that are read backwards,
    since nothing makes every row have one; then the fewest without a constraint; then the fewest links; then by name.
    """
    arriving: dict[int, list[tuple[int, Link]]] = {}
    for oid, leaving in links.items():
        for link in leaving:
            arriving.setdefault(link.references, []).append((oid, link))
    cost = dict(own)
    queue = [(price, tables[oid].label, oid) for oid, price in cost.items()]
    heapq.heapify(queue)
    while queue:
        price, _, oid = heapq.heappop(queue)
        if cost[oid] != price:
            continue
        for start, link in arriving.get(oid, []):
            if link.by_actor and link.optional:
                continue
            longer = _price(link, price)
            if start in own and (start not in replaceable or longer[:5] != _NO_GAPS):
                continue
            if start not in cost or longer < cost[start]:
                cost[start] = longer
                heapq.heappush(queue, (longer, tables[start].label, start))
    reached = [oid for oid, price in cost.items() if own.get(oid) != price]
    return {oid: _first_link(tables, tables[oid], links[oid], cost, notes) for oid in reached}


def _price(link: Link, rest: Price) -> Price:
    guessed, by_actor, optional, reverse, named, length = rest
    return (
        guessed + link.guessed,
        by_actor + link.by_actor,
        optional + link.optional,
        reverse + (link.basis is Basis.REVERSE),
        named + (link.basis is Basis.NAMED),
        length + 1,
    )


def _first_link(
    tables: Tables, table: LiveTable, links: Iterable[Link], cost: Mapping[int, Price], notes: list[str]
) -> Link:
    steps = sorted(
        (
            (_price(link, cost[link.references]), _spelled(link, tables), link)
            for link in links
            if link.references in cost and not (link.by_actor and link.optional)
        ),
        key=lambda step: step[:2],
    )
    price, taken, best = steps[0]
    rivals = [spelled for other, spelled, _ in steps if other == price]
    if len(rivals) > 1:
        notes.append(
            f"{table.label} reaches the tenant through {'; '.join(rivals)}; took {taken}, check that they agree"
        )
    if price[1]:
        notes.append(
            f"{table.label} reaches the tenant only by who did something with the row (by way of {taken}); check that "
            "everybody who may belongs to the tenant of the row"
        )
    if price[2] and not price[0]:
        notes.append(
            f"{table.label} reaches the tenant only through a column that may be NULL (by way of {taken}); "
            "such rows are never exported"
        )
    if best.basis is Basis.REVERSE:
        notes.append(
            f"{table.label} reaches the tenant as the row that {taken} refers to; "
            "rows that nothing refers to are never exported"
        )
    return best


def _spelled(link: Link, tables: Tables) -> str:
    if link.basis is Basis.REVERSE:
        return f"{tables[link.references].label} ({', '.join(link.referenced_columns)})"
    return ", ".join(link.columns)
