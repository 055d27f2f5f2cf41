"""The application in this process, for tests that look at what it works with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Caller
from export_pipelines.settings import Settings


@dataclass(frozen=True)
class Inside:
    """Calls the application; who calls is said by name."""

    app: FastAPI

    def ask(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                headers = {"Authorization": who, **options.pop("headers", {})}
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(sent())


@contextmanager
def inside(settings: Settings, callers: Mapping[str, Caller]) -> Iterator[Inside]:
    """The application with real stores, and names in place of credentials."""
    app = create_app(settings)
    services = app.state.services.having(authenticate=lambda name, _ip: callers[str(name)])
    app.state.services = services
    services.pool.open()
    yield Inside(app)
    services.close()
