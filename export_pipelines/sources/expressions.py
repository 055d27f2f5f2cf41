"""Which functions the expressions of carried tables may call: of defaults, checks, generated columns and indexes.

PostgreSQL evaluates them while rows are loaded, with all rights of whoever restores. So one rule decides twice: what a
package carries of its source, and, since a package may come from anybody, what `restore` finds in the target once the
tables are made and before there is a row. Functions are looked up as the database itself has resolved them, in the
stored expressions, so neither an operator, a cast nor another search path hides one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row


@dataclass(frozen=True, kw_only=True)
class CalledFunction:
    """A function that an expression calls."""

    owner: int  # oid of the default, constraint, index or type
    name: str
    signature: str
    built_in: bool  # in pg_catalog and of no extension
    extension: str | None
    volatile: bool
    plain: bool  # of values; no aggregate, no procedure, nothing that returns a set or takes what SQL has no value for
    public: bool  # every role may call it


# Volatile functions that do nothing but answer.
_ANSWERING = {
    *("clock_timestamp", "timeofday", "random", "random_normal", "gen_random_uuid", "uuidv4", "uuidv7"),
    *("gen_random_bytes", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4"),
}
_OF_SEQUENCES = {"nextval", "currval", "lastval"}  # a default is never evaluated in a restore, everything else is
# They are stable, and read or call what a text names.
_BY_NAME = ("table_to_xml", "schema_to_xml", "database_to_xml", "pg_input_is_valid", "pg_input_error_info")

_CALLED = """
WITH expressions(owner, tree) AS (
    SELECT oid, adbin::text FROM pg_attrdef WHERE oid = ANY(%(defaults)s)
    UNION ALL SELECT oid, conbin::text FROM pg_constraint WHERE oid = ANY(%(constraints)s)
    UNION ALL SELECT indexrelid, concat(indexprs::text, indpred::text) FROM pg_index WHERE indexrelid = ANY(%(indexes)s)
    UNION ALL SELECT oid, typdefaultbin::text FROM pg_type WHERE oid = ANY(%(types)s)
), called AS (
    SELECT DISTINCT owner, found[1]::oid AS function
    FROM expressions, regexp_matches(tree, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS found
    UNION SELECT rngtypid, unnest(ARRAY[rngsubdiff, rngcanonical]::oid[]) FROM pg_range WHERE rngtypid = ANY(%(types)s)
)
SELECT c.owner::bigint, p.proname::text AS name, p.oid::regprocedure::text AS signature,
       n.nspname = 'pg_catalog' AND e.extname IS NULL AS built_in, e.extname AS extension,
       p.provolatile = 'v' AS volatile, p.prokind = 'f' AND NOT p.proretset
           AND NOT p.proargtypes::oid[] && '{cstring,internal}'::regtype[]::oid[] AS plain,
       has_function_privilege('public', p.oid, 'EXECUTE') AS public
FROM called c
JOIN pg_proc p ON p.oid = c.function
JOIN pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_extension e ON e.oid = d.refobjid
ORDER BY 1, 3
"""


def called_functions(
    connection: psycopg.Connection[Any],
    *,
    defaults: Iterable[int] = (),
    constraints: Iterable[int] = (),
    indexes: Iterable[int] = (),
    types: Iterable[int] = (),
) -> dict[int, list[CalledFunction]]:
    """By the oid of whoever calls: rows of pg_attrdef, pg_constraint, pg_index and pg_type."""
    asked = {"defaults": defaults, "constraints": constraints, "indexes": indexes, "types": types}
    found: dict[int, list[CalledFunction]] = defaultdict(list)
    with connection.cursor(row_factory=class_row(CalledFunction)) as cursor:
        for function in cursor.execute(_CALLED, {name: list(oids) for name, oids in asked.items()}):
            found[function.owner].append(function)
    return found


def objection(functions: Iterable[CalledFunction], *, default: bool) -> str | None:
    """Why an expression is not carried, or None; ``default``: only rows to come are given its value."""
    for function in functions:
        problem = _objection(function, default=default)
        if problem is not None:
            return f"{function.signature}, {problem}"
    return None


def _objection(function: CalledFunction, *, default: bool) -> str | None:
    if not function.built_in and function.extension is None:
        return "a function of the application"
    if not function.plain:
        return "which is no plain function"
    if not function.public:
        return "which PostgreSQL lets not everybody call"
    if function.built_in and function.name.startswith(_BY_NAME):
        return "which reaches what a text names"
    allowed = _ANSWERING | _OF_SEQUENCES if default else _ANSWERING
    if function.volatile and function.name not in allowed:
        return "which may do more than answer"
    return None
