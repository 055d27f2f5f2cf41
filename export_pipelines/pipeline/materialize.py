"""Partitions of tables into the lake: canonical, unfiltered Parquet, checked before it becomes visible."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.model import LakeRetention, SnapshotInfo, TableSelection, TenantScope
from export_pipelines.core.naming import lake_generation, lake_prefix, lake_stage_prefix
from export_pipelines.core.ports import ObjectStore, Snapshot
from export_pipelines.core.windows import period_window
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.lake import footer_of, retire
from export_pipelines.pipeline.partition_checks import (
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
    """A materialised partition, or the reason why it was not replaced."""

    key: str
    rows: int
    size_bytes: int
    outcomes: tuple[CheckOutcome, ...]
    preview: Preview
    snapshot: SnapshotInfo

    @property
    def valid(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


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
        )
        counts = Counts(read=rows, by_policy=snapshot.count_by_policy(selection))
        with self._store.local(written) as path:
            size_bytes = path.stat().st_size
            outcomes = self._inspector.check(path, table, scope, counts)
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
