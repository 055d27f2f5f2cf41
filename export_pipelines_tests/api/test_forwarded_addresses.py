"""Whose address a call counts for, and what a client may say about itself: nothing, unless through a trusted proxy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from export_pipelines.api.proxies import TrustedProxies, forwarded_client
from export_pipelines.api.request_middleware import RequestMiddleware
from export_pipelines.core.addresses import parse_networks
from export_pipelines.settings import Settings
from export_pipelines_tests.api.site import Site

TRUSTED = parse_networks("127.0.0.1, 10.1.0.0/16, ::1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),  # the left one was sent by the client
        ("127.0.0.1", ["203.0.113.9", "192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        ("127.0.0.1", ["10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:10.1.9.9", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", ["192.0.2.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.7, nonsense, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
    ],
)
def test_the_right_most_address_that_is_no_proxys_is_the_clients(peer: str, forwarded: list[str], client: str) -> None:
    assert forwarded_client(peer, forwarded, TRUSTED) == client


def seen_by_the_application(peer: str, networks: str, **headers: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.update(scope)

    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    scope = {"type": "http", "client": (peer, 1), "scheme": "http", "headers": fields}
    proxies = TrustedProxies(application, parse_networks(networks))
    asyncio.run(proxies(scope, None, None))  # type: ignore[arg-type]
    return seen


@pytest.mark.parametrize(
    ("peer", "networks", "expected"),
    [
        ("127.0.0.1", "", ("127.0.0.1", "http")),
        ("192.0.2.1", "127.0.0.1", ("192.0.2.1", "http")),
        ("127.0.0.1", "127.0.0.1", ("192.0.2.7", "https")),
    ],
    ids=["none is trusted, this machine neither", "somebody else", "a trusted proxy"],
)
def test_only_a_trusted_proxy_is_believed(peer: str, networks: str, expected: tuple[str, str]) -> None:
    seen = seen_by_the_application(peer, networks, x_forwarded_for="192.0.2.7", x_forwarded_proto="https")
    assert (seen["client"][0], seen["scheme"]) == expected


def test_a_scheme_that_is_none_changes_nothing() -> None:
    assert seen_by_the_application("127.0.0.1", "127.0.0.1", x_forwarded_proto="gopher")["scheme"] == "http"
    assert seen_by_the_application("127.0.0.1", "127.0.0.1", x_forwarded_proto="http, https")["scheme"] == "https"


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "*", "10.0.0.0/8 10.1.0.0/16"])
def test_proxies_are_addresses_and_networks(value: str) -> None:
    with pytest.raises(ValidationError, match="neither an address nor a network"):
        Settings(EXPORT_TRUSTED_PROXIES=value)
    assert Settings(EXPORT_TRUSTED_PROXIES="").trusted_proxies == ()


@pytest.mark.parametrize(("scheme", "reported"), [("https", True), ("http", False)])
def test_strict_transport_security_is_for_clients_that_came_by_tls(site: Site, scheme: str, reported: bool) -> None:
    with site.client(**{"X-Forwarded-Proto": scheme}) as client:
        answers = [client.get(path) for path in ("/healthz", "/api/docs", "/d/none", "/api/v1/exports/jobs")]
    assert {"strict-transport-security" in answer.headers for answer in answers} == {reported}


def test_no_answer_repeats_the_host_a_client_names(site: Site) -> None:
    made = site.publish()
    with site.client("ann", **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"}) as client:
        answers = [
            client.get(f"/api/v1/exports/jobs/{made.id}"),
            client.get("/api/v1/exports/jobs?limit=1"),
            client.get(f"/d/{made.token}"),
            client.get("/api/docs"),
            client.post("/api/v1/exports/jobs", json={"tables": ["pets"], "format": "csv"}),
        ]
    assert not [answer.url for answer in answers if "evil" in f"{answer.text}{answer.headers}"]


def test_calls_at_work_for_one_address_are_bounded() -> None:
    """Behind a proxy no number of connections bounds them."""

    async def run() -> list[int]:
        release, statuses = asyncio.Event(), []

        async def application(_scope: Any, _receive: Any, send: Any) -> None:
            await release.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                release.set()

        boundary = RequestMiddleware(application, body_seconds=1, calls_per_address=2)
        peers = ["192.0.2.7", "192.0.2.7", "192.0.2.8", "192.0.2.7"]
        scopes = [
            {"type": "http", "method": "GET", "path": "/", "scheme": "http", "headers": [], "client": (peer, 1),
             "query_string": b"", "server": ("test", 80), "root_path": ""}
            for peer in peers
        ]  # fmt: skip
        await asyncio.gather(*(boundary(scope, None, send) for scope in scopes))  # type: ignore[arg-type]
        return sorted(statuses)

    assert asyncio.run(run()) == [200, 200, 200, 429]
