"""Which ticks are measured: tenants into partitions, schedules into requests, requests into runs, a month for all."""

from __future__ import annotations

import datetime as dt

from benchmarks.results import Run
from benchmarks.scale import orders
from benchmarks.scale.cases import Case
from benchmarks.scale.place import Place
from benchmarks.scale.recording import Record, run_of
from benchmarks.scale.ticks import Daemon, Tick
from export_pipelines.core.catalog import Grain
from export_pipelines.orchestration.partitions import tenant_partitions_name
from export_pipelines.pipeline.assembly import open_source

_CLOSING = f"close_last_{Grain.MONTH}"
_RUNS = 50  # of a tick that makes one for each owner: all are alike, and a thousand take long


def new_tenants(found: Place, ticking: Daemon, record: Record, case: Case) -> None:
    """All tenants at once into partitions; where there are buckets, there is nothing to do."""
    if case.buckets is not None:
        return
    label = "`sync_tenants`, every tenant new"
    record.repeated("sync.new", label, lambda: _run(ticking.sensor(_tenants_sensor(found))), times=1)


def idle(found: Place, ticking: Daemon, record: Record, case: Case) -> None:
    """Ticks that have nothing to do."""
    if case.buckets is None:
        sensor = _tenants_sensor(found)
        record.repeated("sync.none", "`sync_tenants`, none new", lambda: _run(ticking.sensor(sensor)))
    for name in ("export_requests", "due_schedules", "silent_requests"):
        record.repeated(f"{name}.none", f"`{name}`, nothing to do", lambda name=name: _run(ticking.sensor(name)))


def dispatch(found: Place, ticking: Daemon, record: Record, *, schedules: int, due: int) -> None:
    """Schedules fall due, become requests in one tick, and the requests runs in others."""
    url, now = found.workplace.settings.require_control_url(), dt.datetime.now(dt.UTC)
    tenants = open_source(found.workplace.settings.require_source_url(), found.catalog).tenants()
    orders.schedule(url, tenants, now=now, count=schedules)
    record.repeated(
        "due_schedules.others",
        f"`due_schedules`, none of {schedules:,} due",
        lambda: _run(ticking.sensor("due_schedules")),
    )
    orders.make_due(url, due, now=now)
    label = f"`due_schedules`, {due:,} of {schedules:,} due"
    record.repeated("due_schedules.due", label, lambda: _run(ticking.sensor("due_schedules")), times=1)
    label = f"`export_requests`, {due:,} queued: 100 a tick into runs"
    record.repeated("export_requests.queued", label, lambda: _run(ticking.sensor("export_requests")))
    record.repeated(
        "silent_requests.queued", "`silent_requests` beside those", lambda: _run(ticking.sensor("silent_requests"))
    )


def closing(ticking: Daemon, record: Record, case: Case) -> None:
    """The schedule that closes a month asks for a run for each owner, and the daemon makes them."""
    at = _second_of_next_month(dt.datetime.now(dt.UTC))
    label = f"`{_CLOSING}` evaluated"
    record.repeated("close.evaluated", label, lambda: _run(ticking.evaluation(_CLOSING, at)))
    if case.launches:
        label = f"`{_CLOSING}`, its first {_RUNS} runs into the queue"
        record.repeated("close.tick", label, lambda: _run(ticking.schedule(_CLOSING, at, most=_RUNS)), times=1)


def _run(tick: Tick) -> Run:
    return run_of(tick.seconds, status=tick.status, runs=tick.runs, said=tick.said)


def _tenants_sensor(found: Place) -> str:
    return f"{tenant_partitions_name(found.catalog)}_sensor"


def _second_of_next_month(now: dt.datetime) -> dt.datetime:
    """When the schedule is due next."""
    return (now.replace(day=1) + dt.timedelta(days=32)).replace(day=2, hour=2, minute=0, second=0, microsecond=0)
