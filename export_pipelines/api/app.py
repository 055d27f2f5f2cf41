"""The application: routes of the API, the pages behind links, what operators ask."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from export_pipelines.api import (
    audit,
    bulk,
    catalog,
    cleanup,
    docs,
    downloads,
    estimates,
    events,
    health,
    jobs,
    links,
    metrics,
    queue,
    schedules,
    shares,
    signing_keys,
    templates,
    verification,
)
from export_pipelines.api.problems import add_handlers
from export_pipelines.api.proxies import TrustedProxies
from export_pipelines.api.request_middleware import RequestMiddleware
from export_pipelines.api.services import open_api_services
from export_pipelines.logs import configure_logs
from export_pipelines.settings import Settings, load_settings

DESCRIPTION = """Every tenant's own data: on demand, in the format it needs, complete and only its own.

Authenticate with `Authorization: Bearer` and an API key or a JWT of the host application. Errors are problem documents
(RFC 9457) that name the field and the next step. Foreign and unknown ids both answer 404."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application; settings come from the environment unless given."""
    configure_logs(as_json=True)
    logging.getLogger("uvicorn.access").disabled = True  # its lines would hold tokens; `boundary` writes ours
    settings = settings or load_settings()
    services = open_api_services(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        services.pool.open()
        yield
        services.close()

    app = FastAPI(
        title="Export Pipelines",
        version=health.VERSION,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        redirect_slashes=False,  # the target would be made of the caller's Host field
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.watchers = events.Watchers()
    add_handlers(app)
    app.add_middleware(
        RequestMiddleware,
        body_seconds=settings.api_body_timeout,
        calls_per_address=settings.api_connections_per_address,
    )
    app.add_middleware(TrustedProxies, networks=settings.trusted_proxies)  # added last, so it is the outermost
    tenants = (
        catalog,
        estimates,
        bulk,
        jobs,
        events,
        downloads,
        verification,
        shares,
        schedules,
        templates,
        cleanup,
        queue,
        audit,
    )
    for module in (*tenants, links, signing_keys, metrics, health, docs):
        app.include_router(module.router)
    docs.add_assets(app)
    docs.describe_deliveries(app)
    return app
