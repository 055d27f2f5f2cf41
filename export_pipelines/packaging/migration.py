"""The scripts of a migration package, and the one way in which rows of its files get into tables.

`restore` and the script for psql load alike: straight into the table where PostgreSQL takes what the file holds, else
through a temporary table, since a file has JSON where the table has an array and values where the database computes
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from export_pipelines.core.migration import (
    CONSTRAINTS_FILE,
    LOAD_FILE,
    SCHEMA_FILE,
    LoadTable,
    MigrationScripts,
    quoted,
)
from export_pipelines.core.model import ExportFile, ExportPlan
from export_pipelines.core.session_settings import SETTINGS
from export_pipelines.packaging.codecs import codec_of_file

_STAGING = "pg_temp.export_load"
_DIALECT = "FORMAT csv, NULL '', ENCODING 'UTF8'"
_PROGRAMS = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "zstd": "zstd -dc"}

# What decides how the text of a value is read: the settings under which it was printed.
READING = tuple(f"SET LOCAL {name} = '{value}'" for name, value in SETTINGS.items() if name != "search_path")

# A JSON array as PostgreSQL's own; a text stands for one with bounds of its own. Not jsonb: numbers keep their digits.
ARRAY_FUNCTION = r"""CREATE FUNCTION pg_temp.export_array(value json)
RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN CASE json_typeof(value)
        WHEN 'string' THEN value #>> '{}'
        WHEN 'array' THEN '{' || coalesce((
            SELECT string_agg(CASE json_typeof(item.value)
                WHEN 'null' THEN 'NULL'
                WHEN 'array' THEN pg_temp.export_array(item.value)
                ELSE '"' || replace(replace(item.value #>> '{}', '\', '\\'), '"', '\"') || '"'
            END, ',' ORDER BY item.place)
            FROM json_array_elements(value) WITH ORDINALITY AS item(value, place)), '') || '}'
    END;
END $$"""


def before_copy(table: LoadTable) -> Iterator[str]:
    """Statements ahead of the rows of a table."""
    if not table.direct:
        columns = ", ".join(f"{quoted(c.name)} {'text' if c.array or c.generated else c.type}" for c in table.columns)
        yield f"CREATE TEMP TABLE export_load ({columns})"


def copy_target(table: LoadTable) -> str:
    """Where ``COPY`` puts the rows of its files."""
    columns = ", ".join(quoted(column.name) for column in table.columns)
    return f"{table.relation if table.direct else _STAGING} ({columns})"


def copy_statement(table: LoadTable) -> str:
    """Rows as CSV without a header."""
    return f"COPY {copy_target(table)} FROM STDIN WITH ({_DIALECT})"


def after_copy(table: LoadTable) -> Iterator[str]:
    """Statements behind the rows of a table."""
    if table.direct:
        return
    columns = ", ".join(quoted(column.name) for column in table.filled)
    values = ", ".join(
        f"pg_temp.export_array({quoted(c.name)}::json)::{c.type}" if c.array else quoted(c.name) for c in table.filled
    )
    yield f"INSERT INTO {table.relation} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {_STAGING}"  # noqa: S608 - quoted names
    yield f"DROP TABLE {_STAGING}"


def migration_files(plan: ExportPlan, scripts: MigrationScripts, files: Iterable[ExportFile]) -> dict[str, bytes]:
    """The scripts by name. psql reads CSV only, so a package of Parquet has none for it."""
    about = f"-- Tables of export {plan.request_id}. Left out are what manifest.json lists under migration.left_out.\n"
    made = {SCHEMA_FILE: f"{about}{_script(scripts.before)}", CONSTRAINTS_FILE: f"{about}{_script(scripts.after)}"}
    if plan.format == "csv":
        made[LOAD_FILE] = _load_script(scripts, list(files))
    return {name: text.encode() for name, text in made.items()}


def migration_account(scripts: MigrationScripts) -> dict[str, Any]:
    """What the manifest says: all but the statements."""
    return {
        "schema": scripts.schema,
        "other_schemas": list(scripts.other_schemas),
        "extensions": list(scripts.extensions),
        "load_order": [table.table for table in scripts.tables],
        "tables": [asdict(table) for table in scripts.tables],
        "left_out": [asdict(left) for left in scripts.left_out],
    }


def _script(statements: Iterable[str]) -> str:
    return "".join(f"\n{statement};\n" for statement in statements)


def _load_script(scripts: MigrationScripts, files: list[ExportFile]) -> str:
    lines = [
        "-- In the folder of the package: psql -d an_empty_database -f load.sql  (-v schema=name for another schema)",
        "-- All or nothing. `export-pipelines restore` does the same and compares the rows with the manifest.",
        "-- psql before 18 cannot load a value with a line \\. and stops there: unterminated CSV quoted field.",
        "\\set ON_ERROR_STOP on",
        f"\\if :{{?schema}}\n\\else\n\\set schema {_in_psql(scripts.schema)}\n\\endif",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;",
        *(f"{statement};" for statement in READING),
        'CREATE SCHEMA IF NOT EXISTS :"schema";',
        *(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};" for schema in scripts.other_schemas),
        'SET LOCAL search_path = :"schema";',
        f"\\ir {SCHEMA_FILE}",
        f"{ARRAY_FUNCTION};",
    ]
    for table in scripts.tables:
        lines += ["", *(f"{statement};" for statement in before_copy(table))]
        own = [(file, part) for file in files for part in file.parts if part.table == table.table]
        lines += [_copy(table, file) for file, _ in own]
        lines += [f"{statement};" for statement in after_copy(table)]
        lines.append(f"{_require_rows(table, sum(part.rows for _, part in own))};")
    return "\n".join([*lines, "", f"\\ir {CONSTRAINTS_FILE}", "COMMIT;", ""])


def _copy(table: LoadTable, file: ExportFile) -> str:
    codec = codec_of_file(file.path)
    source = _in_psql(file.path) if codec is None else f"PROGRAM {_in_psql(_unpacking(codec.name, file.path))}"
    return f"\\copy {copy_target(table)} FROM {source} WITH ({_DIALECT}, HEADER true)"


def _require_rows(table: LoadTable, rows: int) -> str:
    r"""psql before 18 takes a line ``\.`` for the end of a file, wherever it stands, and may not say so."""
    message = (
        f"{table.table}: not all {rows} rows of its files arrived, nothing is kept; psql before 18 stops at a value "
        "with a line \\.: take psql 18, or export-pipelines restore"
    )
    raised = f"RAISE EXCEPTION USING MESSAGE = {_in_psql(message)}"
    counted = f"(SELECT count(*) FROM {table.relation})"  # noqa: S608 - a quoted name
    check = f"BEGIN IF {counted} <> {rows} THEN {raised}; END IF; END"
    return f"DO {_in_psql(check)}"


def _unpacking(codec: str, path: str) -> str:
    return f"{_PROGRAMS[codec]} {shlex.quote(path)}"


def _in_psql(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
