"""Which tables of an export sit inside which, and their rows as documents.

A table is nested under the first of its relations that has ``nest_as``, when parent and keys are part of the
export. How rows are brought together is `export_pipelines.formats.nesting`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from export_pipelines.core.catalog import Catalog, Relation
from export_pipelines.core.model import FilePart, Stage, StagedTable
from export_pipelines.core.ports import Progress, TableHead
from export_pipelines.formats.nesting import Batches, Document, NestNode, nest
from export_pipelines.pipeline.canonical import read_canonical
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.write.heads import TableRows, table_head


@dataclass(frozen=True, kw_only=True)
class Nest:
    """A child table and the relation that puts it inside its parent."""

    parent: str
    child: str
    relation: Relation


def nests_among(staged: Mapping[str, StagedTable], catalog: Catalog) -> dict[str, Nest]:
    """Child table → its place, for the tables of one export. Never a circle: a table nests under one it follows."""
    nests: dict[str, Nest] = {}
    for name, table in staged.items():
        for relation in catalog.tables[name].relations.values():
            parent = staged.get(relation.references)
            if relation.nest_as is None or parent is None or _inside(relation.references, name, nests):
                continue
            if _joins(relation, table, parent):
                nests[name] = Nest(parent=relation.references, child=name, relation=relation)
                break
    return nests


def _joins(relation: Relation, child: StagedTable, parent: StagedTable) -> bool:
    """Whether both sides of the keys are there, and travel in the same form. Figures stand for many rows: never."""
    if child.aggregation is not None or parent.aggregation is not None:
        return False
    pairs = list(zip(relation.columns, relation.referenced_columns, strict=True))
    present = all(here in child.columns and there in parent.columns for here, there in pairs)
    return present and all((here in child.as_text) == (there in parent.as_text) for here, there in pairs)


def _inside(table: str, other: str, nests: Mapping[str, Nest]) -> bool:
    """Whether ``table`` is ``other`` or sits inside it."""
    while table != other:
        if table not in nests:
            return False
        table = nests[table].parent
    return True


@contextmanager
def nested_documents(stage: Stage, services: ExportServices, progress: Progress) -> Iterator[Iterator[TableRows]]:
    """Every document of the export: a root table with all that is nested in it, then rows without a parent."""
    staged = {table.table: table for table in stage.tables}
    nests = nests_among(staged, services.catalog)
    services.settings.scratch.mkdir(parents=True, exist_ok=True)
    with closing(_documents(staged, nests, services, progress)) as documents:  # its scratch folder goes with it
        yield documents


def _documents(
    staged: Mapping[str, StagedTable], nests: Mapping[str, Nest], services: ExportServices, progress: Progress
) -> Generator[TableRows, None, None]:
    for name in staged:
        if name in nests:
            continue
        root = _node(name, staged, nests, services)
        with nest(root, scratch=services.settings.scratch) as documents:
            for document in documents:
                yield _rows(document, root, staged, progress)


def _node(
    name: str, staged: Mapping[str, StagedTable], nests: Mapping[str, Nest], services: ExportServices
) -> NestNode:
    place = nests.get(name)
    below: dict[str, Any] = {}
    if place is not None:
        relation = place.relation
        below = {"key": relation.columns, "parent_key": relation.referenced_columns, "field": relation.nest_as}
    head = table_head(staged[name], services)
    shape = services.catalog.shape(name, staged[name].aggregation)
    order = tuple(column for column in shape.primary_key if column in staged[name].columns)
    return NestNode(
        head=head,
        batches=_batches(staged[name], head, services),
        order=order,
        children=tuple(_node(child, staged, nests, services) for child, at in nests.items() if at.parent == name),
        **below,
    )


def _batches(staged: StagedTable, head: TableHead, services: ExportServices) -> Batches:
    return lambda: read_canonical(services.store, staged.keys, head.schema)


def _rows(document: Document, root: NestNode, staged: Mapping[str, StagedTable], progress: Progress) -> TableRows:
    top = _table_at(root, document.route)
    parts = []
    for route, rows in document.rows.items():
        table = _table_at(root, (*document.route, *route))
        parts.append(FilePart(table=table, rows=rows, columns=staged[table].columns, route=route))

    def counted() -> Iterator[pa.RecordBatch]:
        for batch in document.batches():
            progress.advance(table=top, rows=batch.num_rows)
            yield batch

    made = tuple(parts)
    return TableRows(head=document.head, batches=counted(), parts=lambda: made)


def _table_at(root: NestNode, route: tuple[str, ...]) -> str:
    node = root
    for field in route:
        node = next(child for child in node.children if child.field == field)
    return node.head.name
