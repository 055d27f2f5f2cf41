"""An issuer of tokens: a real HTTP server with a key set that tests change while it runs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from jwt.algorithms import get_default_algorithms


@dataclass
class Issuer:
    """Keys by id, what the server answers, and how often it was asked."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    asked: int = 0

    def publish(self, key_id: str | None, algorithm: str, private: Any, **members: Any) -> None:
        """Add the public half of a key."""
        public = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
        self.keys.append({**public, **({"kid": key_id} if key_id else {}), **members})

    def answer(self) -> bytes:
        return self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()


def signed(private: Any, algorithm: str, key_id: str | None, **claims: Any) -> str:
    """A token for this service."""
    known = {"tenant_id": "t", "sub": "ann", "role": "admin", "aud": "exports", "exp": time.time() + 300, **claims}
    return jwt.encode(known, private, algorithm=algorithm, headers={"kid": key_id} if key_id else None)


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """On a free port, until the end of the block."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.send_response(issuer.status)
            if issuer.status == HTTPStatus.FOUND:
                self.send_header("Location", f"{issuer.url}?again")
            self.end_headers()
            if issuer.status == HTTPStatus.OK:
                self.wfile.write(issuer.answer())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}/keys"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
