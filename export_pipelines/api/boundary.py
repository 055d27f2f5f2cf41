"""What every call passes on its way in and out: a request id, a limit on its body, headers, one line in the log."""

from __future__ import annotations

import re
import time
from http import HTTPStatus
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from export_pipelines.api.problems import answer, unforeseen

MAX_BODY_BYTES = 256 * 1024
_TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_log = structlog.get_logger("export_pipelines.api")


class Boundary:
    """Outermost part of the application, plain ASGI so that streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
            await send(message)

        with structlog.contextvars.bound_contextvars(http_request=request_id):
            try:
                await self._limited(scope, receive, sending)
            except Exception as error:
                refusal = unforeseen(Request(scope), error)
                if status:  # begun: only breaking off tells the client that it is not whole
                    raise
                await refusal(scope, receive, sending)
            finally:
                _log_call(scope, status, time.monotonic() - started)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a body that is too large before it is read, or while it is when its size was not told."""
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told[:20]) > MAX_BODY_BYTES:
            await _too_large(scope, receive, send)
            return
        seen = 0

        async def receiving() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:  # of this kind the framework lets pass
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE)
            return message

        await self._app(scope, receiving, send)


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    refused = answer(Request(scope), HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TOO_LARGE, headers={"Connection": "close"})
    await refused(scope, receive, send)


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
