"""What PostgreSQL's system catalogs say of tables that are to be made again elsewhere, as plain records.

Names and expressions come as PostgreSQL prints them: without schema where the search path of the session finds the
object, quoted where they have to be. Any role may read these catalogs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, kw_only=True)
class LiveAttribute:
    """A column."""

    relation: int
    number: int
    name: str
    quoted: str
    type: str
    type_oid: int
    collation: str | None  # where it is not the type's own
    collation_portable: bool
    not_null: bool
    array: bool
    default_oid: int | None
    expression: str | None  # of a default, or of what the database computes
    generated: str  # '' not, 's' stored, 'v' virtual
    identity: str  # '' not, 'a' always, 'd' by default
    sequence: int | None  # of an identity


@dataclass(frozen=True, kw_only=True)
class LiveConstraint:
    """A constraint of a table or, with ``domain``, of a type."""

    oid: int
    relation: int
    domain: int
    name: str
    quoted: str
    kind: str  # pg_constraint.contype
    definition: str
    columns: list[int]  # attribute numbers
    references: int
    referenced_columns: list[int]
    operators: list[str]  # of a foreign key, referenced column first; those whose schema the session may use
    index: int


@dataclass(frozen=True, kw_only=True)
class LiveIndex:
    """An index that no constraint has made."""

    oid: int
    relation: int
    name: str
    quoted: str
    definition: str


@dataclass(frozen=True, kw_only=True)
class LiveType:
    """A type that is not PostgreSQL's own."""

    oid: int
    name: str
    schema: str
    kind: str  # pg_type.typtype
    extension: str | None
    needs: list[int]
    labels: list[str]  # of an enum
    attributes: list[str]  # of a composite type: name and type
    base: str | None  # of a domain
    collation: str | None
    not_null: bool
    default: str | None
    subtype: str | None  # of a range
    multirange: str | None


@dataclass(frozen=True, kw_only=True)
class LiveSequence:
    """A sequence with what it was made with, not where it stands."""

    oid: int
    name: str
    type: str
    start: int
    increment: int
    least: int
    greatest: int
    cache: int
    cycle: bool


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What an expression, a constraint or an index needs."""

    owner: int
    kind: str  # system catalog of what it needs: pg_class, pg_proc, pg_type, …
    oid: int
    column: int  # of a table, else 0
    portable: bool  # comes with PostgreSQL
    identity: str


_ATTRIBUTES = """
SELECT a.attrelid::bigint AS relation, a.attnum::int AS number, a.attname AS name, quote_ident(a.attname) AS quoted,
       format_type(a.atttypid, a.atttypmod) AS type, a.atttypid::bigint AS type_oid,
       CASE WHEN a.attcollation <> t.typcollation THEN a.attcollation::regcollation::text END AS collation,
       coalesce(k.collnamespace = 'pg_catalog'::regnamespace, true) AS collation_portable,
       a.attnotnull AS not_null, t.typcategory = 'A' AS array, d.oid::bigint AS default_oid,
       pg_get_expr(d.adbin, d.adrelid, true) AS expression, a.attgenerated::text AS generated,
       a.attidentity::text AS identity,
       (SELECT s.objid::bigint FROM pg_depend s WHERE s.classid = 'pg_class'::regclass
          AND s.refclassid = 'pg_class'::regclass AND s.refobjid = a.attrelid AND s.refobjsubid = a.attnum
          AND s.deptype = 'i' LIMIT 1) AS sequence
FROM pg_attribute a
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation k ON k.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""

_CONSTRAINTS = """
SELECT oid::bigint, conrelid::bigint AS relation, contypid::bigint AS domain, conname AS name,
       quote_ident(conname) AS quoted, contype::text AS kind, pg_get_constraintdef(oid, true) AS definition,
       coalesce(conkey::int[], '{}') AS columns, confrelid::bigint AS references,
       coalesce(confkey::int[], '{}') AS referenced_columns, conindid::bigint AS index,
       ARRAY(SELECT quote_ident(CASE WHEN has_schema_privilege(n.oid, 'USAGE') THEN n.nspname ELSE 'pg_catalog' END)
                    || '.' || o.oprname
             FROM unnest(conpfeqop) WITH ORDINALITY AS e(oid, position)
             JOIN pg_operator o ON o.oid = e.oid JOIN pg_namespace n ON n.oid = o.oprnamespace
             ORDER BY position) AS operators
FROM pg_constraint
WHERE (conrelid = ANY(%(oids)s) OR contypid = ANY(%(types)s)) AND contype IN ('p', 'u', 'x', 'c', 'f')
  AND conparentid = 0
ORDER BY conrelid, position(contype::text IN 'puxcf'), conname
"""

_INDEXES = """
SELECT i.indexrelid::bigint AS oid, i.indrelid::bigint AS relation, c.relname AS name, quote_ident(c.relname) AS quoted,
       pg_get_indexdef(i.indexrelid, 0, true) AS definition
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY(%(oids)s) AND i.indislive AND i.indisvalid
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
ORDER BY i.indrelid, c.relname
"""

# Types, and the types that they consist of. What comes with PostgreSQL is everywhere.
_TYPES = """
WITH RECURSIVE needed(oid) AS (
    SELECT unnest(%(oids)s::oid[])
    UNION
    SELECT part.oid FROM needed JOIN pg_type t ON t.oid = needed.oid CROSS JOIN LATERAL (
        SELECT t.typelem WHERE t.typelem <> 0
        UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
        UNION ALL SELECT a.atttypid FROM pg_attribute a
                  WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE r.rngtypid = t.oid
        UNION ALL SELECT r.rngtypid FROM pg_range r WHERE r.rngmultitypid = t.oid
    ) AS part(oid)
)
SELECT t.oid::bigint, format_type(t.oid, NULL) AS name, n.nspname AS schema, t.typtype::text AS kind,
       e.extname AS extension,
       ARRAY(SELECT p.oid::bigint FROM pg_type p WHERE p.oid IN (t.typelem, t.typbasetype, r.rngsubtype)
             UNION SELECT a.atttypid::bigint FROM pg_attribute a
                   WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS needs,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
       ARRAY(SELECT quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
             ORDER BY a.attnum) AS attributes,
       CASE WHEN t.typbasetype <> 0 THEN format_type(t.typbasetype, t.typtypmod) END AS base,
       CASE WHEN t.typtype = 'd' AND t.typcollation <> b.typcollation THEN t.typcollation::regcollation::text
       END AS collation,
       t.typnotnull AS not_null, t.typdefault AS default,
       CASE WHEN r.rngsubtype IS NOT NULL THEN format_type(r.rngsubtype, NULL) END AS subtype,
       CASE WHEN r.rngmultitypid IS NOT NULL THEN format_type(r.rngmultitypid, NULL) END AS multirange
FROM (SELECT DISTINCT oid FROM needed) AS wanted
JOIN pg_type t ON t.oid = wanted.oid
JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type b ON b.oid = t.typbasetype
LEFT JOIN pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
WHERE n.nspname <> 'pg_catalog' AND t.typtype <> 'm' AND NOT (t.typtype = 'b' AND t.typcategory = 'A')
ORDER BY n.nspname, t.typname
"""

_SEQUENCES = """
SELECT seqrelid::bigint AS oid, seqrelid::regclass::text AS name, format_type(seqtypid, NULL) AS type,
       seqstart AS start, seqincrement AS increment, seqmin AS least, seqmax AS greatest, seqcache AS cache,
       seqcycle AS cycle
FROM pg_sequence WHERE seqrelid = ANY(%(oids)s) ORDER BY 2
"""

_REFERENCES = """
SELECT d.objid::bigint AS owner, d.refclassid::regclass::text AS kind, d.refobjid::bigint AS oid,
       d.refobjsubid AS column, coalesce(o.schema, 'pg_catalog') = 'pg_catalog' AS portable,
       o.type || ' ' || o.identity AS identity
FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) AS o
WHERE (d.classid, d.objid) IN (
    SELECT 'pg_attrdef'::regclass, unnest(%(defaults)s::oid[])
    UNION ALL SELECT 'pg_constraint'::regclass, unnest(%(constraints)s::oid[])
    UNION ALL SELECT 'pg_class'::regclass, unnest(%(indexes)s::oid[])
)
"""


class DdlReader:
    """Asks the system catalogs on one connection, whose search path is set."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def attributes(self, oids: Iterable[int]) -> dict[int, list[LiveAttribute]]:
        """By relation, in order."""
        found = defaultdict(list)
        for attribute in self._records(LiveAttribute, _ATTRIBUTES, {"oids": list(oids)}):
            found[attribute.relation].append(attribute)
        return found

    def constraints(self, oids: Iterable[int], types: Iterable[int]) -> list[LiveConstraint]:
        return self._records(LiveConstraint, _CONSTRAINTS, {"oids": list(oids), "types": list(types)})

    def indexes(self, oids: Iterable[int]) -> list[LiveIndex]:
        return self._records(LiveIndex, _INDEXES, {"oids": list(oids)})

    def types(self, oids: Iterable[int]) -> list[LiveType]:
        return self._records(LiveType, _TYPES, {"oids": list(oids)})

    def sequences(self, oids: Iterable[int]) -> dict[int, LiveSequence]:
        return {found.oid: found for found in self._records(LiveSequence, _SEQUENCES, {"oids": list(oids)})}

    def references(
        self, *, defaults: Iterable[int], constraints: Iterable[int], indexes: Iterable[int]
    ) -> dict[int, list[Reference]]:
        """By whoever needs it. Oids of different catalogs may be the same number; those asked for together are not."""
        found = defaultdict(list)
        asked = {"defaults": list(defaults), "constraints": list(constraints), "indexes": list(indexes)}
        for reference in self._records(Reference, _REFERENCES, asked):
            found[reference.owner].append(reference)
        return found

    def parents(self, oids: Iterable[int]) -> list[tuple[int, str]]:
        """(oid, parent as this search path calls it) of tables that inherit from others; partitions do not count."""
        rows = self._connection.execute(
            "SELECT i.inhrelid::bigint, i.inhparent::regclass::text FROM pg_inherits i "
            "JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition "
            "WHERE c.oid = ANY(%s) ORDER BY 1, i.inhseqno",
            (list(oids),),
        )
        return [(int(oid), str(parent)) for oid, parent in rows]

    def relation(self, schema: str, name: str) -> tuple[int, str]:
        """Its oid, and how it is called on this search path."""
        row = self._connection.execute(
            "SELECT c.oid::bigint, c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
            (schema, name),
        ).fetchone()
        assert row is not None  # the tables were compared with the catalog before
        return int(row[0]), str(row[1])

    def _records(self, kind: type[Any], query: str, values: dict[str, Any]) -> list[Any]:
        with self._connection.cursor(row_factory=class_row(kind)) as cursor:
            return cursor.execute(query, values).fetchall()
