"""What every call passes on its way in and out: a request id, limits on its body and on calls of one address, headers,
one line in the log.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export_pipelines.api.paths import HEALTH_PATHS
from export_pipelines.api.problems import ResponseCut, answer, unforeseen
from export_pipelines.core.addresses import client_network

MAX_BODY_BYTES = 256 * 1024
_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"
_TOO_SLOW = "the body did not arrive in time"
_TOO_MANY = "too many calls at work for this address; wait for some of them"
_RETRY_SECONDS = 1
_NO_CONTENT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HSTS = "max-age=31536000"  # a year; whether subdomains have TLS is not ours to say
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_log = structlog.get_logger("export_pipelines.api")


class RequestMiddleware:
    """Outermost part of the application, plain ASGI so that streams pass through untouched."""

    def __init__(self, app: ASGIApp, *, body_seconds: float, calls_per_address: int) -> None:
        self._app = app
        self._body_seconds = body_seconds
        self._calls_per_address = calls_per_address
        self._at_work: Counter[str | None] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid4())
        scope.setdefault("state", {})["request_id"] = request_id
        started, status = time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.setdefault("Cache-Control", "private, no-store")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Content-Security-Policy", _NO_CONTENT)
                headers.setdefault("X-Frame-Options", "DENY")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
                if scope["scheme"] == "https":  # RFC 6797, section 7.2: never without TLS
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        with structlog.contextvars.bound_contextvars(http_request=request_id):
            try:
                with self._counted(scope) as allowed:
                    await (self._limited if allowed else _too_many)(scope, receive, sending)
            except ResponseCut as cut:  # to return without an end breaks the connection off, as nothing else tells it
                _log.warning("response_cut", reason=str(cut))
            except Exception as error:
                refusal = unforeseen(Request(scope), error)
                if status:  # begun: only breaking off tells the client that it is not whole
                    raise
                await refusal(scope, receive, sending)
            finally:
                _log_call(scope, status, time.monotonic() - started)

    @contextmanager
    def _counted(self, scope: Scope) -> Iterator[bool]:
        """Whether the client's address may have one more call at work; behind a proxy connections do not bound them."""
        peer = scope.get("client")
        if peer is None or scope["path"] in HEALTH_PATHS:
            yield True
            return
        network = client_network(peer[0])
        self._at_work[network] += 1
        try:
            yield self._at_work[network] <= self._calls_per_address
        finally:
            self._at_work[network] -= 1
            if not self._at_work[network]:
                del self._at_work[network]

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a body that is too large before it is read, or while it is when its size was not told; and one that
        does not come.
        """
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
            await _too_large(scope, receive, send)
            return
        seen, whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._body_seconds

        async def receiving() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout_at(None if whole else deadline):  # afterwards it waits for a disconnect
                    message = await receive()
            except TimeoutError:  # of this kind the framework lets pass
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, _TOO_SLOW, {"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
            return message

        await self._app(scope, receiving, send)


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    refused = answer(Request(scope), HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, headers={"Connection": "close"})
    await refused(scope, receive, send)


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": str(_RETRY_SECONDS)}
    await answer(Request(scope), HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY, headers=headers)(scope, receive, send)


def _log_call(scope: Scope, status: int, seconds: float) -> None:
    """The route's pattern in place of the path: paths hold tokens and ids of others' choosing."""
    route, tenant = scope.get("route"), scope["state"].get("tenant_id")
    _log.info(
        "call",
        method=scope["method"],
        route=getattr(route, "path", None),
        status=status,
        milliseconds=round(seconds * 1000, 1),
        **({"tenant": tenant} if tenant else {}),
    )
