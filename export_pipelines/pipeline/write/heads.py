"""What writers and readers know of a table, and its rows on their way into a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa

from export_pipelines.core.model import FilePart, StagedTable
from export_pipelines.core.ports import TableHead
from export_pipelines.pipeline.services import ExportServices


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Rows on their way into one file; ``parts`` says what they are, once the batches were taken."""

    head: TableHead
    batches: Iterable[pa.RecordBatch]
    parts: Callable[[], tuple[FilePart, ...]]


def table_head(staged: StagedTable, services: ExportServices) -> TableHead:
    """The catalog's schema of a table, never the first batch's; columns that this export carries as text are text."""
    table = services.catalog.shape(staged.table, staged.aggregation)
    labels = {column: table.columns[column].label or column for column in staged.columns}
    schema = table.arrow_schema(staged.columns, staged.as_text)
    return TableHead(name=staged.table, schema=schema, title=table.description, labels=labels)
