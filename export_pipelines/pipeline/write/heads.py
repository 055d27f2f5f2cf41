"""What writers and readers know of a table, and its rows on their way into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from export_pipelines.core.fidelity import ColumnFacts
from export_pipelines.core.model import FilePart, StagedTable
from export_pipelines.core.ports import FormatSpec, TableHead
from export_pipelines.formats.column_facts import column_facts
from export_pipelines.pipeline.canonical import read_canonical
from export_pipelines.pipeline.services import ExportServices


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Rows on their way into one file; ``parts`` says what they are, once the batches were taken."""

    head: TableHead
    batches: Iterable[pa.RecordBatch]
    parts: Callable[[], tuple[FilePart, ...]]


def facts_of(
    staged: StagedTable, head: TableHead, spec: FormatSpec, options: Mapping[str, Any], services: ExportServices
) -> Mapping[str, ColumnFacts]:
    """Facts about the columns that the format is undecided about, from the stage; only those columns are read."""
    wanted = [field for field in head.schema if spec.undecided is not None and spec.undecided(field, options)]
    if not wanted:
        return {}
    schema = pa.schema(wanted)
    return column_facts(read_canonical(services.store, staged.keys, schema), schema)


def table_head(staged: StagedTable, services: ExportServices) -> TableHead:
    """The catalog's schema of a table, never the first batch's; columns that this export carries as text are text."""
    table = services.catalog.shape(staged.table, staged.aggregation)
    labels = {column: table.columns[column].label or column for column in staged.columns}
    schema = table.arrow_schema(staged.columns, staged.as_text)
    return TableHead(name=staged.table, schema=schema, title=table.description, labels=labels)
