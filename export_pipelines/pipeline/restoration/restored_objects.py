"""What a target holds before a package is restored into it, and what the package's statements have made there.

PostgreSQL says what it has understood of a statement, so an expression is judged by what it calls, not by how it reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.migration import LoadTable
from export_pipelines.sources.ddl_reading import DdlReader, Reference
from export_pipelines.sources.expressions import CalledFunction, called_functions, objection

_HELD = """
SELECT (SELECT count(*) FROM (
    SELECT 'pg_class'::regclass AS kind, oid FROM pg_class
    WHERE relnamespace = n.oid AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
    UNION ALL
    SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = n.oid AND typtype IN ('e', 'd', 'r')
    UNION ALL
    SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = n.oid
    UNION ALL
    SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace = n.oid
) AS held WHERE NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = held.kind AND d.objid = held.oid AND d.deptype = 'e'))
FROM pg_namespace n WHERE n.nspname = %s
"""

_OBJECTS = """
SELECT ARRAY(SELECT c.oid::bigint FROM pg_class c WHERE c.relnamespace = ANY(own.oids)) AS relations,
       ARRAY(SELECT t.oid::bigint FROM pg_type t WHERE t.typnamespace = ANY(own.oids)) AS types,
       ARRAY(SELECT k.oid::bigint FROM pg_constraint k WHERE k.connamespace = ANY(own.oids)) AS constraints,
       ARRAY(SELECT d.oid::bigint FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
             WHERE c.relnamespace = ANY(own.oids) AND a.attgenerated = '') AS defaults,
       ARRAY(SELECT d.oid::bigint FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
             WHERE c.relnamespace = ANY(own.oids) AND a.attgenerated <> '') AS generated
FROM (SELECT array_agg(oid) AS oids FROM pg_namespace WHERE nspname = ANY(%s)) AS own
"""


def require_empty(connection: psycopg.Connection[Any], schema: str) -> None:
    """`RequestRejected` when the schema holds anything but parts of extensions; made when it is not there.

    Functions and operators count: what is in the schema is found before anything of the same name elsewhere.
    """
    row = connection.execute(_HELD, (schema,)).fetchone()
    if row is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    elif row[0]:
        raise RequestRejected(
            f"schema {schema!r} of the target already holds {row[0]} tables, views, sequences, types, functions or "
            "operators; restore into an empty database, or give another schema",
            field="--schema",
        )


def require_columns(connection: psycopg.Connection[Any], tables: Iterable[LoadTable], schema: str) -> None:
    """`RequestRejected` unless each table is one in its schema with the columns of its files and no others.

    A name without a schema could be that of a system catalog, and a column without a value would get its default.
    """
    for table in tables:
        row = connection.execute(
            "SELECT n.nspname, ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)",
            (table.relation,),
        ).fetchone()
        expected = (table.schema or schema, sorted(column.name for column in table.columns))
        if row is None or (row[0], sorted(row[1])) != expected:
            raise RequestRejected(
                f"table {table.table} has other columns than its files, or its name stands for another table in the "
                "target; nothing was kept",
                field="PACKAGE",
            )


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Oids of what is in some schemas."""

    relations: frozenset[int]
    types: frozenset[int]
    constraints: frozenset[int]
    defaults: frozenset[int]
    generated: frozenset[int]

    def without(self, others: Objects) -> Objects:
        return Objects(**{one.name: getattr(self, one.name) - getattr(others, one.name) for one in fields(self)})


def objects_in(connection: psycopg.Connection[Any], schemas: Collection[str]) -> Objects:
    """All of them, parts of extensions too."""
    row = connection.execute(_OBJECTS, (list(schemas),)).fetchone()
    assert row is not None
    return Objects(**{one.name: frozenset(oids) for one, oids in zip(fields(Objects), row, strict=True)})


def require_own(
    connection: psycopg.Connection[Any], made: Objects, schemas: Collection[str], extensions: Collection[str]
) -> None:
    """`RequestRejected` when something of ``made`` refers to what is neither in ``schemas``, nor PostgreSQL's, nor of
    ``extensions``, or has an expression that calls what it may not.
    """
    values = made.defaults | made.generated
    references = DdlReader(connection).references(
        defaults=values, constraints=made.constraints, relations=made.relations, types=made.types
    )
    for needed in (one for found in references.values() for one in found):
        if _foreign(needed, schemas, extensions):
            raise _refused(f"refers to {needed.identity}, which is neither PostgreSQL's nor of an extension it names")
    called = called_functions(
        connection, defaults=values, constraints=made.constraints, indexes=made.relations, types=made.types
    )
    given = made.defaults | made.types
    for owner, functions in called.items():
        problem = objection(functions, default=owner in given) or _unnamed(functions, extensions)
        if problem is not None:
            raise _refused(f"calls {problem}")


def _foreign(needed: Reference, schemas: Collection[str], extensions: Collection[str]) -> bool:
    if needed.extension is not None:
        return needed.extension not in extensions
    return needed.kind != "pg_namespace" and needed.schema not in {None, "pg_catalog", "pg_toast", *schemas}


def _unnamed(functions: Iterable[CalledFunction], extensions: Collection[str]) -> str | None:
    for function in functions:
        if function.extension is not None and function.extension not in extensions:
            return f"{function.signature} of extension {function.extension}, which the package does not name"
    return None


def _refused(problem: str) -> RequestRejected:
    return RequestRejected(
        f"an expression or a column of the package {problem}; no row was loaded and nothing was kept", field="PACKAGE"
    )
