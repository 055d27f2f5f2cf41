"""Reads the `Resolution` of a catalog from its live database: operators of keys, and parents of inheritance.

Keys are compared by PostgreSQL's own rule for foreign keys (``ATAddForeignKeyConstraint``): by the operator of the
key's default operator class for the two types, or else by the one for the key's type, to which the column must be
implicitly convertible. So ``citext`` and ``numeric`` keys find the rows that the foreign key accepts, and no others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import psycopg

from export_pipelines.catalog.inventory import pinned
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.resolution import Comparison, Join, Resolution
from export_pipelines.core.types import base_type, normalize

Place = tuple[str, str]  # (schema, name) in PostgreSQL

_COLUMNS = """
WITH RECURSIVE base AS (
    SELECT oid AS declared, oid AS type FROM pg_type WHERE typtype = 'd'
    UNION ALL
    SELECT base.declared, t.typbasetype FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT asked.schema, asked.relation, asked.name, t.oid::bigint AS type, format_type(t.oid, -1) AS printed,
       tn.nspname AS type_schema,
       a.attcollation::bigint AS collation, coalesce(k.collisdeterministic, true) AS deterministic,
       quote_ident(kn.nspname) || '.' || quote_ident(k.collname) AS collation_name, kn.nspname AS collation_schema
FROM unnest(%(schemas)s::text[], %(relations)s::text[], %(names)s::text[]) AS asked(schema, relation, name)
JOIN pg_namespace s ON s.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = s.oid AND c.relname = asked.relation
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = asked.name AND NOT a.attisdropped
LEFT JOIN base ON base.declared = a.atttypid
JOIN pg_type t ON t.oid = coalesce(base.type, a.atttypid) AND t.typtype <> 'd'
JOIN pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_collation k ON k.oid = a.attcollation
LEFT JOIN pg_namespace kn ON kn.oid = k.collnamespace
"""

# The default operator class as PostgreSQL chooses it: of the type itself, else of one that is the same in memory (text
# for varchar), the preferred one first. Equality is strategy 3 of a btree, 1 of a hash.
_OPERATORS = """
SELECT p.here::bigint AS here, p.key::bigint AS key, own.operator AS own, direct.operator AS direct,
       own.schema AS own_schema, direct.schema AS direct_schema,
       EXISTS (SELECT FROM pg_cast WHERE castsource = p.here AND casttarget IN (p.key, class.type)
               AND castcontext = 'i') AS convertible
FROM unnest(%(here)s::oid[], %(key)s::oid[]) AS p(here, key)
JOIN pg_type k ON k.oid = p.key
LEFT JOIN LATERAL (
    SELECT o.opcfamily AS family, o.opcintype AS type, CASE m.amname WHEN 'btree' THEN 3 ELSE 1 END AS strategy
    FROM pg_opclass o JOIN pg_am m ON m.oid = o.opcmethod JOIN pg_type i ON i.oid = o.opcintype
    WHERE m.amname IN ('btree', 'hash') AND o.opcdefault
      AND (o.opcintype = k.oid
        OR o.opcintype = CASE WHEN k.typcategory = 'A' THEN 'anyarray'::regtype
                              WHEN k.typtype = 'e' THEN 'anyenum'::regtype
                              WHEN k.typtype = 'c' THEN 'record'::regtype
                              WHEN k.typtype = 'r' THEN 'anyrange'::regtype
                              WHEN k.typtype = 'm' THEN 'anymultirange'::regtype END
        OR EXISTS (SELECT FROM pg_cast b WHERE b.castsource = k.oid AND b.casttarget = o.opcintype
                   AND b.castmethod = 'b' AND b.castcontext = 'i'))
    ORDER BY o.opcintype = k.oid DESC, i.typispreferred DESC, m.amname LIMIT 1
) class ON true
LEFT JOIN LATERAL (
    SELECT quote_ident(n.nspname) || '.' || o.oprname AS operator, n.nspname AS schema
    FROM pg_amop a JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE a.amopfamily = class.family AND a.amopstrategy = class.strategy AND a.amoppurpose = 's'
      AND a.amoplefttype = class.type AND a.amoprighttype = class.type
) own ON true
LEFT JOIN LATERAL (
    SELECT quote_ident(n.nspname) || '.' || o.oprname AS operator, n.nspname AS schema
    FROM pg_amop a JOIN pg_operator o ON o.oid = a.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE a.amopfamily = class.family AND a.amopstrategy = class.strategy AND a.amoppurpose = 's'
      AND a.amoplefttype = p.here AND a.amoprighttype = class.type
) direct ON true
"""

_PARENTS = """
SELECT asked.name
FROM unnest(%(schemas)s::text[], %(relations)s::text[], %(names)s::text[]) AS asked(schema, relation, name)
JOIN pg_namespace n ON n.nspname = asked.schema
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = asked.relation AND c.relkind = 'r'
WHERE EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
"""

_EXACT = "numeric"  # takes every integer as it is, so a column of it can be compared with any integer key
_INTEGERS = ("smallint", "integer", "bigint")
TEXTS = ("text", "character varying")
_OWN = "pg_catalog"


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column's type, domains resolved, and its collation."""

    type: int
    printed: str
    type_schema: str
    collation: int
    deterministic: bool
    collation_name: str | None
    collation_schema: str | None


@dataclass(frozen=True, kw_only=True)
class _Operators:
    """Equalities of a key's default operator class, each with its schema."""

    own: str | None
    own_schema: str | None
    direct: str | None  # for the column's type and the key's
    direct_schema: str | None
    convertible: bool


def resolve(connection: psycopg.Connection[Any], catalog: Catalog, tables: Iterable[str]) -> Resolution:
    """Facts about these tables and those on their way to the tenant. What is not in the database is left out."""
    wanted = list(tables)
    relations = [step for name in wanted for step in catalog.tenant_route(name)]
    names = sorted({*wanted, *(relation.references for _, relation in relations)})
    owners = {name: column for name in names if (column := catalog.tables[name].tenant.column) is not None}
    joins: list[Join] = sorted(
        {
            (name, here, relation.references, there)
            for name, relation in relations
            for here, there in zip(relation.columns, relation.referenced_columns, strict=True)
        }
    )
    places = {name: catalog.relation_name(name) for name in names}
    key = (*tenant_place(catalog), catalog.tenant.key)
    asked = [(key, key)]
    asked += [((*places[name], column), key) for name, column in owners.items()]
    asked += [((*places[name], here), (*places[target], there)) for name, here, target, there in joins]
    with pinned(connection) as cursor:
        columns = _read_columns(cursor, {place for pair in asked for place in pair})
        pairs = [(columns.get(here), columns.get(there)) for here, there in asked]
        operators = _read_operators(cursor, {(here.type, there.type) for here, there in pairs if here and there})
        parents = _read_parents(cursor, places)
    compared = [
        _comparison(here, there, operators[here.type, there.type]) if here and there else None for here, there in pairs
    ]
    of_owners, of_joins = compared[1 : len(owners) + 1], compared[len(owners) + 1 :]
    return Resolution(
        key=compared[0],
        owners={
            name: _with_declared_type(catalog, found)
            for name, found in zip(owners, of_owners, strict=True)
            if found is not None
        },
        joins={
            join: _joined(found, here, there)
            for join, found, (here, there) in zip(joins, of_joins, pairs[len(owners) + 1 :], strict=True)
            if found is not None and here is not None and there is not None
        },
        parents=parents,
    )


def tenant_place(catalog: Catalog) -> Place:
    """(schema, name) of the tenants' table in PostgreSQL."""
    schema, _, name = catalog.tenant.table.rpartition(".")
    return schema or catalog.schema_, name


def _read_columns(cursor: psycopg.Cursor[dict[str, Any]], asked: set[tuple[str, str, str]]) -> dict[Any, _Column]:
    rows = cursor.execute(_COLUMNS, _listed(sorted(asked))).fetchall()
    return {(row.pop("schema"), row.pop("relation"), row.pop("name")): _Column(**row) for row in rows}


def _read_operators(
    cursor: psycopg.Cursor[dict[str, Any]], pairs: set[tuple[int, int]]
) -> dict[tuple[int, int], _Operators]:
    """By the oids of a column's type and a key's."""
    listed = sorted(pairs)
    parameters = {"here": [here for here, _ in listed], "key": [key for _, key in listed]}
    rows = cursor.execute(_OPERATORS, parameters).fetchall()
    return {(row.pop("here"), row.pop("key")): _Operators(**row) for row in rows}


def _read_parents(cursor: psycopg.Cursor[dict[str, Any]], places: dict[str, Place]) -> frozenset[str]:
    rows = cursor.execute(_PARENTS, _listed([(*place, name) for name, place in places.items()])).fetchall()
    return frozenset(row["name"] for row in rows)


def _listed(places: list[tuple[str, str, str]]) -> dict[str, list[str]]:
    return {
        "schemas": [schema for schema, _, _ in places],
        "relations": [relation for _, relation, _ in places],
        "names": [name for _, _, name in places],
    }


def _comparison(here: _Column, key: _Column, operators: _Operators) -> Comparison:
    """Of a column with a value that is converted to the key's type first."""
    found = Comparison(column_type=here.printed, key_cast=key.printed)
    schemas = {here.type_schema, key.type_schema}
    if here.type == key.type and operators.own:
        found, schemas = replace(found, operator=operators.own), {*schemas, str(operators.own_schema)}
    elif operators.direct:
        found, schemas = replace(found, operator=operators.direct), {*schemas, str(operators.direct_schema)}
    elif operators.convertible and operators.own:
        found = replace(found, operator=operators.own, column_cast=key.printed)
        schemas.add(str(operators.own_schema))
    elif here.printed == _EXACT and key.printed in _INTEGERS:
        found = replace(found, key_cast=_EXACT)
    else:
        why = f"is {here.printed} and refers to {key.printed}, which no foreign key of PostgreSQL compares"
        # Policies then compare as the column's own type does; such a table is refused before it is read.
        found = replace(found, key_cast=here.printed, problem=why)
    if key.collation_name and not (here.deterministic and key.deterministic):
        found = replace(found, collation=key.collation_name, collates=here.collation != key.collation)
        schemas.add(str(key.collation_schema))
    return replace(found, schemas=frozenset(schemas - {_OWN}))


def _with_declared_type(catalog: Catalog, found: Comparison) -> Comparison:
    """Texts that hold the key as PostgreSQL prints it are compared as texts, where the catalog says so."""
    declared = base_type(normalize(catalog.tenant.type))
    if found.problem and declared in TEXTS and found.column_type in TEXTS:
        return Comparison(column_type=found.column_type, key_cast="text")
    return found


def _joined(found: Comparison, here: _Column, key: _Column) -> Comparison:
    """Of a column with a column, which is converted only where it has to be."""
    if found.problem or found.key_cast != _EXACT or key.printed == _EXACT:
        found = replace(found, key_cast=None)
    clash = here.collation != key.collation and "default" not in (here.collation_name, key.collation_name)
    if clash and found.collation is None and here.collation_name and key.collation_name:
        own = {str(key.collation_schema)} - {_OWN}
        return replace(found, collation=key.collation_name, collates=True, schemas=found.schemas | own)
    return found
