"""The scripts of a migration package, and the one way in which rows of its files get into tables.

`restore` and the script for psql load alike: straight into the table where PostgreSQL takes what the file holds, else
through a temporary table, since a file has JSON where the table has an array and values where the database computes
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from export_pipelines.core.migration import (
    CONSTRAINTS_FILE,
    LOAD_FILE,
    SCHEMA_FILE,
    ExtensionStatement,
    LoadTable,
    MigrationScripts,
    quoted,
)
from export_pipelines.core.model import ExportFile, ExportPlan
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.session_settings import SETTINGS
from export_pipelines.packaging.codecs import codec_of_file
from export_pipelines.packaging.ddl_statements import ScriptReader, Statement
from export_pipelines.packaging.ddl_tokens import refused

if TYPE_CHECKING:
    from export_pipelines.packaging.manifest_reading import ReadMigration

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
    """The scripts by name. psql reads CSV only, so a package of Parquet has none for it.

    `RequestRejected` when a script has a statement that `restore` would refuse: such a package would be of no use.
    """
    about = f"-- Tables of export {plan.request_id}. Left out are what manifest.json lists under migration.left_out.\n"
    made = {SCHEMA_FILE: f"{about}{_script(scripts.before)}", CONSTRAINTS_FILE: f"{about}{_script(scripts.after)}"}
    read_scripts(made, scripts)
    if plan.format == "csv" and has_load_script(scripts):
        made[LOAD_FILE] = _load_script(scripts, list(files))
    return {name: text.encode() for name, text in made.items()}


def has_load_script(scripts: MigrationScripts) -> bool:
    """Whether psql can load the tables: a command of it ends with the line, even inside a name."""
    names = [name for table in scripts.tables for name in (table.relation, *(c.name for c in table.columns))]
    return not any("\n" in name or "\r" in name for name in names)


@dataclass(frozen=True, kw_only=True)
class ReadScripts:
    """Scripts of which every statement is one that a package may hold."""

    before: list[Statement]
    after: list[Statement]
    optional: list[tuple[ExtensionStatement, Statement]]


def read_scripts(texts: Mapping[str, str], described: MigrationScripts | ReadMigration) -> ReadScripts:
    """The statements of the scripts (text by file name) and of the manifest, checked.

    `RequestRejected` names file and line of a statement that this program does not write, of a table to load that no
    statement makes, and of what is no type.
    """
    reader = ScriptReader(described.other_schemas)
    before = reader.schema(texts[SCHEMA_FILE], SCHEMA_FILE)
    for table in described.tables:
        if (table.schema, table.name) not in reader.tables:
            raise refused(MANIFEST, 1, f"rows of table {table.relation}, which {SCHEMA_FILE} does not make")
        for column in table.columns:
            reader.require_type(column.type, f"{MANIFEST} (type of {table.table}.{column.name})")
    after = reader.constraints(texts[CONSTRAINTS_FILE], CONSTRAINTS_FILE)
    optional = []
    for entry in described.optional:
        where = f"{MANIFEST} (statement of {entry.what})"
        found = reader.constraints(entry.statement, where)
        if len(found) != 1:
            raise refused(where, 1, f"{len(found)} statements for one")
        optional.append((entry, found[0]))
    return ReadScripts(before=before, after=after, optional=optional)


def migration_account(scripts: MigrationScripts) -> dict[str, Any]:
    """What the manifest says: all but the statements of the scripts."""
    return {
        "schema": scripts.schema,
        "other_schemas": list(scripts.other_schemas),
        "extensions": list(scripts.extensions),
        "load_order": [table.table for table in scripts.tables],
        "tables": [asdict(table) for table in scripts.tables],
        "optional": [asdict(statement) for statement in scripts.optional],
        "left_out": [asdict(left) for left in scripts.left_out],
    }


def _script(statements: Iterable[str]) -> str:
    return "".join(f"\n{statement};\n" for statement in statements)


def _load_script(scripts: MigrationScripts, files: list[ExportFile]) -> str:
    lines = [
        "-- psql runs every line of this file, of schema.sql and of constraints.sql with all rights of its login, and",
        "-- programs of this machine with yours. Trust them first: export-pipelines verify . --keys keys.json",
        "-- In the folder of the package: psql -X -d empty_database -f load.sql  (-v schema=name for another schema)",
        "-- All or nothing. `export-pipelines restore` reads every statement first, runs no others than packages are",
        "-- made of, and compares the rows with the manifest.",
        "-- psql before 18 cannot load a value with a line \\. and stops there: unterminated CSV quoted field.",
        "\\set ON_ERROR_STOP on",
        f"\\if :{{?schema}}\n\\else\n\\set schema {_in_psql(scripts.schema)}\n\\endif",
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;",
        *(f"{statement};" for statement in READING),
        'CREATE SCHEMA IF NOT EXISTS :"schema";',
        *(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)};" for schema in scripts.other_schemas),
        _path_in_psql(scripts),
        f"\\ir {SCHEMA_FILE}",
        f"{ARRAY_FUNCTION};",
    ]
    for table in scripts.tables:
        lines += ["", *(f"{statement};" for statement in before_copy(table))]
        own = [(file, part) for file in files for part in file.parts if part.table == table.table]
        lines += [_copy(table, file) for file, _ in own]
        lines += [f"{statement};" for statement in after_copy(table)]
        lines.append(f"{_require_rows(table, sum(part.rows for _, part in own))};")
    lines += ["", f"\\ir {CONSTRAINTS_FILE}"]
    for number, optional in enumerate(scripts.optional):
        lines += ["", *_where_installed(number, optional)]
    return "\n".join([*lines, "COMMIT;", ""])


def _path_in_psql(scripts: MigrationScripts) -> str:
    """Extensions are found in whichever schema the database has them."""
    names = {*scripts.extensions, *(name for optional in scripts.optional for name in optional.extensions)}
    schemas = (
        "SELECT string_agg(DISTINCT quote_ident(nspname), ', ') FROM pg_extension JOIN pg_namespace n "  # noqa: S608
        f"ON n.oid = extnamespace WHERE extname IN ({_listed(names)}) AND nspname <> :'schema'"
    )
    return f"SELECT set_config('search_path', concat_ws(', ', quote_ident(:'schema'), ({schemas}), 'pg_temp'), true);"


def _where_installed(number: int, optional: ExtensionStatement) -> Iterator[str]:
    names, count = _listed(optional.extensions), len(optional.extensions)
    yield f"SELECT count(*) = {count} AS installed FROM pg_extension WHERE extname IN ({names}) \\gset"  # noqa: S608
    yield "\\if :installed"
    yield f"{optional.statement};"
    yield f"\\else\n\\echo left out for want of an extension: entry {number} of migration.optional in manifest.json"
    yield "\\endif"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(["NULL", *(_in_psql(name) for name in sorted(names))])


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
