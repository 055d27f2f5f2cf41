"""JSON Web Tokens of the host application: whose signature counts, and which claims say who the caller is.

By a shared secret or by the issuer's public keys, never both, and each with algorithms of its own: a public key is
known to everybody, so a token "signed" with it as a secret must not count (RFC 8725).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import jwt

from export_pipelines.api.jwks import ALGORITHMS, IssuerKeys
from export_pipelines.core.access import Caller, Role, is_own_name
from export_pipelines.core.errors import NotAuthenticated
from export_pipelines.settings import Settings

LEEWAY_SECONDS = 30  # clocks differ
INVALID_TOKEN = "invalid_token"  # noqa: S105 - an error code of RFC 6750
SECRET_ALGORITHM = "HS256"  # noqa: S105
_LONGEST_ID = 200
_LONGEST_TOKEN = 16_384
_REASONS: dict[type[Exception], str] = {  # the library's own words may quote the token
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is not for this service (aud)",
    jwt.InvalidIssuerError: "is of another issuer (iss)",
    jwt.InvalidAlgorithmError: "is signed with an algorithm that is not accepted here",
    jwt.InvalidSignatureError: "has a signature that does not fit",
}


@dataclass(frozen=True, kw_only=True)
class Claims:
    """Where a token says who the caller is, and what it must say of itself."""

    tenant: str = "tenant_id"
    user: str = "sub"
    role: str = "role"
    roles: Mapping[str, Role] = field(default_factory=lambda: {role.value: role for role in Role})
    issuer: str | None = None
    audience: str | None = None


class _Keys(Protocol):
    def key_for(self, header: Mapping[str, Any]) -> jwt.PyJWK | str: ...

    @property
    def algorithms(self) -> list[str]: ...


@dataclass(frozen=True)
class SharedSecret:
    """HS256 and nothing else."""

    secret: str = field(repr=False)
    algorithms: list[str] = field(default_factory=lambda: [SECRET_ALGORITHM])

    def key_for(self, _header: Mapping[str, Any]) -> str:
        return self.secret


@dataclass(frozen=True)
class PublicKeys:
    """The issuer's keys, with algorithms of signatures only."""

    keys: IssuerKeys
    algorithms: list[str] = field(default_factory=lambda: list(ALGORITHMS))

    def key_for(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        key = self.keys.find(header.get("kid"), header["alg"])
        if key is None:
            raise _refused("is signed with a key that the issuer does not have")
        return key


class TokenVerifier:
    """Tokens → callers."""

    def __init__(self, keys: _Keys, claims: Claims) -> None:
        self._keys = keys
        self._claims = claims

    def caller(self, token: str) -> Caller:
        """Whom the token stands for; `NotAuthenticated` says what is wrong with it, never what it holds."""
        return _caller(self._verified(token), self._claims)

    def _verified(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST_TOKEN:
            raise _refused(f"is longer than {_LONGEST_TOKEN:,} characters")
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in self._keys.algorithms:
                raise jwt.InvalidAlgorithmError
            return jwt.decode(
                token,
                self._keys.key_for(header),
                algorithms=[header["alg"]],
                audience=self._claims.audience,
                issuer=self._claims.issuer,
                leeway=LEEWAY_SECONDS,
                options={
                    "require": ["exp"],
                    "verify_aud": self._claims.audience is not None,
                    "verify_iss": self._claims.issuer is not None,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"lacks the claim {error.claim}") from error
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _refused(_REASONS.get(type(error), "is not a token this service can read")) from error


def open_verifier(settings: Settings) -> TokenVerifier | None:
    """None where no tokens are accepted, only API keys."""
    claims = Claims(
        tenant=settings.jwt_tenant_claim,
        user=settings.jwt_user_claim,
        role=settings.jwt_role_claim,
        roles=settings.jwt_roles or Claims().roles,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    if settings.jwt_jwks_url is not None:
        return TokenVerifier(PublicKeys(IssuerKeys(settings.jwt_jwks_url)), claims)
    if settings.jwt_secret is not None:
        return TokenVerifier(SharedSecret(settings.jwt_secret.get_secret_value()), claims)
    return None


def _caller(token: Mapping[str, Any], claims: Claims) -> Caller:
    role = claims.roles.get(_text(token, claims.role) or "")
    if role is None:
        raise _refused(f"has no role of this service in the claim {claims.role}")
    tenant, user = _text(token, claims.tenant), _text(token, claims.user)
    if user is None:
        raise _refused(f"lacks the claim {claims.user}")
    if is_own_name(user):
        raise _refused(f"has a claim {claims.user} that begins as this service's own names do")
    if role is Role.OPERATOR and tenant is not None:
        raise _refused(f"is an operator's and names a tenant ({claims.tenant}); operators belong to none")
    if role is not Role.OPERATOR and tenant is None:
        raise _refused(f"lacks the claim {claims.tenant}")
    named = token.get("jti")
    credential = f"jwt:{named[:_LONGEST_ID]}" if isinstance(named, str) and named else "jwt"
    return Caller(role=role, tenant_id=tenant, user_id=user, credential=credential)


def _text(token: Mapping[str, Any], path: str) -> str | None:
    """A claim's text, None where it is absent. A name with dots in it goes before a path: some issuers use URLs."""
    value = token[path] if path in token else _nested(token, path)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or not value.isprintable():
        raise _refused(f"has a claim {path} that is no text of 1 to {_LONGEST_ID} printable characters")
    return value


def _nested(token: Mapping[str, Any], path: str) -> Any:
    value: Any = token
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _refused(problem: str) -> NotAuthenticated:
    return NotAuthenticated(f"the token {problem}", reason=INVALID_TOKEN)
