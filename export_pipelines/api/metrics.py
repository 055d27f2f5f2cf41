"""``/metrics`` for Prometheus, made from the control database at each scrape.

So totals survive restarts, every process of the API tells the same, and one scrape of any of them is enough. No label
names a tenant: there may be thousands, and each would be a series of its own.
"""

from __future__ import annotations

import datetime as dt
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import PlainTextResponse, Response
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.request_context import CurrentRequest
from export_pipelines.core.access import Action
from export_pipelines.core.errors import IntegrityViolation, NotAllowed, RequestRejected, Unavailable
from export_pipelines.core.status import DeliveryStatus, RequestStatus
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.stores.metrics import FigureStore, QueueNow, ScheduleFigures
from export_pipelines.stores.schedules import LATE_AFTER
from export_pipelines.stores.service_state import Need, ServiceState

PREFIX = "export_pipelines_"
OTHER = "other"
# What does not exist cannot rise: a counter that appears with its first event is not seen to have risen.
_ENDS = (RequestStatus.COMPLETED, RequestStatus.FAILED, RequestStatus.CANCELLED, RequestStatus.EXPIRED)
_FAILURES = (RequestRejected.error_type, Unavailable.error_type, IntegrityViolation.error_type, "internal", "lost")
_DELIVERY_ENDS = (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED, DeliveryStatus.PENDING)
_FIRES = ("dispatched", "skipped")
_HISTOGRAMS = {
    "export_duration_seconds": "From the beginning of a run to the published package.",
    "export_wait_seconds": "From when an export was due to the beginning of its run.",
    "export_size_bytes": "Of a published package.",
}

Totals = Sequence[Mapping[str, Any]]


router = APIRouter(tags=["operations"], responses=ANSWERS)


@router.get(
    "/metrics",
    summary="Get metrics for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"application/openmetrics-text": {}}}},
)
def metrics(context: CurrentRequest, accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
    """Counters, histograms and gauges as text, for operators; as OpenMetrics where `Accept` asks for it."""
    with context.unit_of_work(Action.SEE_METRICS) as work:
        late_after = context.services.settings.schedule_late_after
        content, media_type = exposition(FigureStore(work.control), accept, late_after=late_after)
    return Response(content, headers={"Content-Type": media_type})


def exposition(store: FigureStore, accept: str = "", *, late_after: dt.timedelta = LATE_AFTER) -> tuple[bytes, str]:
    """(content, media type); `NotAllowed` for whoever may not count everything."""
    started = time.perf_counter()
    now = store.queue_now() if store.sees_all() else None
    if now is None:
        raise NotAllowed("metrics are for operators; use a credential with the role operator")
    totals = store.totals()
    families = [
        *_counters(totals),
        *_histograms(totals),
        *_gauges(now),
        *_of_schedules(store.schedules(late_after)),
        *_of_service(store.service_state()),
        _build(),
    ]
    families.append(
        _gauge("scrape_duration_seconds", "How long the control database took.", time.perf_counter() - started)
    )
    registry = CollectorRegistry()
    registry.register(_Scrape(families))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type


class _Scrape(Collector):
    """The families of one scrape, which is all that an encoder takes."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counters(totals: Totals) -> Iterator[Metric]:
    formats = _format_names()
    ends = {(name, end): 0.0 for name in all_formats() for end in _ENDS}
    failures, retries = dict.fromkeys(_FAILURES, 0.0), dict.fromkeys((*_FAILURES, "none"), 0.0)
    deliveries = {(method, end): 0.0 for method in all_destinations() for end in _DELIVERY_ENDS}
    fires = dict.fromkeys(_FIRES, 0.0)
    amounts = {"rows": dict.fromkeys(all_formats(), 0.0), "bytes": dict.fromkeys(all_formats(), 0.0)}
    for row in totals:
        kind, status, error, value = formats.get(row["kind"], OTHER), row["status"], row["error_type"], row["value"]
        match row["name"]:
            case "exports" if status == RequestStatus.QUEUED:
                retries[error or "none"] = retries.get(error or "none", 0.0) + value
            case "exports":
                ends[kind, status] = ends.get((kind, status), 0.0) + value
                if status == RequestStatus.FAILED:
                    failures[error] = failures.get(error, 0.0) + value
            case "schedule_fires":
                fires[status] = value
            case "deliveries":
                deliveries[row["kind"], status] = value
            case "rows" | "bytes" as name:
                amounts[name][kind] = amounts[name].get(kind, 0.0) + value
    yield _counter("exports", "Exports that ended; expired ones were completed before.", ("format", "status"), ends)
    yield _counter("export_failures", "Exports that failed, by what to do about it.", ("error_type",), failures)
    yield _counter("export_retries", "Exports queued again; none: by hand.", ("error_type",), retries)
    yield _counter("exported_rows", "Rows of completed exports.", ("format",), amounts["rows"])
    yield _counter("exported_bytes", "Bytes of published packages.", ("format",), amounts["bytes"])
    yield _counter("schedule_fires", "Fires of schedules; skipped: missed, and dropped by policy.", ("status",), fires)
    yield _counter("deliveries", "Tries to deliver; pending: to be tried again.", ("method", "status"), deliveries)


def _histograms(totals: Totals) -> Iterator[Metric]:
    formats = _format_names()
    for name, meaning in _HISTOGRAMS.items():
        family = HistogramMetricFamily(PREFIX + name, meaning, labels=["format"])
        rows = [row for row in totals if row["name"] == name]
        for label in dict.fromkeys(formats.get(row["kind"], OTHER) for row in rows):
            held = [row for row in rows if formats.get(row["kind"], OTHER) == label]  # under its name and its aliases
            counts = [sum(column) for column in zip(*(row["counts"] for row in held), strict=True)]
            bounds = [*(str(bound) for bound in held[0]["bounds"]), "+Inf"]
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric([label], buckets, sum(row["value"] for row in held))
        yield family


def _gauges(now: QueueNow) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        f"{PREFIX}queue_exports", "Exports due, waiting for another try, and at work.", labels=["state"]
    )
    for state in ("queued", "waiting", "processing"):
        depth.add_metric([state], getattr(now, state))
    yield depth
    outbox = GaugeMetricFamily(f"{PREFIX}deliveries_open", "Deliveries not yet made or given up.", labels=["status"])
    for status in (DeliveryStatus.PENDING, DeliveryStatus.SENDING):
        outbox.add_metric([status], now.deliveries.get(status, 0))
    yield outbox
    yield _gauge("queue_oldest_seconds", "How long the oldest due export waits.", now.oldest_queued_seconds)
    yield _gauge("run_silence_seconds", "Since the quietest run told that it is alive.", now.silent_seconds)
    yield _gauge("delivery_oldest_seconds", "How long the oldest delivery is due.", now.oldest_delivery_seconds)
    yield _gauge("tenants_at_work", "Tenants with an export at work; the most told is 100.", len(now.running))


def _of_schedules(found: ScheduleFigures) -> Iterator[Metric]:
    states = GaugeMetricFamily(f"{PREFIX}schedules", "Schedules of all tenants.", labels=["state"])
    states.add_metric(["active"], found.active)
    states.add_metric(["paused"], found.paused)
    yield states
    yield _gauge("schedules_late", "Schedules whose last fire is no completed export in time.", found.late_ones)
    yield _gauge(
        "schedule_overdue_seconds", "How long the oldest fire waits to become an export.", found.overdue_seconds
    )


def _of_service(state: ServiceState | None) -> Iterator[Metric]:
    """Nothing before the daemon's first look."""
    if state is None:
        return
    yield _gauge("sensor_silence_seconds", "Since sensors were evaluated last.", max(0.0, state.looked_seconds_ago))
    silence = GaugeMetricFamily(
        f"{PREFIX}daemon_silence_seconds", "Since each of Dagster's daemons gave a sign of life.", labels=["daemon"]
    )
    for name, seconds in sorted(state.daemon_seconds_ago.items()):
        silence.add_metric([name.lower()], max(0.0, seconds + state.looked_seconds_ago))
    yield silence
    yield _gauge(
        "clock_ahead_seconds",
        "By how much the clock is ahead of the time that counts for schedules.",
        state.step_seconds,
    )
    yield _gauge("clock_skew_seconds", "From the database's clock to the service's.", state.skew_seconds)
    steps = {"forward": float(state.steps_forward), "back": float(state.steps_back)}
    yield _counter("clock_steps", "How often the clock was set by half a minute or more.", ("direction",), steps)
    down = GaugeMetricFamily(f"{PREFIX}outage", "1 while exports wait because it does not answer.", labels=["of"])
    for need, since in ((Need.SOURCE, state.source_down_since), (Need.STORE, state.store_down_since)):
        down.add_metric([need], float(since is not None))
    yield down


def _build() -> Metric:
    family = InfoMetricFamily(f"{PREFIX}build", "What runs.")
    family.add_metric([], {"version": version("export-pipelines"), "python": platform.python_version()})
    return family


def _counter(name: str, meaning: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, meaning, labels=labels)
    for key, value in values.items():
        family.add_metric([str(part) for part in (key if isinstance(key, tuple) else (key,))], value)
    return family


def _gauge(name: str, meaning: str, value: float | None) -> Metric:
    """Nothing that waits has waited for no time."""
    return GaugeMetricFamily(PREFIX + name, meaning, value=value or 0.0)


def _format_names() -> dict[str, str]:
    """What a request may have called a format → the format."""
    return {called: spec.name for spec in all_formats().values() for called in (spec.name, *spec.aliases)}
