"""The public keys of an issuer of tokens: fetched, kept, and fetched again when a key is unknown, but not often."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import structlog

from export_pipelines.core.errors import Unavailable

FETCH_TIMEOUT_SECONDS = 5.0
FRESH_SECONDS = 600.0  # a key that the issuer withdrew is refused after that
STALE_SECONDS = 3600.0  # while the issuer does not answer
PAUSE_SECONDS = 30.0  # between two fetches, however many unknown keys are named
MOST_BYTES = 1_000_000
ALGORITHMS = {  # algorithm → type of key it needs; nothing symmetric, and not "none"
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
_log = structlog.get_logger(__name__)


class IssuerKeys:
    """The key set at ``url``, shared by the threads of a process."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: list[dict[str, Any]] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None

    def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key with that id that may verify that algorithm; without an id, the only such key.

        `Unavailable` when no keys could be fetched, or none for too long.
        """
        with self._lock:
            self._renew(FRESH_SECONDS)
            found = self._matching(key_id, algorithm)
            if not found:
                self._renew(0)
                found = self._matching(key_id, algorithm)
            self._require_known()
        if len(found) != 1:
            return None
        try:
            return jwt.PyJWK(found[0], algorithm=algorithm)
        except jwt.PyJWTError:
            return None

    def _matching(self, key_id: str | None, algorithm: str) -> list[dict[str, Any]]:
        """Keys of the right type that say nothing against this use: ``alg`` and ``use`` bind where they are given."""
        return [
            key
            for key in self._keys
            if key.get("kty") == ALGORITHMS[algorithm]
            and (key_id is None or key.get("kid") == key_id)
            and key.get("alg", algorithm) == algorithm
            and key.get("use", "sig") == "sig"
        ]

    def _renew(self, older_than_seconds: float) -> None:
        """Fetch unless the keys are younger than that, or somebody has tried just now."""
        now = self._clock()
        if self._fetched_at is not None and now - self._fetched_at < older_than_seconds:
            return
        if self._tried_at is not None and now - self._tried_at < PAUSE_SECONDS:
            return
        self._tried_at = now
        try:
            self._keys = _fetched(self._url)
        except (httpx.HTTPError, ValueError) as error:
            _log.warning("jwks_not_fetched", error_type=type(error).__name__, error=str(error))
        else:
            self._fetched_at = now

    def _require_known(self) -> None:
        if self._fetched_at is None or self._clock() - self._fetched_at > STALE_SECONDS:
            raise Unavailable("the issuer's keys (EXPORT_JWT_JWKS_URL) cannot be fetched; tokens cannot be checked")


def _fetched(url: str) -> list[dict[str, Any]]:
    """Straight from the address: a redirect could lead anywhere, and an answer without end nowhere."""
    with httpx.stream("GET", url, timeout=FETCH_TIMEOUT_SECONDS, follow_redirects=False) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"answered {answer.status_code}")
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError(f"is larger than {MOST_BYTES:,} bytes")
    document = json.loads(body)
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, list):
        raise ValueError("is no JWK Set (RFC 7517)")  # noqa: TRY004 - of an answer, not of our own
    return [key for key in keys if isinstance(key, dict)]
