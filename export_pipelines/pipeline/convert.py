"""From canonical Parquet to files of the format asked for, streamed and hashed on their way into the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from export_pipelines.core.model import ExportFile, ExportPlan, FilePart, Stage, StagedTable
from export_pipelines.core.naming import part_name, slug, stage_prefix
from export_pipelines.core.ports import DocumentWriter, FormatSpec, Progress
from export_pipelines.packaging.sinks import DigestSink, compressed
from export_pipelines.pipeline.canonical import read_canonical
from export_pipelines.pipeline.heads import TableRows, table_head
from export_pipelines.pipeline.nested import nested_documents
from export_pipelines.pipeline.services import ExportServices

DATA_FOLDER = "data"
_GZIP_TYPE = "application/gzip"


def convert_tables(
    plan: ExportPlan, stage: Stage, services: ExportServices, progress: Progress
) -> tuple[ExportFile, ...]:
    """Every file of the export, durable under the attempt's stage folder."""
    spec = services.find_format(plan.format)
    if spec.nests:
        with nested_documents(stage, services, progress) as documents:
            return tuple(
                _write(plan, spec, part_name(rows.head.name, 1, spec.extension), [rows], services, progress)
                for rows in documents
            )
    tables = [_flat(table, services, progress) for table in stage.tables]
    if spec.many_tables and plan.format_options.get(spec.together_option or "", True):
        return (_write(plan, spec, f"{slug(plan.name)}.{spec.extension}", tables, services, progress),)
    return tuple(
        _write(plan, spec, part_name(rows.head.name, 1, spec.extension), [rows], services, progress) for rows in tables
    )


def _flat(staged: StagedTable, services: ExportServices, progress: Progress) -> TableRows:
    head = table_head(staged, services)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in read_canonical(services.store, staged.keys, head.schema):
            progress.advance(table=staged.table, rows=batch.num_rows)
            yield batch

    part = FilePart(table=staged.table, rows=staged.rows, columns=staged.columns)
    return TableRows(head=head, batches=batches(), parts=(part,))


def _write(
    plan: ExportPlan,
    spec: FormatSpec,
    filename: str,
    tables: Iterable[TableRows],
    services: ExportServices,
    progress: Progress,
) -> ExportFile:
    gzipped = plan.compression == "gzip"
    path = f"{DATA_FOLDER}/{filename}{'.gz' if gzipped else ''}"
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"
    parts: list[FilePart] = []
    with services.store.writing(key) as stored:
        sink = DigestSink(stored)
        with _document(spec, sink, plan) as document:
            for rows in tables:
                document.begin(rows.head)
                for batch in rows.batches:
                    document.write(batch)
                parts += rows.parts
    progress.file_created()
    return ExportFile(
        key=key,
        path=path,
        format=spec.name,
        media_type=_GZIP_TYPE if gzipped else spec.media_type,
        rows=sum(part.rows for part in parts),
        size_bytes=sink.size_bytes,
        sha256=sink.sha256,
        parts=tuple(parts),
    )


@contextmanager
def _document(spec: FormatSpec, sink: DigestSink, plan: ExportPlan) -> Iterator[DocumentWriter]:
    """A writer whose footer is written only when all rows were."""
    with ExitStack() as stack:
        stream = stack.enter_context(compressed(sink, plan.compression))  # type: ignore[arg-type]
        writer = spec.open(stream, plan.format_options)
        yield writer
        writer.close()
