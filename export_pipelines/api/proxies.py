"""Whom a call came from: the connection's other end, or who a trusted proxy says.

Outermost part of the application, so that the log, the audit log and all limits mean the same address. Only what the
trusted proxies themselves added to ``X-Forwarded-For`` counts: addresses are read from the right, and the first that is
not such a proxy's is the client's; what is left of it was sent by the client. ``X-Forwarded-Proto`` says whether the
client came by TLS. ``X-Forwarded-Host`` and ``Host`` mean nothing: addresses in answers begin with EXPORT_PUBLIC_URL.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from export_pipelines.core.addresses import Network, client_address

_SCHEMES = ("http", "https")


class TrustedProxies:
    """Replaces client and scheme of calls that come from one of the networks."""

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app = app
        self._networks = networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if scope["type"] == "http" and peer and is_trusted(peer[0], self._networks):
            headers = Headers(scope=scope)
            client = forwarded_client(peer[0], headers.getlist("x-forwarded-for"), self._networks)
            scheme = ",".join(headers.getlist("x-forwarded-proto")).rpartition(",")[2].strip().lower()
            scope = {**scope, "client": (client, 0), "scheme": scheme if scheme in _SCHEMES else scope["scheme"]}
        await self._app(scope, receive, send)


def is_trusted(ip: str | None, networks: Sequence[Network]) -> bool:
    address = client_address(ip)
    if address is None:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed.version == network.version and parsed in network for network in networks)


def forwarded_client(peer: str, forwarded: Sequence[str], networks: Sequence[Network]) -> str:
    """The right-most address that is no trusted proxy's, else the left-most; the last proxy's own where what it tells
    is no address.
    """
    client = peer
    for entry in reversed(",".join(forwarded).split(",")):
        address = client_address(_without_port(entry.strip()))
        if address is None:
            return client
        client = address
        if not is_trusted(address, networks):
            break
    return client


def _without_port(entry: str) -> str:
    """``192.0.2.7:1234`` and ``[2001:db8::1]:1234`` as some proxies write them."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry
