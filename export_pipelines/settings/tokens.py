"""Tokens of the host application: who signs them, and which claims say who asks."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, SecretStr, model_validator

from export_pipelines.settings.values import KeysAddress, Roles, SettingsGroup, variable

LEAST_JWT_SECRET_BYTES = 32  # RFC 7518, section 3.2: a key as long as the hash


class TokenSettings(SettingsGroup):
    """Tokens of the host application"""

    read_by_runs: ClassVar[bool] = False

    jwt_secret: SecretStr | None = Field(
        default=None,
        validation_alias=variable("EXPORT_JWT_SECRET"),
        description="Shared with the host application, which signs tokens for its users by HS256; 32 bytes or more.",
    )
    jwt_jwks_url: KeysAddress = Field(
        default=None,
        validation_alias=variable("EXPORT_JWT_JWKS_URL"),
        description="Instead of the secret: where the issuer's public keys are. Needs EXPORT_JWT_AUDIENCE.",
    )
    jwt_issuer: str | None = Field(
        default=None, validation_alias=variable("EXPORT_JWT_ISSUER"), description="`iss` that tokens must have, if set."
    )
    jwt_audience: str | None = Field(
        default=None,
        validation_alias=variable("EXPORT_JWT_AUDIENCE"),
        description="`aud` that tokens must have, if set.",
    )
    jwt_tenant_claim: str = Field(
        default="tenant_id",
        min_length=1,
        validation_alias=variable("EXPORT_JWT_TENANT_CLAIM"),
        description="Claim with the tenant; dots lead into nested claims.",
    )
    jwt_user_claim: str = Field(
        default="sub",
        min_length=1,
        validation_alias=variable("EXPORT_JWT_USER_CLAIM"),
        description="Claim with the user.",
    )
    jwt_role_claim: str = Field(
        default="role",
        min_length=1,
        validation_alias=variable("EXPORT_JWT_ROLE_CLAIM"),
        description="Claim with the role.",
    )
    jwt_roles: Roles = Field(
        default={},
        validation_alias=variable("EXPORT_JWT_ROLES"),
        description="The host's names for roles, such as `clinic_admin=admin,staff=member`; default: ours.",
    )

    @model_validator(mode="after")
    def _tokens_meant_for_us(self) -> Self:
        secret = self.jwt_secret.get_secret_value() if self.jwt_secret else None
        if secret is not None and len(secret.encode()) < LEAST_JWT_SECRET_BYTES:
            raise ValueError(f"EXPORT_JWT_SECRET must have {LEAST_JWT_SECRET_BYTES} bytes or more")
        if secret is not None and self.jwt_jwks_url is not None:
            raise ValueError("EXPORT_JWT_SECRET and EXPORT_JWT_JWKS_URL exclude each other; set one")
        if self.jwt_jwks_url is not None and self.jwt_audience is None:
            raise ValueError(
                "EXPORT_JWT_JWKS_URL needs EXPORT_JWT_AUDIENCE: an issuer signs for many applications, and its tokens "
                "for another one must not open this"
            )
        return self
