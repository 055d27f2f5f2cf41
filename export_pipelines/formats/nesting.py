"""Child rows inside their parent's record: a transform of Arrow streams, above the writers.

Each parent gets one JSON column for each child table, an array of objects in the order of the child's primary key,
``[]`` where there are none; grandchildren sit inside the children. A row whose parent is not there, or whose key has
a NULL, is an orphan: it becomes a record of a document of its own, with its own descendants. So every row is in
exactly one document. Memory is bounded by a batch of parents with their descendants plus DuckDB's limit; the rest is
on disk in a scratch folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.formats.json_objects import object_text
from export_pipelines.formats.nest_sorting import ChildCursor, Matched, count_below, match, ordinals, spill
from export_pipelines.formats.rendering import by_position, frame_of

Batches = Callable[[], Iterator[pa.RecordBatch]]
Route = tuple[str, ...]  # field names from a document's root down to a nested table


@dataclass(frozen=True, kw_only=True)
class NestNode:
    """A table and how it hangs below its parent; the root leaves ``key``, ``parent_key`` and ``field`` out."""

    head: TableHead
    batches: Batches  # each call yields the same rows in the same order
    key: tuple[str, ...] = ()  # columns of this table that refer to the parent
    parent_key: tuple[str, ...] = ()  # the parent's columns they refer to
    field: str = ""  # of the parent's record
    order: tuple[str, ...] = ()  # primary key
    children: tuple[NestNode, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """Records of one table with all that is nested in them."""

    route: Route  # of its table below the root; () for the root itself
    head: TableHead  # with the nested fields
    rows: Mapping[Route, int]  # of each table in it, by the route from here; () are its records
    batches: Batches


@contextlib.contextmanager
def nest(root: NestNode, *, scratch: Path, memory_limit_mb: int = 128) -> Iterator[tuple[Document, ...]]:
    """The root's document, then one for each table that has orphans. Usable until the context ends.

    Raises `RequestRejected` when a field to nest in has the name of a column, `Unavailable` when DuckDB cannot work
    within its limit, `IntegrityViolation` when the documents do not hold each row once.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="nest-") as folder:
        disk = _Disk(folder=Path(folder), memory_limit_mb=memory_limit_mb)
        tree = _arrange(root, disk)
        rows = sum(batch.num_rows for batch in root.batches())
        yield (_document(tree, (), None, rows, disk), *_orphan_documents(tree, (), disk))


@dataclass(frozen=True, kw_only=True)
class _Disk:
    folder: Path
    memory_limit_mb: int
    numbers: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def new_path(self) -> Path:
        return self.folder / f"{next(self.numbers)}.parquet"


@dataclass(frozen=True, kw_only=True)
class _Arranged:
    """A node whose children are on disk, sorted by its ordinals."""

    node: NestNode
    head: TableHead
    children: tuple[tuple[_Arranged, Matched], ...]


def _arrange(node: NestNode, disk: _Disk) -> _Arranged:
    head = _nested_head(node)
    children: list[tuple[_Arranged, Matched]] = []
    for child in node.children:
        arranged = _arrange(child, disk)
        children.append((arranged, _match(node, arranged, disk)))
    return _Arranged(node=node, head=head, children=tuple(children))


def _nested_head(node: NestNode) -> TableHead:
    schema = node.head.schema
    for child in node.children:
        if child.field in schema.names:
            raise RequestRejected(
                f"{node.head.name} already has a column {child.field!r}, under which {child.head.name} was to be "
                "nested; choose another name in the catalog",
                field="nest_as",
            )
        schema = schema.append(field_of(child.field, "json", nullable=False))
    return dataclasses.replace(node.head, schema=schema)


def _match(parent: NestNode, child: _Arranged, disk: _Disk) -> Matched:
    """Put the child's records on disk, by parent; each of its rows is matched or an orphan."""
    keys, records = disk.new_path(), disk.new_path()
    spill(_key_parts(parent, child.node), _key_schema(parent, child.node.parent_key), keys)
    rows = spill(_record_parts(child), _record_schema(child), records)
    matched = match(
        keys,
        records,
        width=len(child.node.key),
        order=len(child.node.order),
        scratch=disk.folder,
        memory_limit_mb=disk.memory_limit_mb,
    )
    keys.unlink()
    records.unlink()
    if matched.nested_rows + matched.orphan_rows != rows:
        raise IntegrityViolation(
            f"{child.node.head.name} has {rows} rows, but {matched.nested_rows} were nested and "
            f"{matched.orphan_rows} are orphans; export again"
        )
    return matched


def _named(head: TableHead, columns: tuple[str, ...], letter: str) -> list[pa.Field]:
    return [pa.field(f"{letter}{i}", head.schema.field(name).type) for i, name in enumerate(columns)]


def _key_schema(parent: NestNode, columns: tuple[str, ...]) -> pa.Schema:
    return pa.schema(_named(parent.head, columns, "k"))


def _key_parts(parent: NestNode, child: NestNode) -> Iterator[list[pa.Array]]:
    for batch in parent.batches():
        yield [batch.column(name) for name in child.parent_key]


def _record_schema(child: _Arranged) -> pa.Schema:
    node = child.node
    keys, order = _named(node.head, node.key, "k"), _named(node.head, node.order, "o")
    return pa.schema([*keys, *order, pa.field("object", pa.large_string())])


def _record_parts(child: _Arranged) -> Iterator[list[pa.Array]]:
    record = object_text(child.head.schema)
    for batch in _stream(child):
        text = frame_of(by_position(batch)).select(record).to_series().to_arrow(compat_level=pl.CompatLevel.oldest())
        yield [*(batch.column(name) for name in (*child.node.key, *child.node.order)), text]


def _stream(tree: _Arranged) -> Iterator[pa.RecordBatch]:
    """The rows of a node, in their own order, with their descendants; cut where these grow large."""
    cursors = [ChildCursor(path=matched.nested) for _, matched in tree.children]
    position = 0
    for batch in tree.node.batches():
        start, end = position, position + batch.num_rows
        while position < end:
            loaded = [cursor.complete_until(position) for cursor in cursors]
            until = min([end, *(limit for limit in loaded if limit is not None)])
            own = batch.slice(position - start, until - position).columns
            nested = [cursor.arrays(position, until - position).to_arrow() for cursor in cursors]
            columns = [*own, *(pc.cast(texts, pa.string()) for texts in nested)]
            yield pa.RecordBatch.from_arrays(columns, schema=tree.head.schema)
            position = until


def _orphans(tree: _Arranged, orphans: Path) -> Iterator[pa.RecordBatch]:
    wanted = itertools.chain.from_iterable(array.to_pylist() for array in ordinals(orphans))
    following = next(wanted, None)
    start = 0
    for batch in _stream(tree):
        end = start + batch.num_rows
        taken: list[int] = []
        while following is not None and following < end:
            taken.append(following - start)
            following = next(wanted, None)
        if taken:
            yield batch.take(pa.array(taken, pa.int64()))
        start = end


def _document(tree: _Arranged, route: Route, orphans: Path | None, rows: int, disk: _Disk) -> Document:
    counts = {(): rows, **dict(_counts(tree, (), (), orphans, disk))}

    def batches() -> Iterator[pa.RecordBatch]:
        return _stream(tree) if orphans is None else _orphans(tree, orphans)

    return Document(route=route, head=tree.head, rows=counts, batches=batches)


def _counts(
    tree: _Arranged, route: Route, files: tuple[Path, ...], base: Path | None, disk: _Disk
) -> Iterator[tuple[Route, int]]:
    for child, matched in tree.children:
        below, chain = (*route, child.node.field), (*files, matched.nested)
        yield below, count_below(base, chain, scratch=disk.folder, memory_limit_mb=disk.memory_limit_mb)
        yield from _counts(child, below, chain, base, disk)


def _orphan_documents(tree: _Arranged, route: Route, disk: _Disk) -> Iterator[Document]:
    for child, matched in tree.children:
        below = (*route, child.node.field)
        if matched.orphan_rows:
            yield _document(child, below, matched.orphans, matched.orphan_rows, disk)
        yield from _orphan_documents(child, below, disk)
