"""From canonical Parquet to files of the format asked for, streamed and hashed on their way into the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

import pyarrow as pa

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.fidelity import Carriage
from export_pipelines.core.model import ExportFile, ExportPlan, FilePart, Split, Stage, StagedTable
from export_pipelines.core.naming import part_name, slug, stage_prefix
from export_pipelines.core.packing import period_column, require_few_files
from export_pipelines.core.ports import DocumentWriter, FormatSpec, Progress, TableHead
from export_pipelines.packaging.codecs import CODECS, Codec
from export_pipelines.packaging.sinks import DigestSink, HandingSink, compressed
from export_pipelines.pipeline.canonical import read_canonical
from export_pipelines.pipeline.overlap import ahead, behind
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.write.fitting import SizeLimit
from export_pipelines.pipeline.write.heads import TableRows, facts_of, table_head
from export_pipelines.pipeline.write.nested import nested_documents
from export_pipelines.pipeline.write.spill import spilling
from export_pipelines.pipeline.write.splitting import Periods, split_files

DATA_FOLDER = "data"
_NO_LIMIT = SizeLimit(limit_bytes=None, worth_growing=False)


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What every file of one export is made by."""

    plan: ExportPlan
    spec: FormatSpec
    codec: Codec | None
    split: Split
    periods: Periods
    services: ExportServices
    progress: Progress


def convert_tables(
    plan: ExportPlan, stage: Stage, services: ExportServices, progress: Progress
) -> tuple[ExportFile, ...]:
    """Every file of the export, durable under the attempt's stage folder."""
    order = _Order(
        plan=plan,
        spec=services.find_format(plan.format),
        codec=CODECS.get(plan.compression),
        split=replace(plan.split, max_bytes=_least(plan.split.max_bytes, services.settings.max_file_size)),
        periods=_periods(stage, services.catalog),
        services=services,
        progress=progress,
    )
    files: list[ExportFile] = []
    with _documents(order, stage) as documents:
        for name, tables in documents:
            for file in _files(order, name, tables, made=len(files)):
                files.append(file)
                require_few_files(plan.split, len(files), about="at least ")
    return tuple(files)


def _periods(stage: Stage, catalog: Catalog) -> Periods:
    columns = {
        table.table: period_column(table.columns, catalog.shape(table.table, table.aggregation))
        for table in stage.tables
    }
    named = {table: column for table, column in columns.items() if column is not None}
    return Periods(columns=named, timezone=catalog.timezone)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


@contextmanager
def _documents(order: _Order, stage: Stage) -> Iterator[Iterator[tuple[str, Sequence[TableRows]]]]:
    """What would be one file each if nothing were split, with its name."""
    spec, options = order.spec, order.plan.format_options
    if spec.nests:
        with nested_documents(stage, order.services, order.progress) as documents:
            yield ((rows.head.name, [rows]) for rows in documents)
        return
    tables = (_flat(table, order) for table in stage.tables)
    if spec.many_tables and options.get(spec.together_option or "", True):
        yield iter([(slug(order.plan.name), list(tables))])
    else:
        yield ((rows.head.name, [rows]) for rows in tables)


def _flat(staged: StagedTable, order: _Order) -> TableRows:
    spec, options = order.spec, order.plan.format_options
    head = table_head(staged, order.services)
    facts = facts_of(staged, head, spec, options, order.services)
    head = replace(head, facts=facts)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in ahead(read_canonical(order.services.store, staged.keys, head.schema)):
            order.progress.advance(table=staged.table, rows=batch.num_rows)
            yield batch

    part = FilePart(table=staged.table, rows=staged.rows, columns=staged.columns, settled=_settled(spec, head))
    return TableRows(head=head, batches=batches(), parts=lambda: (part,))


def _settled(spec: FormatSpec, head: TableHead) -> tuple[tuple[str, Carriage], ...]:
    """How the columns that the format had been undecided about sit in every file."""
    if spec.settles is None:
        return ()
    return tuple((name, spec.settles(head.schema.field(name), facts)) for name, facts in head.facts.items())


def _files(order: _Order, name: str, tables: Sequence[TableRows], *, made: int) -> Iterator[ExportFile]:
    split, spec = order.split, order.spec
    if split == Split() and spec.max_rows is None:
        yield _write(order, part_name(name, 1, spec.extension), tables, _NO_LIMIT)
        return

    def write(period: str | None, number: int, held: Sequence[TableRows], limit: SizeLimit) -> ExportFile:
        return _write(order, part_name(name, number, spec.extension, period=period), held, limit)

    def expect(files: int) -> None:
        require_few_files(order.plan.split, made + files, about="at least ")

    with spilling(order.services.settings.scratch) as spill:
        yield from split_files(tables, split, order.periods, spill, write, max_rows=spec.max_rows, expect=expect)


def _write(order: _Order, filename: str, tables: Sequence[TableRows], limit: SizeLimit) -> ExportFile:
    """One finished file. Raises `export_pipelines.pipeline.write.fitting.Misfit` when it does not fit: no file then."""
    plan, spec, codec = order.plan, order.spec, order.codec
    path = f"{DATA_FOLDER}/{filename}{codec.suffix if codec else ''}"
    key = f"{stage_prefix(plan.request_id, plan.attempt)}/package/{path}"
    rows = 0
    with order.services.store.writing(key) as stored:
        sink = DigestSink(stored)
        with _document(order, sink, alone=limit is not _NO_LIMIT or not spec.compressible) as document:
            for table in tables:
                document.begin(table.head)
                for batch in table.batches:
                    order.progress.advance(table=table.head.name, rows=0)  # may be asked to stop while rewriting
                    document.write(batch)
                    rows += batch.num_rows
                    limit.check(rows, sink.size_bytes)
        limit.check(rows, sink.size_bytes, finished=True)
    order.progress.file_created()
    parts = tuple(part for table in tables for part in table.parts())
    return ExportFile(
        key=key,
        path=path,
        format=spec.name,
        media_type=codec.media_type if codec else spec.media_type,
        rows=sum(part.rows for part in parts),
        size_bytes=sink.size_bytes,
        sha256=sink.sha256,
        crc32=sink.crc32,
        parts=parts,
    )


@contextmanager
def _document(order: _Order, sink: DigestSink, *, alone: bool) -> Iterator[DocumentWriter]:
    """A writer whose footer is written only when all rows were.

    Its bytes are compressed and hashed behind it, unless it works ``alone``: where files are fitted into a size, since
    what the sink has counted must not depend on threads, and where the writer compresses and little is left to do.
    """
    with ExitStack() as stack:
        stream = stack.enter_context(compressed(cast("BinaryIO", sink), order.codec))
        if not alone:
            stream = cast("BinaryIO", HandingSink(stack.enter_context(behind(stream.write))))
        writer = order.spec.open(stream, order.plan.format_options)
        yield writer
        writer.close()
