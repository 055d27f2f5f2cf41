"""How far the rows there are bear out a relation that no constraint does: values that refer to nothing.

A relation by name whose every value is found in the column it refers to is hardly a coincidence; one that has orphans,
or no values at all, is for a person to decide on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from export_pipelines.catalog.inventory import LiveTable, pinned
from export_pipelines.catalog.links import Link

TIMEOUT_SECONDS = 10  # for one relation
SAMPLED_ROWS = 1_000_000  # about so many of a larger table are looked at


@dataclass(frozen=True, kw_only=True)
class Orphans:
    """What was counted for one relation."""

    values: int  # rows that refer to something, of those looked at
    missing: int  # of them, those to which no row belongs
    sampled: bool

    @property
    def none(self) -> bool:
        """Whether there are values, and each is found."""
        return self.values > 0 and self.missing == 0

    def __str__(self) -> str:
        if not self.values:
            return "no row has a value yet"
        of = f"{self.values:,} values" + (" of a sample" if self.sampled else "")
        return f"{self.missing:,} of {of} refer to nothing" if self.missing else f"all {of} are found"


def count_orphans(
    connection: psycopg.Connection[Any], tables: Mapping[int, LiveTable], links: Mapping[int, Sequence[Link]]
) -> dict[tuple[int, Link], Orphans]:
    """By oid of the table and link. One that takes too long or may not be read is left out."""
    counted: dict[tuple[int, Link], Orphans] = {}
    with pinned(connection) as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{TIMEOUT_SECONDS}s"])
        for oid, link in ((oid, link) for oid, found in links.items() for link in found):
            try:
                with connection.transaction():
                    row = cursor.execute(_query(tables[oid], tables[link.references], link)).fetchone()
            except (errors.QueryCanceled, errors.InsufficientPrivilege):
                continue
            if row is not None:
                counted[oid, link] = Orphans(**row, sampled=_large(tables[oid]))
    return counted


def tables_with_nulls(
    connection: psycopg.Connection[Any], tables: Mapping[int, LiveTable], columns: Mapping[int, str]
) -> dict[int, str]:
    """Of these columns, by oid of their table, those that are NULL in some row, as far as that is quick to know."""
    found: dict[int, str] = {}
    with pinned(connection) as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{TIMEOUT_SECONDS}s"])
        for oid, column in columns.items():
            table = tables.get(oid)
            if table is None or table.is_view or table.columns[column].not_null:
                continue
            query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NULL) AS found").format(
                sql.Identifier(table.schema, table.name), sql.Identifier(column)
            )
            try:
                with connection.transaction():
                    row = cursor.execute(query).fetchone()
            except (errors.QueryCanceled, errors.InsufficientPrivilege):
                continue
            if row and row["found"]:
                found[oid] = column
    return found


def _query(table: LiveTable, target: LiveTable, link: Link) -> sql.Composed:
    pairs = zip(link.columns, link.referenced_columns, strict=True)
    joined = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("there", there), sql.Identifier("here", here)) for here, there in pairs
    )
    given = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier("here", c)) for c in link.columns)
    share = sql.Literal(100 * SAMPLED_ROWS / max(table.rows_estimate, SAMPLED_ROWS))
    sample = sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (0)").format(share) if _large(table) else sql.SQL("")
    return sql.SQL(
        "SELECT count(*) AS values, count(*) FILTER (WHERE NOT EXISTS (SELECT FROM {} AS there WHERE {})) AS missing "
        "FROM {} AS here{} WHERE {}"
    ).format(
        sql.Identifier(target.schema, target.name), joined, sql.Identifier(table.schema, table.name), sample, given
    )


def _large(table: LiveTable) -> bool:
    return table.rows_estimate > SAMPLED_ROWS
