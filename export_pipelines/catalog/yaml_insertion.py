"""Puts new entries into mappings of a YAML file that a person edits, and leaves every other byte as it is.

Libraries that load and write again (ruamel.yaml) keep comments and quotes, but indent, space and wrap the file anew, so
that a review shows changes where there are none. Here the parser only says where a mapping ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

Path = tuple[str, ...]
_WIDTH = 1_000_000  # characters; an entry stays on one line


class NoPlace(ValueError):
    """The mapping is not in the file, or is written once and used in several places (an alias)."""


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Lines of block YAML, and the same as a mapping, to be put at the end of the mapping at ``path``."""

    path: Path  # keys from the top; the last one may be missing or empty
    lines: Sequence[str]  # not indented, without line breaks
    content: Mapping[str, Any]
    apart: bool = False  # after an empty line


@dataclass(frozen=True, kw_only=True)
class _Insertion:
    line: int  # from 0
    column: int
    depth: int  # of the mapping; where several end, the inner ones end first
    text: str


def insert_entries(text: str, entries: Iterable[Entries]) -> str:
    """The text with the entries; `NoPlace` where one cannot be put."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = text.splitlines(keepends=True)
    newline = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += newline
    shared = set(_shared(root))
    insertions = [_placed(root, entry, shared, newline) for entry in entries]
    # From the end, so that places before stay where they are; of several at one place, the last first.
    for insertion in sorted(insertions, key=lambda i: (i.line, i.column, -i.depth))[::-1]:
        if insertion.line == len(lines):
            lines.append("")
        line = lines[insertion.line]
        lines[insertion.line] = line[: insertion.column] + insertion.text + line[insertion.column :]
    return "".join(lines)


def _placed(root: yaml.Node | None, entry: Entries, shared: set[int], newline: str) -> _Insertion:
    node: yaml.Node | None = root
    for depth, key in enumerate(entry.path):
        assert isinstance(node, yaml.MappingNode)
        found = next(((k, value) for k, value in node.value if k.value == key), None)
        last = depth == len(entry.path) - 1
        if last and found is None:
            within = Entries(
                path=entry.path[:depth],
                lines=[f"{key}:", *(f"  {line}" if line else "" for line in entry.lines)],
                content={key: entry.content},
            )
            return _into(node, within, newline)
        if found is None or id(found[1]) in shared:
            raise NoPlace(".".join(entry.path))
        if last and not isinstance(found[1], yaml.MappingNode):  # the key with nothing behind it
            mark = found[0].end_mark
            return _block(mark.line + 1, found[0].start_mark.column + 2, entry, newline)
        node = found[1]
    assert isinstance(node, yaml.MappingNode)
    return _into(node, entry, newline)


def _into(node: yaml.MappingNode, entry: Entries, newline: str) -> _Insertion:
    if not node.flow_style:
        return _block(_last_line(node) + 1, node.value[0][0].start_mark.column, entry, newline)
    flow = yaml.safe_dump(
        dict(entry.content), default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDTH
    )
    inside = flow.strip()[1:-1]
    if node.value:
        mark = node.value[-1][1].end_mark
        return _Insertion(line=mark.line, column=mark.column, depth=len(entry.path), text=f", {inside}")
    mark = node.end_mark
    return _Insertion(line=mark.line, column=mark.column - 1, depth=len(entry.path), text=inside)


def _block(line: int, indent: int, entry: Entries, newline: str) -> _Insertion:
    written = [f"{' ' * indent}{part}".rstrip() + newline for part in entry.lines]
    text = "".join([newline, *written] if entry.apart else written)
    return _Insertion(line=line, column=0, depth=len(entry.path), text=text)


def _last_line(node: yaml.Node) -> int:
    """The line where the node's text ends; that of a block ends before comments and empty lines that follow."""
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        if not isinstance(last, tuple):
            return _last_line(last)
        key, value = last
        return max(int(key.end_mark.line), _last_line(value))
    if isinstance(node, yaml.ScalarNode) and node.style is None and not node.value:
        start: int = node.start_mark.line
        return start - 1 if node.start_mark.column == 0 else start
    ends_before = node.end_mark.column == 0 and node.end_mark.line > node.start_mark.line
    end: int = node.end_mark.line
    return end - 1 if ends_before else end


def _shared(node: yaml.Node | None, seen: set[int] | None = None) -> Iterator[int]:
    """Ids of the mappings that the file writes once and uses several times."""
    seen = set() if seen is None else seen
    if isinstance(node, (yaml.MappingNode, yaml.SequenceNode)):
        if id(node) in seen:
            yield id(node)
            return
        seen.add(id(node))
        for item in node.value:
            for part in item if isinstance(item, tuple) else (item,):
                yield from _shared(part, seen)
