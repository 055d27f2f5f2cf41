"""Who is calling: the ``Authorization`` header of a request → `Caller`, or 401 with a hint (RFC 6750)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from export_pipelines.api.tokens import INVALID_TOKEN, TokenVerifier
from export_pipelines.core.access import Caller
from export_pipelines.core.api_keys import PREFIX
from export_pipelines.core.errors import NotAuthenticated, TooMany
from export_pipelines.core.rates import Rate
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import Control
from export_pipelines.stores.rate_limits import RateLimits, subject_of_address

FAILURES = Rate(capacity=20, per_seconds=60)  # of one address; then even a right credential waits
INVALID_REQUEST = "invalid_request"
_FAILURES = "failed logins"
_log = structlog.get_logger(__name__)

Transactions = Callable[[], AbstractContextManager[Control]]


class Credentials:
    """Checks of credentials. Each step has a transaction of its own: none is open while an issuer is asked for keys,
    and a failure is counted although the request ends there.
    """

    def __init__(self, transactions: Transactions, tokens: TokenVerifier | None) -> None:
        self._transactions = transactions
        self._tokens = tokens

    def authenticate(self, header: str | None, ip: str | None) -> Caller:
        """`NotAuthenticated`; or `TooMany` for an address that failed too often, whatever it brings now."""
        credential = bearer(header)
        subject = subject_of_address(ip, _FAILURES)
        is_key = credential.startswith(PREFIX)
        with self._transactions() as control:
            found = RateLimits(control).look(subject, FAILURES)
            caller = ApiKeyStore(control).authenticate(credential) if is_key and found.allowed else None
        if not found.allowed:
            raise TooMany("too many failed logins from this address", retry_after_seconds=found.retry_after_seconds)
        if caller is not None:
            return caller
        try:
            return self._of_token(credential, is_key=is_key)
        except NotAuthenticated as error:
            self._count(subject, ip, str(error))
            raise

    def _of_token(self, credential: str, *, is_key: bool) -> Caller:
        if is_key:
            raise NotAuthenticated("the API key is unknown, expired or revoked", reason=INVALID_TOKEN)
        if self._tokens is None:
            raise NotAuthenticated(f"give an API key, which begins with {PREFIX}", reason=INVALID_TOKEN)
        return self._tokens.caller(credential)

    def _count(self, subject: str, ip: str | None, problem: str) -> None:
        with self._transactions() as control:
            RateLimits(control).take(subject, FAILURES)
        _log.warning("authentication_failed", ip=ip, problem=problem)


def bearer(header: str | None) -> str:
    """The credential of ``Authorization: Bearer …``."""
    if header is None:
        raise NotAuthenticated("is missing; send `Authorization: Bearer` with an API key or a token")
    scheme, _, credential = header.strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential or not credential.isascii() or " " in credential:
        raise NotAuthenticated("must be `Bearer`, a space, and an API key or a token", reason=INVALID_REQUEST)
    return credential
