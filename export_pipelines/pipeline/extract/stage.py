"""Read every table of the plan from one snapshot into canonical Parquet, and have the database count the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import IntegrityViolation, ValueBeyondRepresentation
from export_pipelines.core.isolation import IsolationAccount
from export_pipelines.core.model import (
    ExportPlan,
    PlannerGuess,
    SharedSnapshot,
    Stage,
    StagedTable,
    TableAggregates,
    TableSelection,
)
from export_pipelines.core.naming import segment, stage_prefix
from export_pipelines.core.omissions import RowCount
from export_pipelines.core.ports import ObjectStore, Progress, Snapshot
from export_pipelines.pipeline.canonical import write_canonical
from export_pipelines.pipeline.extract.omissions import omissions_of
from export_pipelines.pipeline.progress import Rereading, Together
from export_pipelines.pipeline.services import ExportServices


def stage_tables(
    plan: ExportPlan, services: ExportServices, progress: Progress, *, join: SharedSnapshot | None = None
) -> Stage:
    """All tables of the plan as they are at one instant: now, or that of a snapshot that somebody holds.

    Counting runs on the connection that holds the snapshot while ``plan.parallel_jobs`` others read the rows, a table
    each. What is written does not depend on how many they are.
    """
    services.store.delete(stage_prefix(plan.request_id, plan.attempt))
    with services.source.snapshot(plan.scope, join=join) as snapshot, ThreadPoolExecutor(1, "aggregates") as counting:
        snapshot.require_sound(selection.table for selection in plan.selections)
        guesses = {selection.table: snapshot.guess(selection) for selection in plan.selections}
        progress.expect(plan.expected_rows or sum(guess.rows for guess in guesses.values()))
        figures = [counting.submit(snapshot.aggregate, selection) for selection in plan.selections]
        attested = counting.submit(_attest, snapshot, plan, services.catalog)
        others = {
            selection.table: counting.submit(snapshot.count_other_rows, selection) for selection in plan.selections
        }
        unknown = counting.submit(snapshot.not_in_catalog)
        described = counting.submit(snapshot.ddl, plan.selections) if plan.export_type == "migration" else None
        stager = _Stager(plan=plan, snapshot=snapshot, guesses=guesses, services=services, counting=counting)
        try:
            tables = _all_staged(stager, list(zip(plan.selections, figures, strict=True)), progress)
        except BaseException:
            counting.shutdown(wait=False, cancel_futures=True)
            raise
        progress.expect(sum(table.rows for table in tables))
        return Stage(
            snapshot=snapshot.shared.info,
            tables=tuple(tables),
            omissions=omissions_of(
                plan,
                services.catalog,
                rows={table.table: RowCount(rows=table.rows) for table in tables},
                others={table: counted.result() for table, counted in others.items()},
                unknown=unknown.result(),
            ),
            isolation=attested.result(),
            migration=described.result() if described else None,
        )


def _all_staged(
    stager: _Stager, chosen: list[tuple[TableSelection, Future[TableAggregates]]], progress: Progress
) -> list[StagedTable]:
    """Every table, in the order of the plan. The first that fails ends the others with their next batch."""
    jobs = min(stager.plan.parallel_jobs, len(chosen))
    if jobs == 1:
        return [stager.stage(selection, counted, Rereading(progress)) for selection, counted in chosen]
    watched = Together(progress)
    with ThreadPoolExecutor(jobs, "readers") as readers:
        staged = [readers.submit(stager.stage, selection, counted, Rereading(watched)) for selection, counted in chosen]
        try:
            for done in as_completed(staged):
                done.result()
        except BaseException:
            watched.stop()
            readers.shutdown(wait=True, cancel_futures=True)
            raise
        return [done.result() for done in staged]


def _attest(snapshot: Snapshot, plan: ExportPlan, catalog: Catalog) -> IsolationAccount:
    return IsolationAccount(
        session=snapshot.attest(selection.table for selection in plan.selections),
        rows_by_policy={selection.table: snapshot.count_by_policy(selection) for selection in plan.selections},
        canary_rows=snapshot.count_marked(plan.selections),
        marker_sha256=catalog.canary.marker_sha256 if catalog.canary else None,
    )


@dataclass(frozen=True, kw_only=True)
class _Stager:
    """Stages the tables of one export from one snapshot."""

    plan: ExportPlan
    snapshot: Snapshot
    guesses: Mapping[str, PlannerGuess]
    services: ExportServices
    counting: ThreadPoolExecutor

    def stage(self, selection: TableSelection, counted: Future[TableAggregates], progress: Rereading) -> StagedTable:
        """One table; read once more, with columns as text, when some value needs it.

        Hardly any table holds such a value, so looking for them beforehand would cost each export a scan for nothing.
        """
        try:
            return self._read(selection, counted, progress)
        except ValueBeyondRepresentation:
            as_text = self.snapshot.beyond_representation(selection)
            if not as_text:
                raise
        selection = replace(selection, as_text=as_text)
        progress.again()
        return self._read(selection, self.counting.submit(self.snapshot.aggregate, selection), progress)

    def _read(self, selection: TableSelection, counted: Future[TableAggregates], progress: Rereading) -> StagedTable:
        table, store = selection.table, self.services.store
        shape = self.services.catalog.shape(table, selection.aggregation)
        schema = shape.arrow_schema(selection.columns, selection.as_text)
        key = f"{stage_prefix(self.plan.request_id, self.plan.attempt)}/canonical/{segment(table)}.parquet"
        batches = self.snapshot.read(selection)
        rows = write_canonical(store, key, batches, schema, table=table, progress=progress)
        aggregates = counted.result()
        if rows != aggregates.rows:
            raise IntegrityViolation(f"{table}: {rows} rows arrived, the source counts {aggregates.rows}")
        return StagedTable(
            table=table,
            keys=(key,),
            rows=rows,
            size_bytes=_size(store, key),
            aggregates=aggregates,
            columns=selection.columns,
            as_text=selection.as_text,
            aggregation=selection.aggregation,
            guess=self.guesses[table],
        )


def _size(store: ObjectStore, key: str) -> int:
    return sum(size for _, size in store.list(key))
