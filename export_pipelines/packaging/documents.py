"""The package documents in a package: README for people, datapackage.json for tools, SHA256SUMS for `sha256sum -c`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.escaping import neutralise
from export_pipelines.core.measures import Figures
from export_pipelines.core.migration import LOAD_FILE, MigrationScripts
from export_pipelines.core.model import ExportFile, ExportPlan, FilePart, Stage, StagedTable
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.core.windows import UNDATED
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.packaging.fidelity import carried_as_text
from export_pipelines.packaging.migration_scripts import has_load_script
from export_pipelines.packaging.omissions import sentences, sentences_beside
from export_pipelines.packaging.selections import narrowing

_FRICTIONLESS = {
    Kind.BOOLEAN: "boolean",
    Kind.INTEGER: "integer",
    Kind.FLOAT: "number",
    Kind.DECIMAL: "number",
    Kind.NUMERIC: "number",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "datetime",
    Kind.INSTANT: "datetime",
}
_EVERY_TABLE = "No table of the database is left out."
_ANY_FORMAT = {Kind.TIMESTAMP, Kind.INSTANT}


def checksums(files: Iterable[ExportFile]) -> bytes:
    """One ``<sha256>  <path>`` line a file, as coreutils write and read them."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files).encode()


def datapackage(plan: ExportPlan, catalog: Catalog, stage: Stage, files: Iterable[ExportFile]) -> dict[str, Any]:
    """A Frictionless Data Package (version 2) descriptor of the data files."""
    return {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": f"export-{plan.request_id}",
        "title": plan.name,
        "description": " ".join(sentences_beside(stage.omissions)) or _EVERY_TABLE,
        "created": plan.requested_at.isoformat(),
        "resources": [resource for file in files for resource in _resources(file, plan, catalog, stage)],
    }


def _resources(file: ExportFile, plan: ExportPlan, catalog: Catalog, stage: Stage) -> Iterable[dict[str, Any]]:
    staged = {table.table: table for table in stage.tables}
    chosen = {selection.table: narrowing(selection, catalog) for selection in plan.selections}
    for part in file.parts:
        if part.route:
            continue
        table = catalog.shape(part.table, staged[part.table].aggregation)
        resource: dict[str, Any] = {
            "name": _resource_name(file, part),
            "path": file.path,
            "mediatype": file.media_type,
            "format": plan.format,
            "bytes": file.size_bytes,
            "hash": f"sha256:{file.sha256}",
            "encoding": "utf-8",
        }
        holds = [f"Holds {chosen[part.table]}."] if chosen[part.table] else []
        resource["description"] = " ".join([*holds, *sentences(stage.omissions.of(part.table))])
        if plan.format == "csv":
            schema = table_schema(table, staged[part.table])
            resource |= {"type": "table", "schema": schema}
            titles = header_titles(plan, table, staged[part.table].columns)
            if part.rows == 0:  # without rows there is nothing but titles to tell the columns by
                resource["schema"] = _renamed(schema, dict(zip(staged[part.table].columns, titles, strict=True)))
            elif dialect := _dialect(table, staged[part.table], titles):
                resource["dialect"] = dialect
            if plan.compression in CODECS:
                resource["compression"] = CODECS[plan.compression].descriptor
        yield resource


def _resource_name(file: ExportFile, part: FilePart) -> str:
    """The table's name, with what tells this file from others of the table: its period and number."""
    _, _, rest = file.path.rpartition("/")[2].partition(".")
    own = [piece for piece in rest.split(".") if piece[:1].isdigit() or piece == UNDATED]
    sheet = ["sheet"] if len(file.parts) > 1 else []
    return "-".join([part.table.replace("_", "-"), *sheet, *own]).lower()


def header_titles(plan: ExportPlan, table: Table | Figures, names: Iterable[str]) -> list[str]:
    """What the header of a CSV file calls the columns, as tools see it: without blanks around."""
    labels = plan.format_options.get("headers") == "labels"
    titles = [(table.columns[name].label if labels else None) or name for name in names]
    if plan.format_options.get("csv_profile") == "excel":
        titles = [neutralise(title) for title in titles]
    return [title.strip() for title in titles]


def _dialect(table: Table | Figures, staged: StagedTable, titles: list[str]) -> dict[str, Any]:
    """What a tool has to know of a CSV file to read each of its columns, and to take no row for a mistake."""
    dialect: dict[str, Any] = {}
    if titles != list(staged.columns):  # columns go by their place
        dialect |= {"header": False, "commentRows": [1]}
    if _may_be_blank(table, staged):
        dialect["skipBlankRows"] = True  # a word of Frictionless, whose validation allows no such row
    return dialect


def _renamed(schema: dict[str, Any], titles: dict[str, str]) -> dict[str, Any]:
    fields = [field | {"name": titles[field["name"]]} for field in schema["fields"]]
    keys = {"primaryKey": [titles[name] for name in schema["primaryKey"]]} if "primaryKey" in schema else {}
    return schema | {"fields": fields} | keys


def _may_be_blank(table: Table | Figures, staged: StagedTable) -> bool:
    """Whether all cells of some row may be empty: no column has a value in every row, unless it is the empty text."""
    return staged.rows > 0 and not any(
        staged.aggregates.columns[name].non_null == staged.rows
        and table.form_of(name, staged.as_text).kind is not Kind.TEXT
        for name in staged.columns
    )


def _blank_lines(plan: ExportPlan, stage: Stage) -> list[str]:
    """Of tables with one column, where a row without a value is a line without anything."""
    if plan.format != "csv":
        return []
    found = [(table.table, table.rows - _values(table)) for table in stage.tables if len(table.columns) == 1]
    return [
        f"`{name}` has {blank:,} empty lines, which are rows whose only value is NULL. Ask readers to count them: "
        "pandas with `skip_blank_lines=False`, pyarrow with `ignore_empty_lines=False`."
        for name, blank in found
        if blank
    ]


def _values(table: StagedTable) -> int:
    return sum(table.aggregates.columns[name].non_null for name in table.columns)


def table_schema(table: Table | Figures, staged: StagedTable) -> dict[str, Any]:
    """A Frictionless Table Schema."""
    fields = []
    for field in table.arrow_schema(staged.columns, staged.as_text):
        kind = kind_of(field)
        entry: dict[str, Any] = {"name": field.name, "type": _FRICTIONLESS.get(kind, "string")}
        if kind in _ANY_FORMAT:
            entry["format"] = "any"
        if table.columns[field.name].description:
            entry["description"] = table.columns[field.name].description
        if not field.nullable and kind is not Kind.TEXT:
            entry["constraints"] = {"required": True}
        fields.append(entry | carried_as_text(table, staged, field.name))
    schema: dict[str, Any] = {"fields": fields, "missingValues": [""]}
    if table.primary_key and set(table.primary_key) <= set(staged.columns):
        schema["primaryKey"] = list(table.primary_key)
    return schema


def readme(plan: ExportPlan, catalog: Catalog, stage: Stage, files: tuple[ExportFile, ...]) -> bytes:
    """What is here, how it was made and how to check it, for people."""
    lines = [
        f"# {plan.name}",
        "",
        f"Export {plan.request_id} for tenant {plan.scope.tenant_id}, from {catalog.title or catalog.name}.",
        _moment(plan, stage),
        "",
        "| File | Rows | Bytes | Holds |",
        "|---|---:|---:|---|",
    ]
    for file in files:
        held = ", ".join(f"{part.table} ({part.rows:,})" for part in file.parts)
        lines.append(f"| {file.path} | {file.rows:,} | {file.size_bytes:,} | {held} |")
    lines += ["", "## Tables", ""]
    for selection in plan.selections:
        table = catalog.shape(selection.table, selection.aggregation)
        lines += [f"### {selection.table}", "", table.description or "", ""]
        if chosen := narrowing(selection, catalog):
            lines += [f"Holds {chosen}.", ""]
        lines += ["What is left out:", "", *_bullets(sentences(stage.omissions.of(selection.table))), ""]
        lines += ["Columns:", ""]
        lines += [
            f"- `{name}` ({table.columns[name].type}) {table.columns[name].description or ''}".rstrip()
            for name in selection.columns
        ]
        lines.append("")
    beside = list(sentences_beside(stage.omissions))
    lines += ["## Tables that are not in it", "", *_bullets(beside or [_EVERY_TABLE]), ""]
    if stage.migration is not None:
        lines += _loading(plan, stage.migration)
    lines += [
        "## Values",
        "",
        "Instants are UTC. In text files NULL and the empty text differ: see the format's notes in the documentation.",
        "Columns that the format has no exact value for are listed in `manifest.json`, under `fidelity` of a table.",
        *_blank_lines(plan, stage),
        "",
        "## Check it",
        "",
        "- `sha256sum -c SHA256SUMS` checks every file.",
        "- `export-pipelines verify .` also counts and re-reads every row.",
        "- `manifest.json` says where each row came from and, under `left_out`, what is not here; `datapackage.json`",
        "  describes the files to tools.",
        "",
    ]
    return "\n".join(lines).encode()


def _bullets(lines: Iterable[str]) -> Iterable[str]:
    return (f"- {line}" for line in lines)


def _moment(plan: ExportPlan, stage: Stage) -> str:
    if not stage.parts:
        return f"All tables show the database as it was at {stage.snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC."
    first, last = (find(part.snapshot.taken_at for part in stage.parts) for find in (min, max))
    return (
        f"Tables show the database as it was materialised at or before {plan.point_in_time:%Y-%m-%d %H:%M:%S} UTC, "
        f"each part at its own moment between {first:%Y-%m-%d %H:%M:%S} and {last:%Y-%m-%d %H:%M:%S} UTC: not one "
        "consistent state. `manifest.json` lists every part under `source`."
    )


def _loading(plan: ExportPlan, scripts: MigrationScripts) -> list[str]:
    lines = [
        "## Into another database",
        "",
        "- `export-pipelines restore . --url postgresql://… --keys keys.json` makes the tables, loads and compares.",
    ]
    if plan.format == "csv" and has_load_script(scripts):
        lines.append(
            f"- `psql -X -d database -f {LOAD_FILE}` in this folder does so without this program. It runs whatever the "
            "scripts say: check the signature first, and use a login that is no superuser."
        )
    if scripts.extensions:
        lines.append(f"- The database needs the extensions {', '.join(scripts.extensions)}.")
    lines += [
        f"- {optional.table}: {optional.what} comes with the extensions {', '.join(optional.extensions)} alone."
        for optional in scripts.optional
    ]
    if scripts.left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {f'{left.table}: ' if left.table else ''}{left.what}, {left.reason}" for left in scripts.left_out]
    return [*lines, ""]
