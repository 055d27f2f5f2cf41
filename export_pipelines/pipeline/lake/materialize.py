"""Partitions of tables into the lake: canonical, unfiltered Parquet, checked before it becomes visible."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.model import LakeRetention, SnapshotInfo, TableSelection, TenantScope
from export_pipelines.core.naming import lake_generation, lake_prefix, lake_stage_prefix
from export_pipelines.core.ports import ObjectStore, Snapshot, Source
from export_pipelines.core.windows import period_end, period_window
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.lake.generations import (
    Generation,
    footer_of,
    has_schema,
    newest,
    partition_folder,
    read_footer,
    retire,
    spellings_footer,
)
from export_pipelines.pipeline.lake.partition_checks import (
    CheckOutcome,
    Counts,
    Inspector,
    Preview,
    inspecting,
    preview_of,
)
from export_pipelines.pipeline.progress import Unwatched

PART = "part-00000.parquet"
_DEFAULT_RETENTION = LakeRetention()


@dataclass(frozen=True, kw_only=True)
class LakePartition:
    """A tenant's partition as a run leaves it: made, kept as it was, or not replaced for a reason."""

    key: str
    rows: int
    size_bytes: int
    outcomes: tuple[CheckOutcome, ...]
    preview: Preview
    snapshot: SnapshotInfo
    already_present: bool = False  # its checks passed when it was made

    @property
    def valid(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Which partitions a run keeps as they are instead of reading them again."""

    complete: bool = False  # those that were read when their period was over, or that have none
    since: dt.datetime | None = None  # those read at or after this, by an earlier try of the same run

    def covers(self, generation: Generation, period_end: dt.datetime | None) -> bool:
        """Whether a generation of a period that ends then is good enough."""
        read_at = generation.taken_at
        if self.since is not None and read_at >= self.since:
            return True
        return self.complete and (period_end is None or read_at >= period_end)


REUSE_NOTHING = Reuse()


def whole_partition(catalog: Catalog, name: str, period: dt.date | None) -> TableSelection:
    """All rows and columns of a table in one period, soft-deleted ones included."""
    table = catalog.tables[name]
    window = None
    if period is not None:
        start = catalog.history_start
        if table.partition.grain is Grain.MONTH:
            start = start.replace(day=1)
        window = period_window(
            period, period, grain=table.partition.grain, history_start=start, timezone=catalog.timezone
        )
    return TableSelection(
        table=name, columns=table.exported_columns, window=window, window_column=table.partition_column
    )


class LakeWriter:
    """Writes the partitions of one run, one after another."""

    def __init__(
        self, catalog: Catalog, store: ObjectStore, inspector: Inspector, run_id: str, retention: LakeRetention
    ) -> None:
        self._catalog = catalog
        self._retention = retention
        self._store = store
        self._inspector = inspector
        self._stage = lake_stage_prefix(run_id)

    def materialize_all(
        self, name: str, scope: TenantScope, periods: Sequence[dt.date | None], source: Source, reuse: Reuse
    ) -> Generator[LakePartition, None, None]:
        """A partition for each period, in their order. All that are read are read from one snapshot."""
        complete = self._complete(name, scope, periods, reuse)
        if len(complete) == len(periods):
            yield from (complete[period] for period in periods)
            return
        with source.snapshot(scope) as snapshot:
            for period in periods:
                yield complete.get(period) or self.materialize(name, scope, period, snapshot)

    def _complete(
        self, name: str, scope: TenantScope, periods: Sequence[dt.date | None], reuse: Reuse
    ) -> dict[dt.date | None, LakePartition]:
        if reuse == REUSE_NOTHING:
            return {}
        present = newest(self._catalog, name, scope, self._store)
        grain, timezone = self._catalog.tables[name].partition.grain, self._catalog.timezone
        complete: dict[dt.date | None, LakePartition] = {}
        for period in periods:
            generation = present.get(partition_folder(self._catalog, name, scope, period))
            end = period_end(period, grain, timezone) if period else None
            if generation is not None and reuse.covers(generation, end):
                part = self._present(name, generation)
                if part is not None:
                    complete[period] = part
        return complete

    def _present(self, name: str, generation: Generation) -> LakePartition | None:
        """A partition as it lies in the lake; None when the catalog has changed since."""
        if not has_schema(self._store, generation, self._catalog.tables[name].arrow_schema()):
            return None
        snapshot, rows = read_footer(self._store, generation)
        return LakePartition(
            key=generation.key,
            rows=rows,
            size_bytes=generation.size_bytes,
            outcomes=(),
            preview=Preview(),
            snapshot=snapshot,
            already_present=True,
        )

    def materialize(self, name: str, scope: TenantScope, period: dt.date | None, snapshot: Snapshot) -> LakePartition:
        """Write a new generation of one partition. One that fails a check does not become one.

        It is written apart from the lake, where no reader of the partition's folder can meet it before it is checked.
        What the retention does not keep of the partition's past goes afterwards.
        """
        table = self._catalog.tables[name]
        selection = whole_partition(self._catalog, name, period)
        folder = lake_prefix(self._catalog.name, name, scope, table.partition.grain, period)
        info = snapshot.shared.info
        key = f"{folder}/{lake_generation(info.taken_at)}/{PART}"
        written = f"{self._stage}/{PART}"
        rows = write_canonical(
            self._store,
            written,
            snapshot.read(selection),
            table.arrow_schema(),
            table=name,
            progress=Unwatched(),
            footer=footer_of(info),
            closing=lambda: spellings_footer(snapshot.spellings(name)),
        )
        counts = Counts(read=rows, by_policy=snapshot.count_by_policy(selection))
        with self._store.local(written) as path:
            size_bytes = path.stat().st_size
            outcomes = self._inspector.check(path, table, scope, counts, snapshot.spellings(name))
            preview = preview_of(path, table)
        part = LakePartition(
            key=key, rows=rows, size_bytes=size_bytes, outcomes=outcomes, preview=preview, snapshot=info
        )
        if part.valid:
            self._store.move(written, key)
            retire(self._store, folder, self._retention, now=dt.datetime.now(dt.UTC))
        else:
            self._store.delete(written)
        return part


@contextmanager
def writing_lake(
    catalog: Catalog, store: ObjectStore, *, run_id: str, scratch: Path, retention: LakeRetention = _DEFAULT_RETENTION
) -> Iterator[LakeWriter]:
    """A writer for one run; whatever ends it, nothing half done stays."""
    try:
        with inspecting(scratch) as inspector:
            yield LakeWriter(catalog, store, inspector, run_id, retention)
    finally:
        store.delete(lake_stage_prefix(run_id))


def sweep_lake_stage(store: ObjectStore, *, at_work: Callable[[str], bool]) -> int:
    """Take away what killed runs left; the bytes freed. ``at_work`` says whether a run still writes."""
    prefix = lake_stage_prefix()
    runs = {key.removeprefix(f"{prefix}/").split("/")[0] for key, _ in store.list(prefix)}
    return sum(store.delete(f"{prefix}/{run}") for run in sorted(runs) if not at_work(run))
