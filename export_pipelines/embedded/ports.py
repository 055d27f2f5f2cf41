"""The choice of a TCP port for the embedded server."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Below Linux's ephemeral ports (32768 and up), which any outgoing connection may occupy.
PORTS = range(10_001, 32_768)
PORT_ATTEMPTS = 20


def free_ports(preferred: int) -> Iterator[int]:
    """The preferred port first, then random ones; only ports nobody listens on now."""
    for port in (preferred, *secrets.SystemRandom().sample(PORTS, PORT_ATTEMPTS)):
        if port in PORTS and _is_free(port):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As PostgreSQL does: closed connections of the last server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
