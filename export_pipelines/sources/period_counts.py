"""In how many months or weeks the rows of a selection lie, where the planner expects counting them to be cheap."""

from __future__ import annotations

from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.packing import period_column
from export_pipelines.core.types import Kind
from export_pipelines.core.windows import Period
from export_pipelines.sources.omitted import CHEAP_COST, Ask
from export_pipelines.sources.relation import from_where


def expect_periods(
    catalog: Catalog, selection: TableSelection, scope: TenantScope, ask: Ask, period: Period
) -> int | None:
    """Rows without a time count as a period; 1 for a table that stays whole. None where counting would cost more.

    PostgreSQL's weeks are those of ISO 8601, as the files' are.
    """
    table = catalog.shape(selection.table, selection.aggregation)
    name = period_column(selection.columns, table)
    if name is None:
        return 1
    rows = from_where(catalog, selection, scope)
    plan = ask(sql.SQL("EXPLAIN (FORMAT JSON) SELECT {}").format(rows))[0][0]["Plan"]
    if plan["Total Cost"] > CHEAP_COST:
        return None
    moment: sql.Composable = sql.Identifier(name)
    if table.form_of(name).kind is Kind.INSTANT:
        moment = sql.SQL("{} AT TIME ZONE {}").format(moment, sql.Literal(catalog.timezone))
    start = sql.SQL("date_trunc({}, {})").format(sql.Literal(period.value), moment)
    counted = sql.SQL("SELECT count(DISTINCT {}) + coalesce(max(({} IS NULL)::int), 0) {}")
    (found,) = ask(counted.format(start, moment, rows))
    return max(1, int(found))  # a table without rows is a file, too
