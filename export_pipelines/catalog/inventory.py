"""What a live PostgreSQL (14 or newer) holds: relations, columns, keys, foreign keys, as plain records.

Only facts of the system catalogs belong here. What to propose from them is `reflect`, what is wrong with them is
`check`; roles and row-level security are read by `policies`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.rows import dict_row

OWN_SCHEMA = "export_control"  # this service's own state, never an application's data

Key = tuple[str, ...]


class Kind(StrEnum):
    """``pg_class.relkind`` of what can hold rows."""

    TABLE = "r"
    PARTITIONED = "p"
    VIEW = "v"
    MATERIALIZED = "m"
    FOREIGN = "f"


@dataclass(frozen=True, kw_only=True)
class LiveColumn:
    """One column as the database declares it."""

    name: str
    type: str  # as format_type prints it; a domain is resolved to its base type, which is how it travels
    declared_type: str  # the domain's own name where it is one
    not_null: bool
    comment: str | None
    default: str | None = None  # as PostgreSQL prints the expression


@dataclass(frozen=True, kw_only=True)
class LiveForeignKey:
    """A foreign key that the table, or each of its partitions, declares; columns in the order of those referred to."""

    name: str
    columns: Key
    references: int  # oid of the referenced relation
    referenced_columns: Key
    cascades: bool  # rows vanish with the row they reference: a part of it rather than a mention
    proven: bool = True  # for every row: neither NOT VALID nor (PostgreSQL 18) NOT ENFORCED


@dataclass(frozen=True, kw_only=True)
class LiveTable:
    """A table or view with its columns in order and its keys."""

    oid: int
    schema: str
    name: str
    kind: Kind
    comment: str | None
    extension: str | None  # owner of the relation, where an extension brought it
    inherits: str | None  # parent of an inheritance child that is not a partition
    security_invoker: bool  # views: base tables are read as whoever asks
    rows_estimate: float  # planner's figure; -1 before the first ANALYZE
    columns: dict[str, LiveColumn] = field(default_factory=dict)
    primary_key: Key = ()
    unique_keys: tuple[Key, ...] = ()  # of NOT NULL columns, immediate, without predicate
    distinct_keys: tuple[Key, ...] = ()  # the same, and those that let several rows be NULL
    indexed: frozenset[str] = frozenset()  # columns that lead an index
    foreign_keys: tuple[LiveForeignKey, ...] = ()

    @property
    def label(self) -> str:
        """``schema.name``, for people."""
        return f"{self.schema}.{self.name}"

    @property
    def is_view(self) -> bool:
        """Whether it is an ordinary view, which has no rows and no policies of its own."""
        return self.kind is Kind.VIEW


_RELATIONS = """
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       obj_description(c.oid, 'pg_class') AS comment, e.extname AS extension,
       (SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = c.oid LIMIT 1) AS inherits,
       coalesce((SELECT lower(option_value) IN ('true', 'on', 'yes', '1') FROM pg_options_to_table(c.reloptions)
                 WHERE option_name = 'security_invoker'), false) AS security_invoker,
       c.reltuples::float8 AS rows_estimate
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> %(own)s
ORDER BY n.nspname, c.relname
"""

# A domain over a domain takes several steps down to its base type.
_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT oid AS declared, oid AS type, -1 AS typmod FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT base.declared, t.typbasetype, t.typtypmod FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT a.attrelid::bigint AS relation, a.attname AS name, a.attnotnull AS not_null,
       format_type(a.atttypid, a.atttypmod) AS declared_type,
       coalesce(format_type(d.type, d.typmod), format_type(a.atttypid, a.atttypmod)) AS type,
       col_description(a.attrelid, a.attnum) AS comment,
       CASE WHEN a.attgenerated = '' THEN pg_get_expr(x.adbin, x.adrelid) END AS default
FROM pg_attribute a
LEFT JOIN pg_attrdef x ON x.adrelid = a.attrelid AND x.adnum = a.attnum
LEFT JOIN (SELECT base.* FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype <> 'd') d
       ON d.declared = a.atttypid
WHERE a.attrelid = ANY(%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""

_INDEXES = """
SELECT i.indrelid::bigint AS relation, i.indisprimary AS is_primary,
       i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AS is_unique,
       i.indpred IS NULL AND i.indisvalid AND i.indkey[0] <> 0 AS is_whole,
       array(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE k.position <= i.indnkeyatts ORDER BY k.position) AS columns
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY(%(oids)s::oid[])
ORDER BY i.indrelid, c.relname
"""

# conparentid is set on the copies that partitions carry. A foreign key that every partition declares for itself, with
# the same columns, holds for each row of the table as well.
_FOREIGN_KEYS = """
WITH leaf AS (
    SELECT root, t.relid::oid AS relation, count(*) OVER (PARTITION BY root) AS leaves
    FROM unnest(%(oids)s::oid[]) AS root JOIN pg_class c ON c.oid = root AND c.relkind = 'p',
         pg_partition_tree(root) AS t
    WHERE t.isleaf AND t.level > 0
), declared AS (
    SELECT f.conrelid, f.conname, f.confrelid, f.confdeltype = 'c' AS cascades, f.conparentid,
           f.convalidated AND coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true) AS proven,
           array(SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, position)
                 JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum ORDER BY k.position) AS columns,
           array(SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, position)
                 JOIN pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum ORDER BY k.position)
                 AS referenced
    FROM pg_constraint f JOIN pg_class target ON target.oid = f.confrelid AND NOT target.relispartition
    WHERE f.contype = 'f' AND (f.conrelid = ANY(%(oids)s::oid[]) OR f.conrelid IN (SELECT relation FROM leaf))
), own AS (
    SELECT conrelid, conname::text, confrelid, cascades, proven, columns, referenced
    FROM declared WHERE conparentid = 0 AND conrelid = ANY(%(oids)s::oid[])
), of_all_partitions AS (
    SELECT leaf.root, min(d.conname::text), d.confrelid, bool_and(d.cascades), bool_and(d.proven), d.columns,
           d.referenced
    FROM leaf JOIN declared d ON d.conrelid = leaf.relation
    WHERE NOT EXISTS (SELECT FROM own WHERE own.conrelid = leaf.root AND own.confrelid = d.confrelid
                      AND own.columns = d.columns AND own.referenced = d.referenced)
    GROUP BY leaf.root, leaf.leaves, d.confrelid, d.columns, d.referenced
    HAVING count(DISTINCT leaf.relation) = leaf.leaves
)
SELECT conrelid::bigint AS relation, conname AS name, confrelid::bigint AS target, cascades, proven, columns, referenced
FROM (SELECT * FROM own UNION ALL SELECT * FROM of_all_partitions) AS f
ORDER BY conrelid, conname
"""


@contextmanager
def pinned(
    connection: psycopg.Connection[Any], *, schema: str | None = None
) -> Iterator[psycopg.Cursor[dict[str, Any]]]:
    """A cursor in a transaction (or savepoint) that leaves no trace, with a search path that cannot surprise.

    Names of types and expressions print without ``schema`` in front and with every other one.
    """
    path = "pg_catalog" if schema is None else 'pg_catalog, "' + schema.replace('"', '""') + '"'
    with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("SELECT set_config('search_path', %s, true)", [path])
        yield cursor


def read_inventory(connection: psycopg.Connection[Any], *, schema: str) -> list[LiveTable]:
    """Every relation of the application with rows of its own, ordered by schema and name; partitions are left out."""
    with pinned(connection, schema=schema) as cursor:
        relations = cursor.execute(_RELATIONS, {"own": OWN_SCHEMA}).fetchall()
        oids = {"oids": [row["oid"] for row in relations]}
        columns = _grouped(cursor.execute(_COLUMNS, oids).fetchall())
        indexes = _grouped(cursor.execute(_INDEXES, oids).fetchall())
        foreign_keys = _grouped(cursor.execute(_FOREIGN_KEYS, oids).fetchall())
    return [
        _table(row, columns.get(row["oid"], []), indexes.get(row["oid"], []), foreign_keys.get(row["oid"], []))
        for row in relations
    ]


def _grouped(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.pop("relation"), []).append(row)
    return groups


def _table(
    row: dict[str, Any],
    columns: list[dict[str, Any]],
    indexes: list[dict[str, Any]],
    foreign_keys: list[dict[str, Any]],
) -> LiveTable:
    live = {column["name"]: LiveColumn(**column) for column in columns}
    distinct = sorted(
        {tuple(index["columns"]) for index in indexes if index["is_unique"]}, key=lambda key: (len(key), key)
    )
    primary = [tuple(index["columns"]) for index in indexes if index["is_primary"]]
    return LiveTable(
        **{**row, "kind": Kind(row["kind"])},
        columns=live,
        primary_key=primary[0] if primary else (),
        unique_keys=tuple(key for key in distinct if all(live[name].not_null for name in key)),
        distinct_keys=tuple(distinct),
        indexed=frozenset(index["columns"][0] for index in indexes if index["is_whole"] and index["columns"]),
        foreign_keys=tuple(
            LiveForeignKey(
                name=key["name"],
                columns=tuple(key["columns"]),
                references=key["target"],
                referenced_columns=tuple(key["referenced"]),
                cascades=key["cascades"],
                proven=key["proven"],
            )
            for key in foreign_keys
        ),
    )
