"""The documents of a package for tools: datapackage.json, and SHA256SUMS for `sha256sum -c`.

The one for people is `export_pipelines.packaging.readme`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.escaping import neutralise
from export_pipelines.core.measures import Figures
from export_pipelines.core.model import ExportFile, ExportPlan, FilePart, Stage, StagedTable
from export_pipelines.core.types import Kind, kind_of
from export_pipelines.core.windows import UNDATED
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.packaging.fidelity import carried_as_text
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
EVERY_TABLE = "No table of the database is left out."
_ANY_FORMAT = {Kind.TIMESTAMP, Kind.INSTANT}


def checksums(files: Iterable[ExportFile]) -> bytes:
    """One ``<sha256>  <path>`` line a file, as coreutils write and read them."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in files).encode()


def datapackage(
    plan: ExportPlan, catalog: Catalog, stage: Stage, files: Iterable[ExportFile], *, joinable: bool
) -> dict[str, Any]:
    """A Frictionless Data Package (version 2) descriptor of the data files.

    The files of a table are one resource where they are ``joinable`` (`FormatSpec.joinable`), else one each.
    """
    held: dict[str, list[tuple[ExportFile, FilePart]]] = {}
    for file in files:
        for part in file.parts:
            if not part.route:
                held.setdefault(part.table, []).append((file, part))
    described = _Described(plan=plan, catalog=catalog, stage=stage)
    return {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": f"export-{plan.request_id}",
        "title": plan.name,
        "description": " ".join(sentences_beside(stage.omissions)) or EVERY_TABLE,
        "created": plan.requested_at.isoformat(),
        "resources": [
            resource
            for table, parts in held.items()
            for resource in described.resources(table, parts, joinable=joinable)
        ],
    }


@dataclass(frozen=True, kw_only=True)
class _Described:
    """What the resources of a package are made from."""

    plan: ExportPlan
    catalog: Catalog
    stage: Stage

    def resources(
        self, table: str, parts: Sequence[tuple[ExportFile, FilePart]], *, joinable: bool
    ) -> Iterator[dict[str, Any]]:
        """One for all files of a table, or one for each; the first says what the table is."""
        (staged,) = (one for one in self.stage.tables if one.table == table)
        (selection,) = (one for one in self.plan.selections if one.table == table)
        chosen = narrowing(selection, self.catalog)
        holds = [f"Holds {chosen}."] if chosen else []
        description = {"description": " ".join([*holds, *sentences(self.stage.omissions.of(table))])}
        shape = self.catalog.shape(table, staged.aggregation)
        titles = header_titles(self.plan, shape, staged.columns)
        if joinable and len(parts) > 1 and _lines_can_be_told(titles):
            yield {
                "name": table.replace("_", "-").lower(),
                "path": [file.path for file, _ in parts],
                **self._form(parts[0][0]),
                **description,
                **self._schema(shape, staged, titles, rows=staged.rows, several=True),
            }
            return
        for number, (file, part) in enumerate(parts):
            yield {
                "name": _resource_name(file, part),
                "path": file.path,
                **self._form(file),
                "bytes": file.size_bytes,
                "hash": f"sha256:{file.sha256}",
                **(description if number == 0 else {}),
                **self._schema(shape, staged, titles, rows=part.rows, several=False),
            }

    def _form(self, file: ExportFile) -> dict[str, Any]:
        codec = CODECS.get(self.plan.compression) if self.plan.format == "csv" else None
        return {
            "mediatype": file.media_type,
            "format": self.plan.format,
            "encoding": "utf-8",
            **({"compression": codec.descriptor} if codec else {}),
        }

    def _schema(
        self, table: Table | Figures, staged: StagedTable, titles: list[str], *, rows: int, several: bool
    ) -> dict[str, Any]:
        """The columns of a CSV file. Of several files, and of one without rows, titles are what tells columns apart."""
        if self.plan.format != "csv":
            return {}
        schema, dialect = table_schema(table, staged), _dialect(table, staged, titles)
        if several:
            dialect = {name: value for name, value in dialect.items() if name == "skipBlankRows"}
        if rows == 0 or several:
            schema = _renamed(schema, dict(zip(staged.columns, titles, strict=True)))
        if rows == 0:
            dialect = {}
        return {"type": "table", "schema": schema, **({"dialect": dialect} if dialect else {})}


def _lines_can_be_told(titles: Sequence[str]) -> bool:
    """Whether the first line of a file is its header, and tells all columns apart."""
    return len(set(titles)) == len(titles) and not any(set(title) & {"\n", "\r"} or not title for title in titles)


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
