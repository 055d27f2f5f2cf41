"""The HTTP server of the API: uvicorn, with limits on what a connection may cost before anybody has logged in.

uvicorn 0.54 lacks most of them. It bounds the size of a request's head for its parser h11 only
(`h11_max_incomplete_event_size`), and a complete head that arrives at once is not measured; `limit_concurrency` answers
health checks with 503 as well; and `timeout_keep_alive` is its only time limit, for connections between two requests.
So its protocol on the parser httptools is extended here:

- the head of a request: bytes, lines, length of the request target (431, 414), and the time it may take (408);
- requests sent ahead of their answers on one connection;
- a request whose body is not read when its answer is complete ends the connection;
- a client that does not read its answer is cut off;
- connections, in all and of one address, with some more for health checks.

Time limits on bodies are the application's (`export_pipelines.api.request_middleware`), which answers and logs them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from functools import partial
from http import HTTPStatus
from typing import Any, cast
from uuid import uuid4

import httptools
import structlog
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from export_pipelines.api.paths import HEALTH_PATHS
from export_pipelines.api.problems import MEDIA_TYPE, problem_document
from export_pipelines.api.proxies import is_trusted
from export_pipelines.core.addresses import Network, client_network
from export_pipelines.settings import Settings

MAX_HEADER_LINES = 100  # trailers included
MAX_TARGET_BYTES = 8192  # RFC 9110, section 4.1: at least 8000 octets
MAX_PIPELINED = 8  # requests that wait on a connection for the answers before them
HEALTH_CONNECTIONS = 16  # beyond the limits, for health checks only
HEALTH_CONNECTIONS_PER_ADDRESS = 4
HEALTH_HEADER_SECONDS = 5.0
LEAST_READ_BYTES = 16 * 1024
GRACE_SECONDS = 3  # for calls that are at work when the server is stopped
LINGER_SECONDS = 2.0  # for a refused client to read why, before its bytes in flight reset the connection
_UNSENT_BYTES = 128 * 1024  # the kernel asks for more when half of them are left
_PIECE_BYTES = 16 * 1024  # of received bytes between two looks at the limits
_LOOK_SECONDS = 1.0  # between two looks at the time limits
_RETRY_SECONDS = 5
_REPORT_SECONDS = 60.0
_TELL = {
    HTTPStatus.BAD_REQUEST: "the request is not HTTP/1.1 as RFC 9112 has it",
    HTTPStatus.REQUEST_TIMEOUT: "the head of the request took too long",
    HTTPStatus.REQUEST_URI_TOO_LONG: f"the request target is longer than {MAX_TARGET_BYTES:,} bytes",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "the header fields are too many or too large",
    HTTPStatus.SERVICE_UNAVAILABLE: "there are too many connections; try again after the time in Retry-After",
}
_log = structlog.get_logger("export_pipelines.api")


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What connections may cost. Durations are seconds."""

    connections: int
    connections_per_address: int
    header_bytes: int  # of a request's head, its target and its trailers included
    header_seconds: float  # from the first byte of a request, or the connection, to the end of its head
    write_seconds: float  # in which a client reads `LEAST_READ_BYTES` of what it is sent, or is cut off
    trusted_proxies: tuple[Network, ...]  # whose connections are those of many addresses

    @classmethod
    def of(cls, settings: Settings) -> ServerLimits:
        return cls(
            connections=settings.api_max_connections,
            connections_per_address=settings.api_connections_per_address,
            header_bytes=settings.api_max_header_bytes,
            header_seconds=settings.api_header_timeout,
            write_seconds=settings.api_write_timeout,
            trusted_proxies=settings.trusted_proxies,
        )


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve the API until it is told to stop."""
    limits = ServerLimits.of(settings)
    uvicorn.run(
        "export_pipelines.api.app:create_app",
        factory=True,
        host=host,
        port=port,
        http=cast("type[asyncio.Protocol]", partial(LimitedProtocol, limits=limits, admission=Admission(limits))),
        ws="none",  # there are none, and their protocol has no such limits
        log_config=None,
        access_log=False,  # the API writes its own lines, without tokens
        server_header=False,
        proxy_headers=False,  # it would believe whoever connects from this machine; `proxies` reads them
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


class Standing(Enum):
    """What a connection is good for."""

    ADMITTED = "admitted"
    HEALTH_ONLY = "health checks only"
    REFUSED = "refused"


class Admission:
    """Counts the connections of a process."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._total: Counter[Standing] = Counter()
        self._of: Counter[tuple[Standing, str | None]] = Counter()
        self._refused = 0
        self._reported_at = -_REPORT_SECONDS

    def enter(self, ip: str | None) -> Standing:
        """Counts the connection, unless it is refused."""
        standing = self._standing(ip)
        if standing is Standing.REFUSED:
            self._refused += 1
        else:
            self._total[standing] += 1
            self._of[standing, client_network(ip)] += 1
        if standing is not Standing.ADMITTED:
            self._report()
        return standing

    def leave(self, ip: str | None, standing: Standing) -> None:
        if standing is Standing.REFUSED:
            return
        self._total[standing] -= 1
        self._of[standing, client_network(ip)] -= 1
        if not self._of[standing, client_network(ip)]:
            del self._of[standing, client_network(ip)]

    def _standing(self, ip: str | None) -> Standing:
        limits = self._limits
        of_address = self._of[Standing.ADMITTED, client_network(ip)]
        alone = is_trusted(ip, limits.trusted_proxies) or of_address < limits.connections_per_address
        if alone and self._total[Standing.ADMITTED] < limits.connections:
            return Standing.ADMITTED
        checking = self._of[Standing.HEALTH_ONLY, client_network(ip)] < HEALTH_CONNECTIONS_PER_ADDRESS
        if checking and self._total[Standing.HEALTH_ONLY] < HEALTH_CONNECTIONS:
            return Standing.HEALTH_ONLY
        return Standing.REFUSED

    def _report(self) -> None:
        """Once a minute at most: a flood of connections must not become one of lines."""
        now = time.monotonic()
        if now - self._reported_at >= _REPORT_SECONDS:
            _log.warning("connections_at_limit", open=self._total[Standing.ADMITTED], refused=self._refused)
            self._reported_at, self._refused = now, 0


class _Refused(Exception):
    """A request that is not answered by the application."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *given: Any, limits: ServerLimits, admission: Admission, **named: Any) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._admission = admission
        self._standing = Standing.REFUSED
        self._look: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_since: float | None = None  # None: no head is waited for
        self._head_bytes = 0  # as parsed, of the message at hand
        self._head_lines = 0
        self._unparsed_bytes = 0  # received of the head, parsed or not
        self._message_open = False  # its head is complete, its body is not
        self._upgraded = False  # what still arrives is no HTTP/1.1 and is thrown away
        self._unread_since: float | None = None  # the client has hardly read of what it was sent
        self._unread_bytes = 0  # then
        self._lingering_since: float | None = None  # refused; what still arrives is thrown away

    # Connections ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._standing = self._admission.enter(self._ip)
        if self._standing is Standing.REFUSED:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            transport.close()
            return
        _keep_unsent_small(transport)
        self._head_since = self.loop.time()
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_at_times)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        self._unset_keepalive_if_required()
        self._admission.leave(self._ip, self._standing)
        super().connection_lost(exc)

    @property
    def _ip(self) -> str | None:
        return self.client[0] if self.client else None

    def _look_at_times(self) -> None:
        now, limits = self.loop.time(), self._limits
        self._look_at_reading(now)
        healthy = self._standing is Standing.ADMITTED
        header_seconds = limits.header_seconds if healthy else min(limits.header_seconds, HEALTH_HEADER_SECONDS)
        if _over(self._unread_since, limits.write_seconds, now) or _over(self._lingering_since, LINGER_SECONDS, now):
            self.transport.abort()
            return
        if _over(self._head_since, header_seconds, now):
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        self._look = self.loop.call_later(_LOOK_SECONDS, self._look_at_times)

    def _look_at_reading(self, now: float) -> None:
        """Also when the answer is complete: a connection is closed only when its last bytes are on their way."""
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self._unread_since = None
        elif self._unread_since is None or not self._unread_bytes - LEAST_READ_BYTES < unread <= self._unread_bytes:
            self._unread_since, self._unread_bytes = now, unread

    # Requests ---------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """In pieces, so that no number of bytes that arrive at once passes the limits."""
        for start in range(0, len(data), _PIECE_BYTES):
            if self._upgraded or self._lingering_since is not None or self.transport.is_closing():
                return
            self._feed(data[start : start + _PIECE_BYTES])

    def _feed(self, piece: bytes) -> None:
        self._unset_keepalive_if_required()
        was_in_head = self._in_head
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # there is nothing to upgrade to, and what follows would not be HTTP/1.1
            self._upgraded = True
            return
        except httptools.HttpParserError as error:
            reason = error.__context__
            self._refuse(reason.status if isinstance(reason, _Refused) else HTTPStatus.BAD_REQUEST)
            return
        if self._is_idle() and self._head_since is None:  # empty lines before a request begins are waiting, too
            self._head_since = self.loop.time()
        self._unparsed_bytes = self._unparsed_bytes + len(piece) if was_in_head and self._in_head else 0
        if self._unparsed_bytes > self._limits.header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._head_lines = True, 0, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_bytes += len(url)
        if len(self.url) > MAX_TARGET_BYTES:
            raise _Refused(HTTPStatus.REQUEST_URI_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + len(b": \r\n")
        self._head_lines += 1
        if self._head_bytes > self._limits.header_bytes or self._head_lines > MAX_HEADER_LINES:
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        if self._in_head:  # trailers are nobody's header fields
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refused(HTTPStatus.TOO_MANY_REQUESTS)
        self._in_head, self._head_since, self._message_open = False, None, True
        checked = self._standing is Standing.ADMITTED or self.url.partition(b"?")[0].decode("latin1") in HEALTH_PATHS
        self.app = self.config.loaded_app if checked else _no_connection_left
        super().on_headers_complete()
        if self._standing is not Standing.ADMITTED:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._message_open = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        unread = self._message_open and not self.pipeline  # else what is open is a later request
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._linger()
        elif self._in_head and self._is_idle():
            self._head_since = self.loop.time()

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for an upgrade must not write into the log."""

    # Refusals ---------------------------------------------------------------------------------------------------------

    def _is_idle(self) -> bool:
        """Whether no answer is owed or under way."""
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer in the application's place, where no other answer is under way, and end the connection."""
        self._head_since = None
        if self.transport.is_closing():
            return
        if not self._is_idle():
            self.transport.abort()
            return
        request_id = str(uuid4())
        if self._standing is not Standing.REFUSED:  # those are reported by number
            _log.info("request_refused", status=status, ip=self._ip, http_request=request_id)
        self.transport.write(_answer(status, request_id))
        self._linger()

    def _linger(self) -> None:
        """Nothing more is sent or believed; the client has a moment to read before the connection ends."""
        self._lingering_since = self.loop.time()
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()


def _keep_unsent_small(transport: asyncio.Transport) -> None:
    """So that what a slow client reads is seen here: the kernel may else hold megabytes before it asks for more."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)


def _over(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds


def _answer(status: HTTPStatus, request_id: str) -> bytes:
    document = problem_document(status, _TELL.get(status, status.phrase)).model_copy(update={"request_id": request_id})
    body = document.model_dump_json(exclude_none=True).encode()
    retry = f"retry-after: {_RETRY_SECONDS}\r\n" if status is HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\ncache-control: private, no-store\r\nx-content-type-options: nosniff\r\n"
        f"{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body


async def _no_connection_left(_scope: Scope, _receive: Receive, send: Send) -> None:
    """The application of connections that are for health checks only."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    body = problem_document(status, _TELL[status]).model_dump_json(exclude_none=True).encode()
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), "retry-after": str(_RETRY_SECONDS)}
    fields = [(name.encode(), value.encode()) for name, value in (headers | {"cache-control": "no-store"}).items()]
    await send({"type": "http.response.start", "status": status.value, "headers": fields})
    await send({"type": "http.response.body", "body": body})
