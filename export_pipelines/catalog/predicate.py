"""The condition "this row is the tenant's" as SQL, for policies.

One rule for all tables: a column equals the tenant, or a chain of relations leads to such a column. Where the
tenant's id comes from is the caller's choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.resolution import Comparison

TENANT_READ = "export_tenant_read"
TENANT_ONLY = "export_tenant_only"


def tenant_predicate(catalog: Catalog, name: str, tenant: sql.Composable) -> sql.Composed:
    """True for rows of the tenant whose id is the text expression ``tenant``; the table is named, not aliased.

    A path through relations becomes one EXISTS inside the other, from the table up to the tenant's column. The catalog
    is `resolved`; `RequestRejected` where a column is not in the database.
    """
    hops, row, name = _way(catalog, name)
    column = catalog.tables[name].tenant.column
    if column is None:
        raise ValueError(f"{name!r} is shared by all tenants and has no predicate")
    comparison = _known(catalog.resolution.owners.get(name), f"{name}.{column}")
    owned: sql.Composable = sql.SQL(comparison.form).format(_column(row, column), tenant)
    if catalog.tables[name].tenant.null_is_shared:  # by whoever is a tenant: a session without one sees nothing
        owned = sql.SQL("({} OR ({} IS NULL AND {} IS NOT NULL))").format(owned, _column(row, column), tenant)
    return sql.Composed([*hops, owned, sql.SQL(")" * len(hops))])


def mark_of(predicate: sql.Composed) -> str:
    """The comment of a policy with this predicate, by which a later look tells whether it is still the catalog's."""
    digest = hashlib.sha256(predicate.as_string(None).encode()).hexdigest()
    return f"Rows of one tenant, as the export catalog says: {digest}"


def is_plain(catalog: Catalog, name: str) -> bool:
    """Whether the predicate is what it was before policies had a mark: PostgreSQL's own operators and nothing else."""
    facts, route = catalog.resolution, catalog.tenant_route(name)
    owner = route[-1][1].references if route else name
    compared = [facts.owners.get(owner)]
    for table, relation in route:
        pairs = zip(relation.columns, relation.referenced_columns, strict=True)
        compared += [facts.joins.get((table, here, relation.references, there)) for here, there in pairs]
    return (
        not catalog.tables[owner].tenant.null_is_shared
        and not any(relation.references in facts.parents for _, relation in route)
        and not any(one and (one.schemas or one.column_cast or one.collation) for one in compared)
    )


def not_shared(catalog: Catalog, name: str) -> sql.Composed:
    """True but for rows that belong to every tenant because theirs is NULL; the table is named, not aliased."""
    if not catalog.null_is_shared(name):
        return sql.Composed([sql.SQL("TRUE")])
    hops, row, name = _way(catalog, name)
    unset = sql.SQL("{} IS NULL").format(_column(row, str(catalog.tables[name].tenant.column)))
    return sql.Composed([sql.SQL("NOT "), *hops, sql.SQL("({})").format(unset), sql.SQL(")" * len(hops))])


def current_tenant(catalog: Catalog) -> sql.Composed:
    """The session's tenant as text; NULL, which equals nothing, where it is unset or empty."""
    setting = sql.Literal(catalog.tenant.setting)
    return sql.SQL("NULLIF(pg_catalog.current_setting({}, true), '')").format(setting)


def _way(catalog: Catalog, name: str) -> tuple[list[sql.Composed], sql.Identifier, str]:
    """`_hops`, then the name in SQL and the catalog's of the table at the end, which has the tenant's column."""
    hops, route = list(_hops(catalog, name)), catalog.tenant_route(name)
    if not route:
        return hops, sql.Identifier(*catalog.relation_name(name)), name
    return hops, sql.Identifier(f"export_hop_{len(hops)}"), route[-1][1].references


def _hops(catalog: Catalog, name: str) -> Iterator[sql.Composed]:
    """The beginning of an EXISTS for each relation on the way to the tenant, each inside the one before."""
    row = sql.Identifier(*catalog.relation_name(name))
    for number, (table, relation) in enumerate(catalog.tenant_route(name), start=1):
        parent = sql.Identifier(f"export_hop_{number}")
        joined = sql.SQL(" AND ").join(
            sql.SQL(_join(catalog, table, here, relation.references, there).form).format(
                _column(row, here), _column(parent, there)
            )
            for here, there in zip(relation.columns, relation.referenced_columns, strict=True)
        )
        rows = rows_of(catalog, relation.references)
        yield sql.SQL("EXISTS (SELECT 1 FROM {} AS {} WHERE {} AND ").format(rows, parent, joined)
        row = parent


def _join(catalog: Catalog, table: str, here: str, referenced: str, there: str) -> Comparison:
    return _known(catalog.resolution.joins.get((table, here, referenced, there)), f"{table}.{here}")


def rows_of(catalog: Catalog, name: str) -> sql.Composable:
    """The table without those that inherit from it, whose rows are not its own."""
    only = sql.SQL("ONLY " if name in catalog.resolution.parents else "")
    return sql.Composed([only, sql.Identifier(*catalog.relation_name(name))])


def _column(row: sql.Identifier, column: str) -> sql.Composed:
    return sql.SQL("{}.{}").format(row, sql.Identifier(column))


def _known(comparison: Comparison | None, column: str) -> Comparison:
    if comparison is None:
        raise RequestRejected(
            f"{column}, or what it is compared with, is not in the database; run `export-pipelines catalog check`"
        )
    return comparison
