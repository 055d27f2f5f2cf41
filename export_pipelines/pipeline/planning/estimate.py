"""What an export would be, before there is one; and what it was, for the estimates of those that follow.

Rows are not read: the planner is asked, in a session like the one that would read them, and past exports are. Rows that
would be left out are counted where the planner expects that to take milliseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.estimating import (
    START_SECONDS,
    Estimate,
    History,
    Measure,
    PastError,
    TableEstimate,
    built_in,
    documents_bytes,
    estimate_table,
    selection_kind,
    shares,
    volume,
    weakest,
)
from export_pipelines.core.model import ExportFile, ExportPlan, PlannerGuess, RetainedStage, Stage
from export_pipelines.core.omissions import NotInCatalog, Omissions, OtherRows, Precision, RowCount
from export_pipelines.core.packing import ARCHIVE, NO_COMPRESSION
from export_pipelines.core.ports import Source
from export_pipelines.core.service_catalog import catalog_of
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.extract.omissions import omissions_of
from export_pipelines.pipeline.extract.service_stage import not_described, service_rows
from export_pipelines.stores.control import Control
from export_pipelines.stores.export_statistics import MeasureStore

_UNKNOWN_WIDTH = 100  # of a row that was kept before widths were


@dataclass(frozen=True, kw_only=True)
class ExpectedRows:
    """What is known of an export's rows before they are read."""

    guesses: Mapping[str, PlannerGuess]
    others: Mapping[str, OtherRows] = field(default_factory=dict)
    unknown: NotInCatalog | None = None
    omissions: Omissions | None = None  # of a conversion, whose rows are there already


@dataclass(frozen=True, kw_only=True)
class Grounds:
    """What the service itself knows for an estimate."""

    history: History
    past_error: PastError | None
    rows: ExpectedRows | None  # of a conversion and of an audit package; for any other the source is asked


def grounds_of(plan: ExportPlan, measures: MeasureStore, retained: RetainedStage | None = None) -> Grounds:
    """Out of the control database; ``retained`` is what a conversion converts."""
    audited = plan.export_type == "audit"
    spec = find_format(plan.format)
    return Grounds(
        history=measures.history(
            plan.scope.tenant_id,
            {selection.table: selection_kind(selection) for selection in plan.selections},
            catalog=plan.catalog,
            format_name=spec.name,
            compression=made_by(plan),
            converted=plan.converted_from is not None,
        ),
        past_error=measures.past_error(plan.scope.tenant_id, (spec.name, *spec.aliases)),
        rows=retained_rows(retained) if retained else audited_rows(plan, measures.control) if audited else None,
    )


def planned_rows(plan: ExportPlan, source: Source) -> ExpectedRows:
    """By the source's planner, in a session like the one that would read the rows."""
    with source.snapshot(plan.scope) as snapshot:
        snapshot.require_sound(selection.table for selection in plan.selections)
        period = plan.split.period
        guesses = {selection.table: snapshot.guess(selection, period=period) for selection in plan.selections}
        others = {selection.table: snapshot.expect_other_rows(selection) for selection in plan.selections}
        if plan.point_in_time is None:
            return ExpectedRows(guesses=guesses, others=others, unknown=snapshot.not_in_catalog())
        past = {table: replace(found, deleted=_guessed(found.deleted)) for table, found in others.items()}
        return ExpectedRows(guesses=guesses, others=past)


def _guessed(count: RowCount | None) -> RowCount | None:
    """A count of now as a guess of what was."""
    return replace(count, precision=Precision.ESTIMATE) if count else None


def retained_rows(retained: RetainedStage) -> ExpectedRows:
    """As many as there are."""
    widths = {
        table.table: table.guess.width_bytes if table.guess else _UNKNOWN_WIDTH for table in retained.stage.tables
    }
    guesses = {
        table.table: PlannerGuess(rows=table.rows, width_bytes=widths[table.table]) for table in retained.stage.tables
    }
    return ExpectedRows(guesses=guesses, omissions=retained.stage.omissions)


def audited_rows(plan: ExportPlan, control: Control) -> ExpectedRows:
    """Of an audit package, counted."""
    return ExpectedRows(guesses=service_rows(plan, control), unknown=not_described(control))


def weigh(plan: ExportPlan, catalog: Catalog, grounds: Grounds, expected: ExpectedRows) -> Estimate:
    """The estimate that follows; rows of a conversion are known and need no correction."""
    guesses = expected.guesses
    converted, archived = plan.converted_from is not None, made_by(plan) == ARCHIVE
    history = replace(grounds.history, ratios={}) if converted else grounds.history
    rates = built_in(find_format(plan.format), made_by(plan), converted=converted)
    tables = tuple(estimate_table(name, guess, history, rates) for name, guess in guesses.items())
    columns = sum(len(selection.columns) for selection in plan.selections)
    catalog = catalog_of(plan.export_type, catalog)
    omissions = expected.omissions or omissions_of(
        plan,
        catalog,
        rows={table.table: RowCount(rows=table.rows, precision=Precision.ESTIMATE) for table in tables},
        others={table.table: expected.others.get(table.table, OtherRows()) for table in tables},
        unknown=expected.unknown,
    )
    return Estimate(
        rows=sum(table.rows for table in tables),
        size_bytes=sum(table.size_bytes for table in tables) + documents_bytes(columns, archived=archived),
        seconds=START_SECONDS + sum(table.seconds for table in tables),
        tables=tables,
        classes=classes_of(plan, catalog),
        recipients=tuple(dict.fromkeys(delivery.recipient for delivery in plan.deliveries)),
        basis=weakest(table.basis for table in tables),
        past_error=grounds.past_error,
        omissions=omissions,
        files=files_of(plan, tables, guesses),
    )


def files_of(plan: ExportPlan, tables: Iterable[TableEstimate], guesses: Mapping[str, PlannerGuess]) -> int | None:
    """How many data files there will be; None where that cannot be told before the rows are read.

    A table has a file for each period, and as many more as its size wants; a workbook holds the period of all tables.
    """
    spec, split = find_format(plan.format), plan.split
    sizes = {table.table: ceil(table.size_bytes / split.max_bytes) if split.max_bytes else 1 for table in tables}
    periods = {table: guess.periods if split.period else 1 for table, guess in guesses.items()}
    known = {table: max(sizes[table], count) for table, count in periods.items() if count is not None}
    if len(known) < len(periods):
        return None
    if spec.many_tables and plan.format_options.get(spec.together_option or "", True):
        return max(known.values(), default=None)
    return sum(known.values())


def made_by(plan: ExportPlan) -> str:
    """What the bytes of a package went through; an encrypted one is an archive, too."""
    return ARCHIVE if plan.sealing is not None and plan.compression == NO_COMPRESSION else plan.compression


def classes_of(plan: ExportPlan, catalog: Catalog) -> Mapping[str, int]:
    """How many of the chosen columns are of each classification. A masked one holds nothing."""
    chosen = (
        catalog.shape(selection.table, selection.aggregation).columns[name]
        for selection in plan.selections
        for name in selection.columns
    )
    return dict(Counter(column.classification.value for column in chosen if column.mask is None))


def remember(plan: ExportPlan, stage: Stage, files: Iterable[ExportFile], measures: MeasureStore) -> None:
    """Record what a completed export was. ``files`` are those published; one of several tables is split by volume."""
    kinds = {selection.table: selection_kind(selection) for selection in plan.selections}
    widths = {table.table: table.guess.width_bytes for table in stage.tables if table.guess}
    sizes: Counter[str] = Counter()
    for file in files:
        parts = [part for part in file.parts if part.table in widths]
        for part, share in zip(parts, shares([volume(part.rows, widths[part.table]) for part in parts]), strict=True):
            sizes[part.table] += round(file.size_bytes * share)
    measures.record(
        plan.request_id,
        [
            Measure(
                table=table.table,
                selection=kinds[table.table],
                planner_rows=table.guess.rows if plan.converted_from is None else None,
                rows=table.rows,
                volume_bytes=round(volume(table.rows, table.guess.width_bytes)),
                size_bytes=sizes[table.table],
            )
            for table in stage.tables
            if table.guess
        ],
        catalog=plan.catalog,
        format_name=plan.format,
        compression=made_by(plan),
        converted=plan.converted_from is not None,
    )
