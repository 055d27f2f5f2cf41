"""Read every finished file again, with another library, and compare with the database's own figures.

Two links are checked. Aggregates: file against source, computed by two engines. Digest: file against stage, a
hash of each whole row, so that a value that moved to another row or changed to one of the same length shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import ExportFile, ExportPlan, FilePart, Stage, StagedTable, TableVerdict
from export_pipelines.core.ports import FormatSpec, Progress, TableHead
from export_pipelines.pipeline.canonical import read_canonical
from export_pipelines.pipeline.overlap import ahead
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.data_files import plain_copy, read_part
from export_pipelines.pipeline.write.heads import table_head
from export_pipelines.validation.canary import CanaryWatch
from export_pipelines.validation.row_digest import Account, account, accounting, differences


def validate_files(
    plan: ExportPlan, stage: Stage, files: tuple[ExportFile, ...], services: ExportServices, progress: Progress
) -> tuple[TableVerdict, ...]:
    """A verdict for each table; `IntegrityViolation` names what differs and nothing gets published.

    The stage is read while the first file is unpacked and searched, which takes a core and no memory; not longer, since
    two readers at a time would need that of both.
    """
    spec = services.find_format(plan.format)
    heads = {table.table: table_head(table, services) for table in stage.tables}
    found: dict[str, Account] = {}
    watch = CanaryWatch(services.catalog.canary)
    with accounting() as session, ThreadPoolExecutor(1, "expected") as beside:
        expecting = beside.submit(_staged_accounts, stage, services)
        reading = _Reading(spec=spec, heads=heads, services=services, watch=watch, progress=progress)

        def read(batches: Iterable[pa.RecordBatch], table: str) -> None:
            batches = ahead(batches) if spec.read_ahead else batches
            one = account(batches, heads[table].schema, session)
            found[table] = found[table] + one if table in found else one

        for table, run in groupby(files, _only_table):
            if table is not None:
                read(reading.rows_of_files(run, expecting), table)
                continue
            for file in run:
                with reading.opened(file, expecting) as path:
                    for part in file.parts:
                        read(reading.rows(path, file, part), part.table)
        expected = expecting.result()
    verdicts = tuple(
        _verdict(table, expected[table.table], found.get(table.table), heads[table.table], watch)
        for table in stage.tables
    )
    problems = [f"{verdict.table}: {problem}" for verdict in verdicts for problem in verdict.problems]
    if problems:
        raise IntegrityViolation(
            f"the finished files differ from the source; nothing was published: {'; '.join(problems)}"
        )
    return verdicts


def _only_table(file: ExportFile) -> str | None:
    """The table that a file holds rows of, where it is one; such files in a row are one account, which costs as much
    as a few hundred of their rows.
    """
    return file.parts[0].table if len(file.parts) == 1 else None


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """How finished files are read again."""

    spec: FormatSpec
    heads: Mapping[str, TableHead]
    services: ExportServices
    watch: CanaryWatch
    progress: Progress

    @contextmanager
    def opened(self, file: ExportFile, expecting: Future[Any]) -> Iterator[Path]:
        """The plain file, searched for the canary where that needs no reader."""
        services = self.services
        with services.store.local(file.key) as stored, plain_copy(stored, file.path, services.settings.scratch) as path:
            if self.spec.plain_text:
                self.watch.search_file(path, file.path)
            wait([expecting])
            yield path

    def rows(self, path: Path, file: ExportFile, part: FilePart) -> Iterator[pa.RecordBatch]:
        """The rows of one table in a file; `IntegrityViolation` where they are not as many as were written."""
        batches = read_part(self.spec, path, self.heads[part.table], part)
        if not self.spec.plain_text:
            batches = self.watch.search_values(batches, file.path)
        rows = 0
        for batch in batches:
            self.progress.advance(table=part.table, rows=batch.num_rows)
            rows += batch.num_rows
            yield batch
        _require_rows(file, part, rows)

    def rows_of_files(self, files: Iterable[ExportFile], expecting: Future[Any]) -> Iterator[pa.RecordBatch]:
        """The rows of files that hold one table only, one file after the other."""
        for file in files:
            with self.opened(file, expecting) as path:
                yield from self.rows(path, file, file.parts[0])


def _staged_accounts(stage: Stage, services: ExportServices) -> dict[str, Account]:
    """Table → the account of its canonical rows."""
    accounts = {}
    for table in stage.tables:
        schema = table_head(table, services).schema
        accounts[table.table] = account(ahead(read_canonical(services.store, table.keys, schema)), schema)
    return accounts


def _require_rows(file: ExportFile, part: FilePart, rows: int) -> None:
    if rows != part.rows:
        raise IntegrityViolation(
            f"{file.path} holds {rows} rows of {part.table}, {part.rows} were written; nothing was published; "
            "export again"
        )


def _verdict(
    staged: StagedTable, expected: Account, found: Account | None, head: TableHead, watch: CanaryWatch
) -> TableVerdict:
    if found is None:
        return TableVerdict(
            table=staged.table,
            rows=0,
            rows_match=False,
            aggregates_match=False,
            digest_match=False,
            problems=("no file holds this table",),
        )
    problems = differences(staged.aggregates, found.aggregates, head.schema)
    if expected.digest != found.digest:
        problems.append("the rows in the files are not the rows that were read")
    return TableVerdict(
        table=staged.table,
        rows=found.aggregates.rows,
        rows_match=found.aggregates.rows == staged.aggregates.rows,
        aggregates_match=not differences(staged.aggregates, found.aggregates, head.schema),
        digest_match=expected.digest == found.digest,
        canary_seen=watch.seen,
        problems=tuple(problems),
    )
