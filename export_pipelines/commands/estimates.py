"""``estimate``: what an export would be, without making one."""

from __future__ import annotations

from dataclasses import asdict

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work
from export_pipelines.commands.expanding import expanded
from export_pipelines.commands.ordering import AsJson, OrderOptions, Tenant, new_order, order_of
from export_pipelines.core.estimating import Estimate, TableEstimate
from export_pipelines.packaging.omissions import account, notable
from export_pipelines.pipeline.planning.orders import Order, PlannedOrder, estimate_order, find_retained, plan_order
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.settings import load_settings


@expanded(required=("format_",))
def estimate(tenant: Tenant, options: OrderOptions, as_json: AsJson = False) -> None:
    """Estimate what `export` with the same options would be: rows, size, time, personal data. Nothing is exported.

    Rows that would be left out are counted where that takes milliseconds; otherwise they are the planner's estimate.
    """
    with output.reported(as_json=as_json):
        order = order_of(new_order(options, None), tenant)  # which password it will be does not matter here
        with at_work(load_settings()) as services:
            planned, found = estimated(order, services)
        if as_json:
            answer = {name: value for name, value in asdict(found).items() if name != "omissions"}
            output.say_json({**answer, "left_out": account(found.omissions)})
        else:
            _tell(found)
            for table in planned.plan.whole_tables:
                output.say(f"{table} comes whole: the date range does not apply to it")


def estimated(wanted: Order | PlannedOrder, services: ExportServices) -> tuple[PlannedOrder, Estimate]:
    """The plan of the order, and what it would be; refuses what its plan would refuse."""
    catalog, store = services.catalog, services.store
    if isinstance(wanted, Order):
        retained = find_retained(wanted, catalog, services.requests, store)
        wanted = plan_order(wanted, catalog, retained=retained, longest_keep=services.settings.keep)
    return wanted, estimate_order(wanted, catalog, source=services.source, measures=services.measures, store=store)


def _tell(found: Estimate) -> None:
    for table in found.tables:
        output.say(f"  {table.table:44} {table.rows:>12,} rows  {output.size(table.size_bytes):>9}  {_ground(table)}")
    for line in notable(found.omissions):
        output.say(f"  {line}")
    files = "" if found.files is None else f" in {found.files:,} file{'s' if found.files != 1 else ''}"
    output.say(f"about {found.rows:,} rows{files}, {output.size(found.size_bytes)}, {found.seconds:.1f} s once it runs")
    classes = ", ".join(f"{count} {name}" for name, count in found.classes.items())
    output.say(f"columns: {classes or 'none'}")
    if found.recipients:
        output.say(f"delivered to {', '.join(found.recipients)}")
    if found.past_error is not None:
        past = found.past_error
        output.say(
            f"estimates were off by {past.rows:.0%} in rows, {past.size_bytes:.0%} in size, {past.seconds:.0%} in time "
            f"(median of {past.exports} exports{'' if past.own else ' of everybody'})"
        )


def _ground(table: TableEstimate) -> str:
    exports = f", {table.past_exports} exports" if table.past_exports else ""
    return f"{table.basis}{exports}{'' if table.analysed else ', never analysed: run ANALYZE'}"
