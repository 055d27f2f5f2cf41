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

FAILURES = Rate(capacity=20, per_seconds=60)  # of one address
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
        """`NotAuthenticated`; or `TooMany` for an address that failed too often.

        A right credential is let in all the same: an address may be that of a proxy or of a whole office, and whoever
        guesses at 256 random bits learns nothing by being answered.
        """
        credential = bearer(header)
        try:
            return self._caller(credential)
        except NotAuthenticated as error:
            self._count(ip, str(error))
            raise

    def _caller(self, credential: str) -> Caller:
        if not credential.startswith(PREFIX):
            return self._of_token(credential)
        with self._transactions() as control:
            caller = ApiKeyStore(control).authenticate(credential)
        if caller is None:
            raise NotAuthenticated("the API key is unknown, expired or revoked", reason=INVALID_TOKEN)
        return caller

    def _of_token(self, credential: str) -> Caller:
        if self._tokens is None:
            raise NotAuthenticated(f"give an API key, which begins with {PREFIX}", reason=INVALID_TOKEN)
        return self._tokens.caller(credential)

    def _count(self, ip: str | None, problem: str) -> None:
        """Note a failure; `TooMany` in its place when the address has none left."""
        with self._transactions() as control:
            taken = RateLimits(control).take(subject_of_address(ip, _FAILURES), FAILURES)
        if not taken.allowed:  # and no line in the log: it could be filled otherwise
            raise TooMany("too many failed logins from this address", retry_after_seconds=taken.retry_after_seconds)
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
