"""Counts the rows on which the catalog's paths to the tenant fail: those that reach none, several, or another one.

Policies and foreign keys tell what is possible, only the rows tell what is. Counting needs a role that sees all rows,
so it is a part of `catalog check` and not of an export.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.findings import Finding, error, warning
from export_pipelines.catalog.inventory import LiveForeignKey, LiveTable
from export_pipelines.core.catalog import Catalog, Relation

TIMEOUT_SECONDS = 30  # for one count, unless it has to be exact
SAMPLED_ROWS = 1_000_000  # of a table that is estimated larger, unless the count has to be exact

Place = tuple[str, str]  # (schema, name) in PostgreSQL
Live = Mapping[Place, LiveTable]

_ROW = "t0"
# Where operators of types that an extension brought are found; `pg_catalog` comes first for all others.
_PATH = """
SELECT set_config('search_path', (
    SELECT string_agg(quote_ident(nspname), ', ' ORDER BY nspname <> 'pg_catalog', nspname)
    FROM (SELECT 'pg_catalog' AS nspname UNION
          SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace) AS places
), true)
"""


@dataclass(frozen=True, kw_only=True)
class Path:
    """Relations to follow from a table, and the column with the tenant where they end."""

    table: str
    hops: tuple[Relation, ...]
    column: str

    @property
    def owner(self) -> str:
        return self.hops[-1].references if self.hops else self.table

    def __str__(self) -> str:
        return " → ".join([*(hop.references for hop in self.hops), self.column])


def check_reach(
    connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str], live: Live, *, exact: bool = False
) -> list[Finding]:
    """Findings with counts of rows: of no tenant, of several, of another one by another path.

    Tables estimated at over `SAMPLED_ROWS` rows are sampled unless ``exact``. Changes nothing. What the role may not
    see is said, not guessed.
    """
    counter = _Counter(connection, catalog, live, exact=exact)
    findings: list[Finding] = []
    with connection.transaction(force_rollback=True):
        connection.execute(_PATH)
        connection.execute("SET LOCAL row_security = off")  # an error rather than a smaller number
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(0 if exact else _timeout())))
        for name in tables:
            if catalog.tables[name].tenant.shared is None:
                findings.extend(counter.check(name))
    return [*findings, *counter.remarks()]


def main_path(catalog: Catalog, name: str) -> Path:
    """The path that the catalog declares for a table that is not shared."""
    hops = tuple(relation for _, relation in catalog.tenant_route(name))
    owner = hops[-1].references if hops else name
    return Path(table=name, hops=hops, column=str(catalog.tables[owner].tenant.column))


def other_paths(catalog: Catalog, name: str) -> Iterator[Path]:
    """What the other relations of the table would make of its tenant."""
    table = catalog.tables[name]
    for key, relation in table.relations.items():
        target = catalog.tables[relation.references].tenant
        if key == table.tenant.through or target.shared is not None:
            continue
        onward = main_path(catalog, relation.references)
        if name in (hop.references for hop in onward.hops):  # leads back to the row that it came from
            continue
        pairs = set(zip(relation.columns, relation.referenced_columns, strict=True))
        if (table.tenant.column, target.column) in pairs:  # the relation itself says that both are the same
            continue
        yield Path(table=name, hops=(relation, *onward.hops), column=onward.column)


class _Counter:
    """Counts rows of one catalog's tables and remembers which it could not count."""

    def __init__(self, connection: psycopg.Connection[Any], catalog: Catalog, live: Live, *, exact: bool) -> None:
        self._connection = connection
        self._catalog = catalog
        self._live = live
        self._exact = exact
        self._sampled: list[str] = []
        self._hidden: list[str] = []

    def check(self, name: str) -> Iterator[Finding]:
        path = main_path(self._catalog, name)
        try:
            with self._connection.transaction():
                rows = self._estimate(name)
                if not self._exact and rows > SAMPLED_ROWS:
                    self._sampled.append(name)
                yield from self._unreached(path, rows)
                yield from self._ambiguous(path, rows)
                for other in other_paths(self._catalog, name):
                    yield from self._disagreeing(path, other, rows)
        except errors.InsufficientPrivilege:
            self._hidden.append(name)
        except errors.QueryCanceled:
            step = "create indexes on the columns of its paths to the tenant, or use --exact, which waits"
            yield warning(f"its rows could not be counted within {TIMEOUT_SECONDS} s", step, table=name)
        except psycopg.DatabaseError as problem:
            reason = problem.diag.message_primary if (problem.sqlstate or "").startswith("42") else problem.sqlstate
            yield warning(f"its rows could not be counted: {reason}", "see the other findings", table=name)

    def remarks(self) -> Iterator[Finding]:
        if self._sampled:
            listed = ", ".join(self._sampled)
            message = f"rows were counted in samples of about {SAMPLED_ROWS:,} rows: {listed}"
            yield warning(message, "use --exact to count all of them")
        if self._hidden:
            listed = ", ".join(self._hidden)
            message = (
                f"rows outside every tenant could not be counted in {listed}: "
                f"role {self._connection.info.user!r} may not see all their rows"
            )
            yield warning(message, "name a role that may with --admin-url (EXPORT_ADMIN_URL)")

    def _unreached(self, path: Path, rows: float) -> Iterator[Finding]:
        if self._proved(path):
            return
        count = self._count(path.table, rows, sql.SQL("NOT {}").format(self._reaches(path)))
        if count:
            message = f"{self._of(count, path.table, rows)} belong to no tenant by {path}, and are in no export"
            step = "give them a tenant, choose another path, or declare the table shared if it is the same for all"
            if self._catalog.tables[path.table].tenant.column is not None:
                step += "; if only they are, set `null_is_shared: true`"
            yield warning(message, step, table=path.table)

    def _ambiguous(self, path: Path, rows: float) -> Iterator[Finding]:
        """Only a virtual relation can lead to several rows."""
        if all(self._unique(hop) for hop in path.hops):
            return
        count = self._count(path.table, rows, self._differ(path, path))
        if count:
            message = f"{self._of(count, path.table, rows)} belong to several tenants by {path}"
            step = "make the referenced columns of the virtual relation unique, or choose another path"
            yield error(message, step, table=path.table)
        else:
            message = f"nothing makes a row belong to one tenant only by {path}"
            step = "add a UNIQUE constraint to the referenced columns of its virtual relation"
            yield warning(message, step, table=path.table)

    def _disagreeing(self, path: Path, other: Path, rows: float) -> Iterator[Finding]:
        count = self._count(path.table, rows, self._differ(path, other))
        if count:
            message = f"{self._of(count, path.table, rows)} have another tenant by {other} than by {path}"
            step = "check which one owns them; set the table's tenant to that path, or correct the rows"
            yield warning(message, step, table=path.table)

    def _count(self, table: str, rows: float, condition: sql.Composable) -> int:
        query = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(self._source(table, rows), condition)
        (count,) = self._one(query)
        return int(count)

    def _of(self, count: int, table: str, rows: float) -> str:
        """``3 of 20 rows``; of a sample, where it is one."""
        (total,) = self._one(sql.SQL("SELECT count(*) FROM {}").format(self._source(table, rows)))
        sampled = f" of a sample of about {rows:,.0f}" if table in self._sampled else ""
        return f"{count:,} of {total:,} rows{sampled}"

    def _source(self, table: str, rows: float) -> sql.Composed:
        place = self._place(table)
        if table not in self._sampled:
            return sql.SQL("{} AS {}").format(place, sql.Identifier(_ROW))
        live = self._live.get(self._catalog.relation_name(table))
        if live is None or live.is_view:
            sample = sql.SQL("SELECT * FROM {} LIMIT {}").format(place, sql.Literal(SAMPLED_ROWS))
        else:
            share = sql.Literal(100 * SAMPLED_ROWS / rows)
            sample = sql.SQL("SELECT * FROM {} TABLESAMPLE SYSTEM ({}) REPEATABLE (0)").format(place, share)
        return sql.SQL("({}) AS {}").format(sample, sql.Identifier(_ROW))

    def _reaches(self, path: Path) -> sql.Composable:
        """That the path leads from the row to a tenant that exists."""
        tables, conditions, column = self._joined(path, "p")
        root = self._catalog.tenant
        schema, _, name = root.table.rpartition(".")
        if (schema or self._catalog.schema_, name) != self._catalog.relation_name(
            path.owner
        ) or path.column != root.key:
            place = sql.Identifier(schema or self._catalog.schema_, name)
            tables.append(sql.SQL("{} AS {}").format(place, sql.Identifier("root")))
            conditions.append(sql.SQL("{} = {}").format(sql.Identifier("root", root.key), column))
        reaches = _exists(tables, conditions) if tables else sql.SQL("({} IS NOT NULL)").format(column)
        if not self._catalog.null_is_shared(path.table):
            return reaches
        tables, conditions, column = self._joined(path, "s")
        conditions.append(sql.SQL("{} IS NULL").format(column))
        shared = _exists(tables, conditions) if tables else sql.SQL("({})").format(conditions[-1])
        return sql.SQL("({} OR {})").format(reaches, shared)

    def _differ(self, path: Path, other: Path) -> sql.Composed:
        """That both paths lead from the row to a tenant, and not to the same."""
        tables, conditions, column = self._joined(path, "p")
        other_tables, other_conditions, other_column = self._joined(other, "q")
        conditions += [*other_conditions, sql.SQL("{} <> {}").format(column, other_column)]
        return _exists([*tables, *other_tables], conditions)

    def _joined(self, path: Path, prefix: str) -> tuple[list[sql.Composable], list[sql.Composable], sql.Identifier]:
        """Tables and conditions that follow the path, and the tenant's column at its end."""
        tables: list[sql.Composable] = []
        conditions: list[sql.Composable] = []
        here = _ROW
        for number, hop in enumerate(path.hops, 1):
            there = f"{prefix}{number}"
            tables.append(sql.SQL("{} AS {}").format(self._place(hop.references), sql.Identifier(there)))
            conditions += [
                sql.SQL("{} = {}").format(sql.Identifier(there, referenced), sql.Identifier(here, own))
                for own, referenced in zip(hop.columns, hop.referenced_columns, strict=True)
            ]
            here = there
        return tables, conditions, sql.Identifier(here, path.column)

    def _proved(self, path: Path) -> bool:
        """Whether constraints alone make every row reach a tenant."""
        table = path.table
        for hop in path.hops:
            if not self._holds(table, hop.references, hop.columns, hop.referenced_columns):
                return False
            table = hop.references
        root = self._catalog.tenant
        schema, _, name = root.table.rpartition(".")
        place = (schema or self._catalog.schema_, name)
        if place == self._catalog.relation_name(table) and path.column == root.key:
            return True
        return self._constraint(self._catalog.relation_name(table), place, (path.column,), (root.key,))

    def _holds(self, table: str, target: str, columns: tuple[str, ...], referenced: tuple[str, ...]) -> bool:
        places = self._catalog.relation_name(table), self._catalog.relation_name(target)
        return self._constraint(*places, columns, referenced)

    def _constraint(self, place: Place, target: Place, columns: tuple[str, ...], referenced: tuple[str, ...]) -> bool:
        """Whether every row must refer to one of the target by these columns."""
        table, other = self._live.get(place), self._live.get(target)
        if table is None or other is None or not all(table.columns[column].not_null for column in columns):
            return False
        return any(_same(key, other.oid, columns, referenced) and key.proven for key in table.foreign_keys)

    def _unique(self, hop: Relation) -> bool:
        target = self._live.get(self._catalog.relation_name(hop.references))
        return target is not None and any(set(key) <= set(hop.referenced_columns) for key in target.distinct_keys)

    def _estimate(self, table: str) -> float:
        """The planner's guess, which knows sizes even before the first ANALYZE, of views and of partitions too."""
        (plan,) = self._one(sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {}").format(self._place(table)))
        return float(plan[0]["Plan"]["Plan Rows"])

    def _place(self, table: str) -> sql.Identifier:
        return sql.Identifier(*self._catalog.relation_name(table))

    def _one(self, query: sql.Composed) -> tuple[Any, ...]:
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return tuple(row)


def _exists(tables: Iterable[sql.Composable], conditions: Iterable[sql.Composable]) -> sql.Composed:
    return sql.SQL("EXISTS (SELECT 1 FROM {} WHERE {})").format(
        sql.SQL(", ").join(tables), sql.SQL(" AND ").join(conditions)
    )


def _same(key: LiveForeignKey, target: int, columns: tuple[str, ...], referenced: tuple[str, ...]) -> bool:
    pairs = set(zip(columns, referenced, strict=True))
    return key.references == target and set(zip(key.columns, key.referenced_columns, strict=True)) == pairs


def _timeout() -> str:
    return f"{TIMEOUT_SECONDS * 1000:.0f}ms"
