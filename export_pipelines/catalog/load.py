"""The catalog as a file: reading it, writing it, and its published JSON Schema.

What a catalog means is decided in `core.catalog`; this module only moves it between YAML and that model, and
says where in the file a problem sits.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from export_pipelines.catalog.suggestions import (
    Remarked,
    comment_suggestions,
    starts_entry,
    with_remarks,
    with_suggestions,
)
from export_pipelines.core.catalog import (
    Canary,
    Catalog,
    Column,
    Partition,
    Relation,
    Table,
    TenantPath,
    TenantRoot,
    Withheld,
)
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.grains import Grain

Location = tuple[str | int, ...]  # keys and list positions from the top of the file

_MODELS: tuple[type[BaseModel], ...] = (
    Catalog, TenantRoot, Canary, Table, Withheld, TenantPath, Column, Relation, Partition,
)  # fmt: skip
_BOOLEAN_TAG = "tag:yaml.org,2002:bool"
_TIMESTAMP_TAG = "tag:yaml.org,2002:timestamp"
_BLOCKS = ("tables", "excluded", "tenant")  # start after an empty line
_ONE_LINE = 1_000_000  # characters; a column stays on one line however long its description is
_CONTAINER = "[key]"  # pydantic's mark for "the key itself is wrong"


_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads a large catalog 8 × faster


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]
    """Safe YAML where only true and false are booleans, so that a column may be called ``no`` or ``on``.

    Dates stay text, so that a wrong one is reported with its place like any other value.
    """


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOLEAN_TAG, _TIMESTAMP_TAG)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN_TAG, re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


class _Line(list[str]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _flow(dumper: _Dumper, data: _Flow) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


def _line_of(dumper: _Dumper, data: _Line) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _text(dumper: _Dumper, data: str) -> yaml.Node:
    # Other styles fold at line breaks, and the empty lines between tables are put in line by line.
    style = '"' if re.search(r"[\r\n\x85\u2028\u2029]", data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(_Flow, _flow)
_Dumper.add_representer(_Line, _line_of)
_Dumper.add_representer(str, _text)


def load_catalog(path: Path) -> Catalog:
    """The catalog in a YAML file.

    Raises `RequestRejected` naming the file and, for every problem found, its line and YAML path.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RequestRejected(
            f"catalog {path} does not exist; write one with `export-pipelines catalog init`"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRejected(f"catalog {path} cannot be read as UTF-8 text: {error}") from error
    return parse_catalog(text, path)


@lru_cache(maxsize=4)  # a process asks for the same file several times, and a catalog does not change
def parse_catalog(text: str, path: Path) -> Catalog:
    """The catalog in this text, which is, or is to be, the file's; errors as of `load_catalog`."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        duplicates = [*_duplicates(root)] if root else []
        content = loader.construct_document(root) if root else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestRejected(f"catalog {path} is not valid YAML: {_one_line(error)}") from error
    if duplicates:
        raise _rejected(path, duplicates)
    if not isinstance(content, dict):
        raise RequestRejected(f"catalog {path} is not a mapping; it needs at least name, tenant and tables")
    if content.get("excluded", ...) is None:  # the last line below it was deleted
        del content["excluded"]
    try:
        return Catalog.model_validate(content)
    except ValidationError as error:
        raise _rejected(path, [_problem(root, detail) for detail in error.errors(include_url=False)]) from error


def dump_catalog(
    catalog: Catalog, *, suggested: Catalog | None = None, remarks: Mapping[Remarked, str] | None = None
) -> str:
    """The catalog as YAML for people: defaults left out, one line for each column; `load_catalog` gives it back.

    Relations that only ``suggested`` has are there as comments; ``remarks`` are comments at the end of lines.
    """
    content = catalog.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    content.pop("tables")
    content.pop("withheld", None)
    head: dict[str, Any] = {"version": catalog.version, **content}
    if "history_start" in head:
        head["history_start"] = catalog.history_start  # a plain YAML date, not quoted text
    described = {catalog.withheld_as(name): table.reason for name, table in catalog.withheld.items()}
    excluded = {name: reason for name, reason in head.pop("excluded", {}).items() if described.get(name) != reason}
    tables: dict[str, Table | Withheld] = {**catalog.tables, **catalog.withheld}
    head["tables"] = {name: table_entry(table) for name, table in sorted(tables.items())}
    if suggested is not None:
        further = {name: table_entry(table) for name, table in suggested.tables.items() if name in catalog.tables}
        head["tables"] = with_suggestions(head["tables"], further)
    if excluded:
        head["excluded"] = excluded
    lines: Iterable[str] = yaml_text(head).splitlines(keepends=True)
    lines = comment_suggestions(lines) if suggested is not None else lines
    return "".join(_with_air(with_remarks(lines, remarks or {})))


def yaml_text(content: Mapping[str, Any]) -> str:
    """A mapping as block YAML in the order it has, entries of `table_entry` as a catalog spells them."""
    return yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_ONE_LINE, default_flow_style=False
    )


def catalog_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a catalog file, for editors and for documentation."""
    schema = Catalog.model_json_schema(by_alias=True)
    del schema["properties"]["withheld"]  # in a file they are among the tables
    either = {"anyOf": [{"$ref": "#/$defs/Table"}, {"$ref": "#/$defs/Withheld"}]}
    schema["properties"]["tables"]["additionalProperties"] = either
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def table_entry(table: Table | Withheld) -> dict[str, Any]:
    """A table as a file has it: defaults left out, a line for each column, relation and other part."""
    entry = table.model_dump(exclude_defaults=True, mode="json")
    if isinstance(table, Withheld):
        entry = {"export": False, "reason": table.reason} | entry
    if "tenant" in entry:
        entry["tenant"] = _Flow(entry["tenant"])
    if "partition" in entry:  # a month is the partition's own default, but an empty mapping says nothing
        entry["partition"] = _Flow({"grain": Grain.MONTH.value, **entry["partition"]})
    for name in ("primary_key", "roles", "dimensions"):
        if name in entry:
            entry[name] = _Line(entry[name])
    for name in ("columns", "relations", "dimensions", "measures"):  # last, and an entry a line
        if name in entry:
            block = entry.pop(name)
            entry[name] = in_lines(block) if isinstance(block, dict) else block
    return entry


def in_lines(block: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns or relations as a file has them, a line each."""
    return {key: _Flow(value) for key, value in block.items()}


def _with_air(lines: Iterable[str]) -> Iterator[str]:
    """The lines with an empty one before each block and each table."""
    block = ""
    for line in lines:
        if not line.startswith(" "):
            block = line.partition(":")[0]
            if block in _BLOCKS:
                yield "\n"
            first = True
        elif block == "tables" and starts_entry(line):
            if not first:
                yield "\n"
            first = False
        yield line


def _duplicates(node: yaml.Node, at: Location = (), seen: frozenset[int] = frozenset()) -> Iterator[str]:
    if id(node) in seen:  # an alias that contains itself
        return
    seen |= {id(node)}
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            yield from _duplicates(item, (*at, position), seen)
    if isinstance(node, yaml.MappingNode):
        keys: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in keys:
                where = _dotted((*at, key.value))
                yield f"line {line}, {where}: is already given on line {keys[key.value]}; keep one of the two"
            keys.setdefault(key.value, line)
            yield from _duplicates(value, (*at, key.value), seen)


_NEVER_READ = ("updated_column", "append_only")  # keys of catalogs that were written before 0.1.0


def _problem(root: yaml.Node | None, detail: Any) -> str:
    """One problem of pydantic's as a sentence with its place in the file."""
    location: Location = tuple(part for part in detail["loc"] if part != _CONTAINER)
    key, given = location[-1] if location else "", detail["input"]
    message = str(detail["msg"]).removeprefix("Value error, ")
    match detail["type"]:
        case "missing":
            message = "is required; add it"
        case "extra_forbidden":
            known = sorted({name for model in _MODELS for name in _keys(model)})
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see docs/catalog.schema.json for the keys"
            message = f"is not a known key; {hint}" if key not in _NEVER_READ else "is never read; delete the line"
        case "value_error":
            pass
        case _ if isinstance(given, (str, int, float, bool)):
            message = f"{message}; it is {given!r}"
        case _ if given is None:
            message = f"{message}; it is empty"
    where = f"{_dotted(location)}: " if location else ""
    return f"line {_line(root, location)}, {where}{message}"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _line(node: yaml.Node | None, location: Location) -> int:
    """The line, from 1, of the deepest part of the location that the file has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _rejected(path: Path, problems: list[str]) -> RequestRejected:
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return RequestRejected("\n".join([f"catalog {path} has {count}:", *(f"  {problem}" for problem in problems)]))
