"""No run is asked for while what it needs does not answer; when it does again, those that waited go on in their order.

A run that meets an outage postpones its request (`holding`). From then on what exports need is probed with each look of
a request sensor, until none waits any more, so an outage costs a few runs and not one for each request and pause.
"""

from collections.abc import Callable, Mapping

import structlog

from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.maintenance.probing import Probe, probe_store
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.service_state import Need, ServiceState

TIMEOUT_SECONDS = 15.0  # a sensor has a minute, and two probes
_PROBES: dict[tuple[Need, str], Probe] = {}  # of this process: one that hangs is waited for and never begun again
_log = structlog.get_logger(__name__)


def outage(services: ExportServices, *, conversions: bool) -> str | None:
    """What does not answer that such exports need; None when they can be launched."""
    requests, state = services.requests, services.state
    if not _suspected(state.read()) and requests.awaiting() == 0:
        return None
    failed = {need: problem for need, probe in _probes(services, conversions) if (problem := _problem(probe))}
    ended = [need for need, _ in _probes(services, conversions) if need not in failed and state.up(need)]
    for need, problem in failed.items():
        if state.down(need):
            _log.warning("outage", of=need, problem=problem, effect="exports wait for it and use up no attempts")
    for need in ended:
        _log.warning("outage_ended", of=need)
    if failed:
        return "; ".join(f"{need}: {problem}" for need, problem in failed.items())
    if ended:
        requests.release()
    return None


def _suspected(state: ServiceState | None) -> bool:
    return state is not None and bool(state.source_down_since or state.store_down_since)


def _probes(services: ExportServices, conversions: bool) -> list[tuple[Need, Probe]]:
    """A conversion does not ask the source."""
    store = services.store
    wanted: Mapping[Need, Callable[[], None]] = {
        **({} if conversions else {Need.SOURCE: services.source.ping}),
        Need.STORE: lambda: probe_store(store),
    }
    place = store.url("probe")
    return [
        (need, _PROBES.setdefault((need, place), Probe(probe, timeout_seconds=TIMEOUT_SECONDS, fresh_seconds=0.0)))
        for need, probe in wanted.items()
    ]


def _problem(probe: Probe) -> str | None:
    try:
        probe()
    except Unavailable as error:
        return str(error)
    return None
