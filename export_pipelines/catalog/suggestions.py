"""Relations that `reflect` only suggests, as comments in the catalog's YAML; without ``# `` they count.

They go through the YAML writer under a key with a mark, which no name of a catalog can have, and become comments in its
lines; so they are spelled as everything else in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from export_pipelines.catalog.naming import slug

Remarked = tuple[str, str, str]  # table, its columns, the other table; or table, "tenant", ""
_MARK = "SUGGESTED-"  # keys of tables and relations that `reflect` makes up are in lower case
_HEADING = '  # Commented out are relations that only the names of columns suggest. To accept one, delete its "# ".\n\n'


def with_suggestions(entries: Mapping[str, Any], suggested: Mapping[str, Any]) -> dict[str, Any]:
    """The catalog's entries of tables together with the relations that only the suggested ones have, marked."""
    merged = dict(entries)
    for name in suggested:
        entry = entries[name]
        known = entry.get("relations", {})
        further = _further(known, suggested[name].get("relations", {}))
        if further and known:
            marked = {_MARK + key: line for key, line in further.items()}
            merged[name] = entry | {"relations": _sorted(known | marked)}
        elif further:
            merged[name] = entry | {f"{_MARK}relations": further}
    return _sorted(merged)


def _further(known: Mapping[str, Any], suggested: Mapping[str, Any]) -> dict[str, Any]:
    """Relations that are not among those known by another name; a name is taken once."""
    places = [{**line, "nest_as": None} for line in known.values()]
    further: dict[str, Any] = {}
    for key, line in suggested.items():
        if {**line, "nest_as": None} not in places:
            further[slug(key, taken={*known, *further})] = line
    return further


def comment_suggestions(lines: Iterable[str]) -> Iterator[str]:
    """The lines with marked entries, and all that is inside them, as comments; a heading above the tables."""
    inside = None  # indentation of the entry that is being commented
    for line in lines:
        indent = len(line) - len(line.lstrip(" "))
        if inside is not None and indent <= inside:
            inside = None
        if inside is None and line.startswith(_MARK, indent):
            inside = indent
            line = line.replace(_MARK, "", 1)  # noqa: PLW2901
        commented = line if inside is None else f"{line[:inside]}# {line[inside:]}"
        yield commented + _HEADING if line.startswith("tables:") else commented


def with_remarks(lines: Iterable[str], remarks: Mapping[Remarked, str]) -> Iterator[str]:
    """The lines with comments behind tenants and relations, be they commented out or not."""
    table = ""
    for line in lines:
        if found := re.match(r"  ([a-z_][a-z0-9_]*):", line):
            table = found[1]
        named = re.match(r" +(?:# )?[a-z0-9_]+: \{columns: \[(.*?)\], references: ([a-z0-9_]+), ", line)
        owner = re.match(r"    tenant: \{column: .*(?=\}$)", line)
        if named and (remark := remarks.get((table, named[1], named[2]))):
            yield f"{line.rstrip()}  # {remark}\n"
        elif owner and (remark := remarks.get((table, "tenant", ""))):
            yield f"{owner[0]}, null_is_shared: false}}  # {remark}\n"
        else:
            yield line


def starts_entry(line: str) -> bool:
    """Whether a line of the block of tables begins a table, suggested or not."""
    return re.match(r"  (# )?[^ #]", line) is not None


def _sorted(entries: Mapping[str, Any]) -> dict[str, Any]:
    return dict(sorted(entries.items(), key=lambda item: item[0].removeprefix(_MARK)))
