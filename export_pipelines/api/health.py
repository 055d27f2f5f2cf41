"""Whether the API lives, and whether it can work."""

from __future__ import annotations

from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from export_pipelines.api.calls import services_of
from export_pipelines.api.services import ApiServices
from export_pipelines.core.errors import ExportError

VERSION = version("export-pipelines")
HEALTH, READINESS = "/healthz", "/readyz"
PATHS = (HEALTH, READINESS)
router = APIRouter(tags=["operations"])
Part = Literal["ok", "unavailable"]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Part
    control_database: Part
    object_store: Part


@router.get(HEALTH, summary="The process answers", response_model=Health)
async def healthz() -> Health:
    """Without a thread, so that it answers while all of them are at work."""
    return Health()


@router.get(READINESS, summary="Database and object store answer, too", response_model=Readiness)
async def readyz(services: Annotated[ApiServices, Depends(services_of)], response: Response) -> Readiness:
    """503 while one of them does not, so that a load balancer looks elsewhere. Why is in the log."""
    database = await to_thread.run_sync(_database, services, limiter=services.checks)
    store = await to_thread.run_sync(_store, services, limiter=services.checks)
    status: Part = "ok" if database == store == "ok" else "unavailable"
    if status != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(status=status, control_database=database, object_store=store)


def _database(services: ApiServices) -> Part:
    try:
        with services.pool.acting(None) as control:
            control.rows("SELECT 1")
    except ExportError:
        return "unavailable"
    return "ok"


def _store(services: ApiServices) -> Part:
    try:
        services.store.exists("readyz")
    except (ExportError, OSError):
        return "unavailable"
    return "ok"
