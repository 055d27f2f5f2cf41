"""Whether the API lives, and whether it and the work behind it can go on."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Literal

import structlog
from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from export_pipelines.api.paths import HEALTH, READINESS
from export_pipelines.api.request_context import services_of
from export_pipelines.api.services import ApiServices
from export_pipelines.core.clock import STEP_SECONDS
from export_pipelines.core.errors import ExportError
from export_pipelines.stores.service_state import ServiceState, ServiceStateStore

VERSION = version("export-pipelines")
SILENT_AFTER_SECONDS = 120.0  # sensors look every 5 s, and a tick may wait for its turn
DAEMON_SILENT_AFTER_SECONDS = 180.0  # each of Dagster's daemons says every 30 s that it lives
router = APIRouter(tags=["operations"])
Part = Literal["ok", "unavailable", "unknown"]
_log = structlog.get_logger(__name__)


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ok", "degraded", "unavailable"] = Field(
        description="`unavailable`: this API cannot work. `degraded`: it can, and takes orders that wait."
    )
    control_database: Part
    object_store: Part = Field(description="An object is written, read back and deleted, at most every five seconds.")
    source: Part = Field(description="As runs and the probes after them last found it; `unknown` before the first.")
    daemon: Part = Field(description="Dagster's daemon evaluates sensors, and each of its parts gives signs of life.")
    clock: Part = Field(description="The clock runs evenly, and the service's agrees with the database's.")


@router.get(HEALTH, summary="Check liveness", response_model=Health)
async def healthz() -> Health:
    """Without a thread, so that it answers while all of them are at work."""
    return Health()


@router.get(READINESS, summary="Check readiness", response_model=Readiness)
async def readyz(services: Annotated[ApiServices, Depends(services_of)], response: Response) -> Readiness:
    """503 while the database or the object store does not work, so that a load balancer looks elsewhere.

    What stops only the work behind the API is told as `degraded`, with 200. Why is in the log.
    """
    state, database = await to_thread.run_sync(_state, services, limiter=services.checks)
    store = await to_thread.run_sync(_store, services, limiter=services.checks)
    found = Readiness(
        status="ok",
        control_database=database,
        object_store=store,
        source=_source(state),
        daemon=_daemon(state),
        clock=_clock(state),
    )
    if "unavailable" in (found.control_database, found.object_store):
        found.status = "unavailable"
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    elif "unavailable" in (found.source, found.daemon, found.clock):
        found.status = "degraded"
    if found.status != "ok":
        _log.warning("not_ready", **found.model_dump())
    return found


def _state(services: ApiServices) -> tuple[ServiceState | None, Part]:
    try:
        with services.pool.tenant_session(None) as control:
            return ServiceStateStore(control).read(), "ok"
    except ExportError as error:
        _log.warning("control_database_unavailable", problem=str(error))
        return None, "unavailable"


def _store(services: ApiServices) -> Part:
    try:
        services.store_probe()
    except ExportError as error:
        _log.warning("object_store_unavailable", problem=str(error))
        return "unavailable"
    return "ok"


def _source(state: ServiceState | None) -> Part:
    if state is None:
        return "unknown"
    return "ok" if state.source_down_since is None else "unavailable"


def _daemon(state: ServiceState | None) -> Part:
    if state is None:
        return "unknown"
    silent = state.looked_seconds_ago > SILENT_AFTER_SECONDS
    dead = any(ago > DAEMON_SILENT_AFTER_SECONDS for ago in state.daemon_seconds_ago.values())
    return "unavailable" if silent or dead else "ok"


def _clock(state: ServiceState | None) -> Part:
    """A look in the future means that the clock was set back and nothing has looked since."""
    if state is None:
        return "unknown"
    stepped = state.ahead or state.looked_seconds_ago < -STEP_SECONDS
    return "unavailable" if stepped or abs(state.skew_seconds) > STEP_SECONDS else "ok"
