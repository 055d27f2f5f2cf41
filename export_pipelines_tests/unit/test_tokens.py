"""Tokens of the host application: which are believed, and what is told about the others."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from export_pipelines.api.tokens import Claims, SharedSecret, TokenVerifier, open_verifier
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.errors import NotAuthenticated, RequestRejected
from export_pipelines.settings import Settings, load_settings

SECRET = "a secret of the host, 32 bytes or more"
ANN = {"tenant_id": "clinic-1", "sub": "ann", "role": "admin"}


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    known = {**ANN, "exp": time.time() + 300, **claims}
    return jwt.encode({name: value for name, value in known.items() if value is not ...}, secret, algorithm=algorithm)


def ours(**claims: Any) -> str:
    """A token that is wrong in nothing but the given."""
    return token(**{"aud": "exports", "iss": "host", **claims})


def verifier(**claims: Any) -> TokenVerifier:
    return TokenVerifier(SharedSecret(SECRET), Claims(**claims))


def test_claims_become_a_caller() -> None:
    assert verifier().caller(token(jti="t-1")) == Caller(
        role=Role.ADMIN, tenant_id="clinic-1", user_id="ann", credential="jwt:t-1"
    )


def test_an_operator_belongs_to_no_tenant() -> None:
    caller = verifier().caller(token(role="operator", tenant_id=...))
    assert (caller.role, caller.tenant_id, caller.user_id) == (Role.OPERATOR, None, "ann")


def test_names_of_claims_and_roles_are_the_hosts() -> None:
    read = verifier(tenant="app.tenant", user="https://host.example/user", role="app.right", roles={"vet": Role.MEMBER})
    made = token(app={"tenant": "c-2", "right": "vet"}, **{"https://host.example/user": "bob"})
    assert read.caller(made) == Caller(role=Role.MEMBER, tenant_id="c-2", user_id="bob", credential="jwt")


def test_clocks_may_differ_by_half_a_minute() -> None:
    assert verifier().caller(token(exp=time.time() - 20, nbf=time.time() + 20)).user_id == "ann"


def forged_by_hand(header: dict[str, Any], signature: bytes = b"") -> str:
    parts = (header, {**ANN, "exp": time.time() + 300})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts]
    return b".".join(part.rstrip(b"=") for part in (*encoded, base64.urlsafe_b64encode(signature))).decode()


# Made when they are tried: a token is good for minutes only.
REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "of another secret": (lambda: token("another secret that has 32 bytes too"), "signature that does not fit"),
    "of another algorithm of the family": (lambda: token(SECRET * 2, "HS512"), "algorithm that is not accepted"),
    "unsigned": (lambda: forged_by_hand({"alg": "none", "typ": "JWT"}), "algorithm that is not accepted"),
    "unsigned, spelled otherwise": (lambda: forged_by_hand({"alg": "NoNe"}), "algorithm that is not accepted"),
    "without algorithm": (lambda: forged_by_hand({"typ": "JWT"}), "algorithm that is not accepted"),
    "algorithm is a list": (lambda: forged_by_hand({"alg": ["HS256"]}), "algorithm that is not accepted"),
    "with an extension that must be understood": (lambda: forged_by_hand({"alg": "HS256", "crit": ["x"]}), "can read"),
    "expired": (lambda: token(exp=time.time() - 31), "has expired"),
    "without end": (lambda: token(exp=...), "lacks the claim exp"),
    "end is no number": (lambda: token(exp="soon"), "can read"),
    "from the future": (lambda: token(nbf=time.time() + 60), "not valid yet"),
    "no token": (lambda: "a.b.c", "can read"),
    "one word": (lambda: "hunter2", "can read"),
    "very long": (lambda: "a" * 20_000, "longer than 16,384"),
    "not for us": (lambda: ours(aud="other"), "not for this service"),
    "for nobody": (lambda: ours(aud=...), "lacks the claim aud"),
    "of a stranger": (lambda: ours(iss="mallory"), "of another issuer"),
    "without tenant": (lambda: ours(tenant_id=...), "lacks the claim tenant_id"),
    "tenant is null": (lambda: ours(tenant_id=None), "lacks the claim tenant_id"),
    "tenant is a number": (lambda: ours(tenant_id=7), "claim tenant_id that is no text"),
    "tenant is a list": (lambda: ours(tenant_id=["clinic-1"]), "claim tenant_id that is no text"),
    "tenant is empty": (lambda: ours(tenant_id=""), "claim tenant_id that is no text"),
    "tenant with a NUL": (lambda: ours(tenant_id="a\0b"), "claim tenant_id that is no text"),
    "without user": (lambda: ours(sub=...), "lacks the claim sub"),
    "user too long": (lambda: ours(sub="x" * 201), "claim sub that is no text"),
    "user called as a key": (lambda: ours(sub="key:0190b6c4-0000-7000-8000-000000000001"), "service's own names"),
    "user called as a command": (lambda: ours(sub="cli"), "service's own names"),
    "role unknown": (lambda: ours(role="root"), "no role of this service"),
    "role in capitals": (lambda: ours(role="ADMIN"), "no role of this service"),
    "without role": (lambda: ours(role=...), "no role of this service"),
    "several roles": (lambda: ours(role=["admin"]), "claim role that is no text"),
    "operator of a tenant": (lambda: ours(role="operator"), "operators belong to none"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_a_token_is_refused_with_a_reason_that_tells_nothing_of_it(make: Callable[[], str], problem: str) -> None:
    made = make()
    with pytest.raises(NotAuthenticated, match=problem) as refused:
        verifier(issuer="host", audience="exports").caller(made)
    assert refused.value.reason == "invalid_token"
    assert not any(part in str(refused.value) for part in (SECRET, "mallory", "hunter2", made))


def test_a_public_key_is_no_shared_secret() -> None:
    """The classic confusion of algorithms: HS256 with what everybody can read of an RSA key."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps({**ANN, "exp": time.time() + 300}).encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, header + b"." + body, hashlib.sha256)).rstrip(b"=")
    settings = Settings(EXPORT_JWT_JWKS_URL="https://host.example/keys", EXPORT_JWT_AUDIENCE="exports")
    checked = open_verifier(settings)
    assert checked is not None
    with pytest.raises(NotAuthenticated, match="algorithm that is not accepted"):
        checked.caller(b".".join((header, body, signature)).decode())


def test_without_settings_there_are_no_tokens() -> None:
    assert open_verifier(Settings()) is None


def test_the_settings_say_what_counts() -> None:
    settings = Settings(
        EXPORT_JWT_SECRET=SECRET,
        EXPORT_JWT_AUDIENCE="exports",
        EXPORT_JWT_TENANT_CLAIM="app.clinic",
        EXPORT_JWT_ROLES="vet=admin, staff = member",
    )
    made = open_verifier(settings)
    assert made is not None
    assert made.caller(token(aud="exports", role="staff", app={"clinic": "c-9"})).tenant_id == "c-9"
    with pytest.raises(NotAuthenticated, match="no role of this service"):
        made.caller(token(aud="exports", role="admin", app={"clinic": "c-9"}))
    assert SECRET not in repr(made.__dict__)


WRONG_SETTINGS: list[tuple[dict[str, str], str]] = [
    ({"EXPORT_JWT_SECRET": "x" * 31}, "EXPORT_JWT_SECRET must have 32 bytes"),
    ({"EXPORT_JWT_SECRET": SECRET, "EXPORT_JWT_JWKS_URL": "https://a/k", "EXPORT_JWT_AUDIENCE": "e"}, "exclude each"),
    ({"EXPORT_JWT_JWKS_URL": "https://a/k"}, "needs EXPORT_JWT_AUDIENCE"),
    ({"EXPORT_JWT_JWKS_URL": "http://a/k", "EXPORT_JWT_AUDIENCE": "e"}, "EXPORT_JWT_JWKS_URL: must be an https"),
    ({"EXPORT_JWT_JWKS_URL": "http://127.0.0.1.example/k"}, "EXPORT_JWT_JWKS_URL: must be an https"),
    ({"EXPORT_JWT_JWKS_URL": "file:///etc/passwd"}, "EXPORT_JWT_JWKS_URL: must be an https"),
    ({"EXPORT_JWT_ROLES": "vet=root"}, "EXPORT_JWT_ROLES: must be pairs"),
    ({"EXPORT_JWT_ROLES": "vet"}, "EXPORT_JWT_ROLES: must be pairs"),
]


@pytest.mark.parametrize(("environment", "problem"), WRONG_SETTINGS, ids=[wrong[1] for wrong in WRONG_SETTINGS])
def test_wrong_settings_are_named(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], problem: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestRejected, match=problem):
        load_settings()
