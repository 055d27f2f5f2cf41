"""Finds the tenant in a database we did not write: its table, the columns that name it, and the paths to them.

Works on the inventory alone. Turning the answer into a catalog is `reflect`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from export_pipelines.catalog.inventory import Kind, LiveForeignKey, LiveTable
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
)
_POSSIBLE = ("customer_id", "store_id")

Tables = Mapping[int, LiveTable]  # by oid


@dataclass(frozen=True, kw_only=True)
class Root:
    """The table of tenants and how others name it."""

    table: LiveTable
    key: str
    column: str  # what most tables call their reference to it
    guessed: bool


@dataclass(frozen=True, kw_only=True)
class Paths:
    """For each table, by oid: its own tenant column, or the foreign key that leads one step nearer to one."""

    columns: dict[int, str]
    through: dict[int, LiveForeignKey]
    notes: tuple[str, ...]


def find_root(tables: Tables, *, table: str | None, key: str | None, column: str | None) -> Root:
    """The tenant's table: named by the caller, or the one that most tables refer to under a usual name.

    Raises `RequestRejected` listing the candidates where that is not clear.
    """
    if table is not None:
        root, guessed = _named(tables, table), False
    else:
        root, column, guessed = *_guessed(tables, column), True
    common, referenced = _commonest(tables, root)
    key = key or referenced or (root.primary_key[0] if len(root.primary_key) == 1 else None)
    if key is None or key not in root.columns:
        listed = ", ".join(root.columns)
        raise RequestRejected(
            f"the tenant's key in {root.label} is not clear; name one of {listed}", field="tenant_key"
        )
    return Root(table=root, key=key, column=column or common or f"{root.name.removesuffix('s')}_{key}", guessed=guessed)


def find_paths(tables: Tables, root: Root) -> Paths:
    """How each table's rows belong to a tenant; tables that are in neither mapping cannot be reached."""
    notes: list[str] = []
    columns = {root.table.oid: root.key}
    for table in tables.values():
        if table.oid != root.table.oid:
            column = _own_column(table, root, notes)
            if column is not None:
                columns[table.oid] = column
    through = _nearest(tables, columns, notes)
    return Paths(columns=columns, through=through, notes=tuple(notes))


def nullable(table: LiveTable, foreign_key: LiveForeignKey) -> bool:
    """Whether a row may refer to nothing: one NULL among the columns is enough."""
    return not all(table.columns[name].not_null for name in foreign_key.columns)


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


def _guessed(tables: Tables, column: str | None) -> tuple[LiveTable, str]:
    """(table, column) that most other tables refer to by a column of the same usual name."""
    counts = Counter(
        (foreign_key.columns[0], foreign_key.references)
        for table in tables.values()
        for foreign_key in table.foreign_keys
        if len(foreign_key.columns) == 1 and foreign_key.references in tables and foreign_key.references != table.oid
    )
    for names in [(column,)] if column is not None else [_USUAL, _POSSIBLE]:
        found = {pair: count for pair, count in counts.items() if pair[0] in names}
        best = sorted(pair for pair, count in found.items() if count == max(found.values()))
        if len(best) == 1:
            return tables[best[0][1]], best[0][0]
        if best:
            listed = "; ".join(f"{tables[oid].label} by {name} ({counts[name, oid]} tables)" for name, oid in best)
            raise RequestRejected(f"several tables could be the tenant: {listed}; name it", field="tenant_table")
    raise RequestRejected(
        f"no foreign key is called {column or ' or '.join((*_USUAL, *_POSSIBLE))}, so the tenant is not clear; "
        "name its table, and tenant_column where tables refer to it without a foreign key",
        field="tenant_table",
    )


def _commonest(tables: Tables, root: LiveTable) -> tuple[str | None, str | None]:
    """(column, key it refers to) by which most other tables refer to the tenant; a usual name settles a tie."""
    counts = Counter(
        (foreign_key.columns[0], foreign_key.referenced_columns[0])
        for other in tables.values()
        for foreign_key in other.foreign_keys
        if foreign_key.references == root.oid and len(foreign_key.columns) == 1 and other.oid != root.oid
    )
    if not counts:
        return None, None
    return min(counts, key=lambda pair: (-counts[pair], pair[0] not in _USUAL + _POSSIBLE, pair))


def _own_column(table: LiveTable, root: Root, notes: list[str]) -> str | None:
    """The table's own tenant column: of the usual name, or else a foreign key to the tenant."""
    wanted = root.table.columns[root.key].type
    same_name = table.columns.get(root.column)
    elsewhere = {key.columns for key in table.foreign_keys if key.references != root.table.oid}
    if same_name is not None and (root.column,) not in elsewhere:
        if same_name.type == wanted:
            return _with_note(table, root.column, notes)
        notes.append(
            f"{table.label}.{root.column} is {same_name.type}, the tenant's key is {wanted}; not taken for the tenant"
        )
    keys = sorted(
        (nullable(table, foreign_key), foreign_key.columns[0])
        for foreign_key in table.foreign_keys
        if foreign_key.references == root.table.oid and foreign_key.referenced_columns == (root.key,)
    )
    if not keys:
        return None
    if len(keys) > 1:
        listed = ", ".join(column for _, column in keys)
        notes.append(f"{table.label} refers to the tenant by {listed}; took {keys[0][1]}, check that it is the owner")
    return _with_note(table, keys[0][1], notes)


def _with_note(table: LiveTable, column: str, notes: list[str]) -> str:
    if table.kind is not Kind.VIEW and not table.columns[column].not_null:
        notes.append(f"{table.label}.{column} may be NULL; such rows belong to no tenant and are never exported")
    return column


def _nearest(tables: Tables, columns: Iterable[int], notes: list[str]) -> dict[int, LiveForeignKey]:
    """For tables without a tenant column, the foreign key that starts the best path to one.

    Best is: the fewest steps that may be NULL, since those lose rows; then the fewest steps; then by name.
    """
    children: dict[int, list[tuple[LiveTable, LiveForeignKey]]] = {}
    for table in tables.values():
        for foreign_key in table.foreign_keys:
            children.setdefault(foreign_key.references, []).append((table, foreign_key))
    cost = dict.fromkeys(columns, (0, 0))
    queue = [(0, 0, tables[oid].label, oid) for oid in cost]
    heapq.heapify(queue)
    while queue:
        gaps, steps, _, oid = heapq.heappop(queue)
        if cost[oid] != (gaps, steps):
            continue
        for table, foreign_key in children.get(oid, []):
            price = (gaps + nullable(table, foreign_key), steps + 1)
            if table.oid not in cost or price < cost[table.oid]:
                cost[table.oid] = price
                heapq.heappush(queue, (*price, table.label, table.oid))
    own = set(columns)
    return {oid: _first_step(tables[oid], cost, notes) for oid in cost if oid not in own}


def _first_step(table: LiveTable, cost: Mapping[int, tuple[int, int]], notes: list[str]) -> LiveForeignKey:
    steps: Sequence[tuple[tuple[int, int], tuple[str, ...], LiveForeignKey]] = sorted(
        (
            ((gaps + nullable(table, key), hops + 1), key.columns, key)
            for key in table.foreign_keys
            if key.references in cost and key.references != table.oid
            for gaps, hops in [cost[key.references]]
        ),
        key=lambda step: step[:2],
    )
    price, _, best = steps[0]
    rivals = [", ".join(columns) for other, columns, _ in steps if other == price]
    if len(rivals) > 1:
        taken = ", ".join(best.columns)
        notes.append(
            f"{table.label} reaches the tenant through {'; '.join(rivals)}; took {taken}, check that they agree"
        )
    if price[0]:
        notes.append(
            f"{table.label} reaches the tenant through a column that may be NULL; such rows are never exported"
        )
    return best
