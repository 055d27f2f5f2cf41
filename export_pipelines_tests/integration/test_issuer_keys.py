"""Public keys of an issuer, fetched from a real server: rotation, outages, and keys that do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from export_pipelines.api.jwks import FRESH_SECONDS, PAUSE_SECONDS, STALE_SECONDS, IssuerKeys
from export_pipelines.api.tokens import Claims, PublicKeys, TokenVerifier
from export_pipelines.core.errors import NotAuthenticated, Unavailable
from export_pipelines_tests.servers.issuer import Issuer, running_issuer, signed

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
MAKERS: dict[str, Any] = {"RS256": RSA, "PS512": RSA, "ES256": EC, "EdDSA": ED}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> TokenVerifier:
    return TokenVerifier(PublicKeys(IssuerKeys(issuer.url, clock=clock)), Claims(audience="exports"))


@pytest.mark.parametrize("algorithm", MAKERS)
@pytest.mark.parametrize("key_id", ["k1", None])
def test_a_signature_of_the_issuer_counts(
    issuer: Issuer, verifier: TokenVerifier, algorithm: str, key_id: str | None
) -> None:
    issuer.publish(key_id, algorithm, MAKERS[algorithm])
    for _ in range(3):
        assert verifier.caller(signed(MAKERS[algorithm], algorithm, key_id)).user_id == "ann"
    assert issuer.asked == 1


def test_without_ids_the_only_key_of_the_right_type_is_taken(issuer: Issuer, verifier: TokenVerifier) -> None:
    for algorithm in ("RS256", "ES256", "EdDSA"):
        issuer.publish(None, algorithm, MAKERS[algorithm])
    for algorithm in ("RS256", "ES256", "EdDSA"):
        assert verifier.caller(signed(MAKERS[algorithm], algorithm, None)).user_id == "ann"


def test_a_new_key_is_fetched_when_a_token_names_it(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    issuer.publish("k1", "RS256", RSA)
    verifier.caller(signed(RSA, "RS256", "k1"))
    issuer.publish("k2", "RS256", OTHER_RSA)
    clock.now += PAUSE_SECONDS
    assert verifier.caller(signed(OTHER_RSA, "RS256", "k2")).user_id == "ann"
    assert verifier.caller(signed(RSA, "RS256", "k1")).user_id == "ann"
    assert issuer.asked == 2


def test_made_up_key_ids_do_not_make_us_hammer_the_issuer(issuer: Issuer, verifier: TokenVerifier) -> None:
    issuer.publish("k1", "RS256", RSA)
    for number in range(20):
        with pytest.raises(NotAuthenticated, match="a key that the issuer does not have"):
            verifier.caller(signed(RSA, "RS256", f"made-up-{number}"))
    assert issuer.asked == 1


def test_a_withdrawn_key_is_refused_after_a_while(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    issuer.publish("k1", "RS256", RSA)
    verifier.caller(signed(RSA, "RS256", "k1"))
    issuer.keys.clear()
    issuer.publish("k2", "RS256", OTHER_RSA)
    clock.now += FRESH_SECONDS
    with pytest.raises(NotAuthenticated, match="a key that the issuer does not have"):
        verifier.caller(signed(RSA, "RS256", "k1"))


WRONG: dict[str, Callable[[], str]] = {
    "key of another": lambda: signed(OTHER_RSA, "RS256", "rsa"),
    "symmetric key in the set": lambda: signed("x" * 32, "HS256", "oct"),
    "algorithm of another type": lambda: signed(EC, "ES256", "rsa"),
    "key is for encryption": lambda: signed(RSA, "RS256", "enc"),
    "key is bound to another algorithm": lambda: signed(RSA, "RS256", "bound"),
    "no key named, several fit": lambda: signed(RSA, "RS256", None),
    "key is broken": lambda: signed(EC, "ES256", "broken"),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_key_that_does_not_fit_proves_nothing(
    issuer: Issuer, verifier: TokenVerifier, make: Callable[[], str]
) -> None:
    issuer.publish("rsa", "RS256", RSA)
    issuer.publish("second", "RS256", OTHER_RSA)
    issuer.publish("enc", "RS256", RSA, use="enc")
    issuer.publish("bound", "RS256", RSA, alg="RS512")
    issuer.keys += [
        {"kty": "oct", "kid": "oct", "k": "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"},
        {"kty": "EC", "kid": "broken", "crv": "P-256", "x": "AA", "y": "AA"},
        "no object",  # type: ignore[list-item]
    ]
    with pytest.raises(NotAuthenticated, match=r"the token (is|has)"):
        verifier.caller(make())


def test_a_token_for_another_application_of_the_issuer_is_refused(issuer: Issuer, verifier: TokenVerifier) -> None:
    issuer.publish("k1", "RS256", RSA)
    with pytest.raises(NotAuthenticated, match="is not for this service"):
        verifier.caller(signed(RSA, "RS256", "k1", aud="billing"))


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, None), (302, None), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": 1}'), (200, b" " * 1_000_001)],
    ids=["failing", "elsewhere", "no json", "no object", "no list", "endless"],
)
def test_without_keys_tokens_cannot_be_checked_which_is_nobodys_fault(
    issuer: Issuer, verifier: TokenVerifier, status: int, body: bytes | None
) -> None:
    issuer.status, issuer.body = status, body
    for _ in range(5):
        with pytest.raises(Unavailable, match="EXPORT_JWT_JWKS_URL"):
            verifier.caller(signed(RSA, "RS256", "k1"))
    assert issuer.asked == 1  # each asking may last seconds


def test_keys_outlive_a_short_outage_and_not_a_long_one(issuer: Issuer, verifier: TokenVerifier, clock: Clock) -> None:
    issuer.publish("k1", "RS256", RSA)
    verifier.caller(signed(RSA, "RS256", "k1"))
    issuer.status = 503
    clock.now += FRESH_SECONDS + 1
    assert verifier.caller(signed(RSA, "RS256", "k1")).user_id == "ann"
    clock.now += STALE_SECONDS
    with pytest.raises(Unavailable):
        verifier.caller(signed(RSA, "RS256", "k1"))
    issuer.status = 200
    clock.now += PAUSE_SECONDS
    assert verifier.caller(signed(RSA, "RS256", "k1")).user_id == "ann"
