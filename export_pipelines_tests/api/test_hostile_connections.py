"""Connections that no login stands behind: whatever one of them sends, or does not, the others are served."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from export_pipelines.api.server import (
    HEALTH_CONNECTIONS_PER_ADDRESS,
    MAX_HEADER_LINES,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
)
from export_pipelines_tests.api.conftest import running_api
from export_pipelines_tests.api.site import JOBS, Site

HEADER_BYTES = 8192
CONNECTIONS = 20
LIMITS = {
    "EXPORT_API_MAX_HEADER_BYTES": str(HEADER_BYTES),
    "EXPORT_API_HEADER_TIMEOUT": "1",
    "EXPORT_API_BODY_TIMEOUT": "1",
    "EXPORT_API_WRITE_TIMEOUT": "3",
    "EXPORT_API_CONNECTIONS_PER_ADDRESS": str(CONNECTIONS),
    "EXPORT_TRUSTED_PROXIES": "",
}
LARGE_BYTES = 100_000_000
MEMORY_BYTES = 40_000_000  # that the server may grow by under all of them; one large header alone took 145 MB
PATIENCE_SECONDS = 30  # far beyond all time limits above
BEGIN = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
LARGE_BODY = b"POST /api/v1/exports/jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def address(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_api(tmp_path_factory.mktemp("limited"), site.environment | LIMITS) as running:
        yield running


Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(address: str) -> Iterator[Connect]:
    """Opens connections to the server."""
    parts = urlsplit(address)
    with contextlib.ExitStack() as stack:

        def opened() -> socket.socket:
            made = socket.create_connection((str(parts.hostname), parts.port or 0), timeout=PATIENCE_SECONDS)
            return stack.enter_context(made)

        yield opened


def answered(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            received += piece
    return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def send_all(connection: socket.socket, data: bytes, *, least: int = 0) -> None:
    """As far as the server takes it."""
    with contextlib.suppress(ConnectionError):
        for start in range(0, max(len(data), least), 1 << 16):
            connection.sendall(data[start : start + (1 << 16)] or b"a" * (1 << 16))


def server_memory(address: str) -> int:
    """Resident bytes of the process that listens there."""
    port = urlsplit(address).port
    for process in psutil.Process().children(recursive=True):
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")):
            return int(process.memory_info().rss)
    raise AssertionError("no server")


LINES = b"".join(b"x-%d: a\r\n" % number for number in range(MAX_HEADER_LINES + 1))
HEADS = {
    "one line": (BEGIN + b"x: ", LARGE_BYTES, 431),
    "one name": (BEGIN, LARGE_BYTES, 431),
    "200,000 lines": (BEGIN + b"x: a\r\n" * 200_000, 0, 431),
    "a complete head with too many lines": (BEGIN + LINES + b"\r\n", 0, 431),
    "a complete head that is too large": (BEGIN + b"x: " + b"a" * HEADER_BYTES + b"\r\n\r\n", 0, 431),
    "request target": (b"GET /", LARGE_BYTES, 414),
    "a complete request target": (b"GET /" + b"a" * MAX_TARGET_BYTES + b" HTTP/1.1\r\nHost: a\r\n\r\n", 0, 414),
    "no HTTP": (b"\x16\x03\x01\x00", 0, 400),
}


@pytest.mark.parametrize(("data", "least", "expected"), HEADS.values(), ids=HEADS.keys())
def test_a_large_head_is_refused_and_costs_nobody_anything(
    address: str, connect: Connect, data: bytes, least: int, expected: int
) -> None:
    httpx.get(f"{address}/healthz")  # what a first call takes is not the head's
    before = server_memory(address)
    connection = connect()
    send_all(connection, data, least=least)
    other = httpx.get(f"{address}/readyz", timeout=PATIENCE_SECONDS)
    assert other.status_code == 200
    answer = answered(connection)
    assert status(answer) == expected or (least and not answer)  # reset while it was still sending
    if answer:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == expected
    assert server_memory(address) - before < MEMORY_BYTES


def test_a_head_within_the_limits_is_read(address: str) -> None:
    fields = {f"x-{number}": "a" * 60 for number in range(MAX_HEADER_LINES - 20)}
    assert httpx.get(f"{address}/healthz?{'q' * 2000}", headers=fields).status_code == 200


def test_trailers_are_limited_and_are_no_header_fields(address: str, connect: Connect) -> None:
    chunked = b"POST /api/v1/exports/jobs HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    connection = connect()
    send_all(connection, chunked + b"x: a\r\n" * 200_000)
    assert status(answered(connection)) in (0, 401)  # by what it had begun to answer, if anything
    connection = connect()
    connection.sendall(chunked.replace(b"Host: a", b"Host: a\r\nConnection: close") + b"Authorization: Basic a\r\n\r\n")
    assert b"Authorization: is missing" in answered(connection)
    assert httpx.get(f"{address}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", 408), (b"\r\n", 408), (BEGIN, 408), (LARGE_BODY, 408), (LARGE_BODY + b"{", 408)],
    ids=["nothing", "an empty line", "half a head", "no body", "half a body"],
)
def test_what_does_not_come_ends_the_connection(connect: Connect, data: bytes, expected: int) -> None:
    connection = connect()
    connection.sendall(data)
    assert status(answered(connection)) == expected


def test_a_head_that_comes_byte_by_byte_gets_no_more_time_than_another(connect: Connect) -> None:
    connection = connect()
    deadline = time.monotonic() + PATIENCE_SECONDS
    connection.settimeout(0.2)
    answer = b""
    while not answer and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            connection.send(b"G" if not answer else b"")
            answer = connection.recv(100)
    assert status(answer) in (400, 408)


def test_bodies_that_never_come_leave_places_for_others(address: str, connect: Connect) -> None:
    """800 of them stayed open for good."""
    waiting = [connect() for _ in range(15)]
    for connection in waiting:
        connection.sendall(LARGE_BODY)
    assert httpx.get(f"{address}/api/openapi.json").status_code == 200
    assert [status(answered(connection)) for connection in waiting] == [408] * len(waiting)


def test_an_unread_body_ends_the_connection_with_its_answer(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"GET /d/a HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    assert status(answered(connection)) == 404


def test_requests_sent_ahead_of_their_answers_are_few(address: str, connect: Connect) -> None:
    connection = connect()
    send_all(connection, (BEGIN + b"\r\n") * 100_000)
    assert httpx.get(f"{address}/healthz").status_code == 200
    answers = answered(connection)
    assert answers.count(b"HTTP/1.1 ") <= 1 + MAX_PIPELINED
    connection = connect()
    connection.sendall((BEGIN + b"\r\n") * 3 + BEGIN + b"Connection: close\r\n\r\n")
    assert answered(connection).count(b"HTTP/1.1 200") == 4


def test_an_upgrade_is_answered_as_if_nobody_had_asked(connect: Connect) -> None:
    connection = connect()
    connection.sendall(BEGIN + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nmore")
    assert status(answered(connection)) == 200


def test_a_client_that_does_not_read_is_cut_off(site: Site, connect: Connect) -> None:
    made = site.publish(files={"large.csv": b"a" * 64_000_000, "manifest.json": b"{}\n"})
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(f"GET /d/{made.token}/large.csv HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert connection.recv(1) == b"H"
    port, ended = connection.getsockname()[1], time.monotonic() + PATIENCE_SECONDS
    while _served(port):
        assert time.monotonic() < ended, "the server still holds the connection"
        time.sleep(0.2)


def test_a_client_that_reads_slowly_gets_everything(site: Site, connect: Connect) -> None:
    """The pieces of a package are larger than what it reads in the time that a piece has."""
    made = site.publish(files={"a.csv": b"a" * 8_000_000, "b.csv": b"", "manifest.json": b"{}\n"})
    connection = connect()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    head = f"GET {JOBS}/{made.id}/download HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    connection.sendall(f"{head}Authorization: Bearer {site.keys['ann']}\r\n\r\n".encode())
    received, until = 0, time.monotonic() + 8
    while time.monotonic() < until:
        received += len(connection.recv(65_536))
        time.sleep(0.25)
    assert received + len(answered(connection)) > 8_000_000


def _served(port: int) -> bool:
    """Whether a server of ours has a connection from that port."""
    found = (process.net_connections("tcp") for process in psutil.Process().children(recursive=True))
    return any(c.raddr and c.raddr.port == port for connections in found for c in connections)


def test_an_address_has_so_many_connections_and_some_for_health_checks(
    site: Site, address: str, connect: Connect
) -> None:
    """Those that it has watch an export that waits."""
    events = f"GET {JOBS}/{site.queue()}/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {site.keys['ann']}\r\n\r\n"
    held = [connect() for _ in range(CONNECTIONS)]
    for connection in held:
        connection.sendall(events.encode())
        assert status(connection.recv(1 << 16)) == 200
    health, other = connect(), connect()
    health.sendall(BEGIN + b"\r\n")
    assert status(answered(health)) == 200
    other.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = answered(other)
    assert (status(answer), b"retry-after: " in answer) == (503, True)
    beyond = [connect() for _ in range(HEALTH_CONNECTIONS_PER_ADDRESS + 1)]
    assert status(answered(beyond[-1])) == 503
    for connection in (*held, *beyond):
        connection.close()
    ended = time.monotonic() + PATIENCE_SECONDS
    while httpx.get(f"{address}/api/openapi.json").status_code != 200:
        assert time.monotonic() < ended
