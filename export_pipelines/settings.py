"""Settings from the environment; the only reader of it.

Names are the environment variables of `docs/settings.md`. Secrets are `SecretStr`, so printing settings shows none.
"""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from export_pipelines.core.access import Role
from export_pipelines.core.addresses import Network, parse_networks
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rates import Rate, parse_rate


def _named(*names: str) -> AliasChoices:
    return AliasChoices(*names)


_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LEAST_SIZE = 10_000  # the package documents of a package alone need some


def _octets(value: object) -> object:
    """``500MB``, ``1.5 GiB`` or a plain number of bytes."""
    if value is None or isinstance(value, int):
        return value
    found = _SIZE.fullmatch(str(value))
    if found is None or found[2].upper() not in _UNITS:
        raise ValueError("must be bytes or a size such as 500MB, 2GB or 512MiB")
    size = int(float(found[1]) * _UNITS[found[2].upper()])
    if size < _LEAST_SIZE:
        raise ValueError(f"must be at least {_LEAST_SIZE:,} bytes")
    return size


def _rate(value: object) -> object:
    return parse_rate(value) if isinstance(value, str) else value


def _networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value


def _roles(value: object) -> object:
    """``clinic_admin=admin,staff=member``: the host's names for roles → ours."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    roles = {theirs.strip(): ours.strip() for theirs, _, ours in pairs}
    known = tuple(Role)
    if not all(theirs and ours in known for theirs, ours in roles.items()):
        raise ValueError(f"must be pairs such as clinic_admin=admin,staff=member with roles of {', '.join(known)}")
    return roles


def _folders(value: object) -> object:
    """``nas=/mnt/nas,archive=/srv/archive``: names of folders → absolute paths."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    folders = {name.strip(): Path(path.strip()) for name, _, path in pairs}
    sound = all(_FOLDER_NAME.fullmatch(name) and path.is_absolute() for name, path in folders.items())
    if not sound or len(folders) != len(pairs):
        raise ValueError(
            "must be pairs such as nas=/mnt/nas,archive=/srv/archive: names of letters, digits, - and _, each once, "
            "with absolute paths"
        )
    return folders


def _keys_address(value: str | None) -> str | None:
    """Whoever answers at this address makes tokens, so nobody between may: TLS, or this machine."""
    if value is None:
        return None
    address = urlsplit(value)
    local = address.scheme == "http" and address.hostname in ("localhost", "127.0.0.1", "::1")
    if not address.hostname or not (address.scheme == "https" or local):
        raise ValueError("must be an https:// URL; http:// only of this machine")
    return value


Seconds = Annotated[float, Field(gt=0, le=3600)]
Connections = Annotated[int, Field(ge=1, le=50_000)]
LEAST_JWT_SECRET_BYTES = 32  # RFC 7518, section 3.2: a key as long as the hash


class Settings(BaseSettings):
    """Everything a deployment may set. Durations are seconds."""

    # Only the aliases count: by field name, HOME or USER of any shell would be taken for ours.
    model_config = SettingsConfigDict(env_file=None, extra="ignore", env_ignore_empty=True)

    source_url: SecretStr | None = Field(
        default=None, validation_alias=_named("EXPORT_SOURCE_URL"), description="PostgreSQL with the tenants' data."
    )
    control_url: SecretStr | None = Field(
        default=None,
        validation_alias=_named("EXPORT_CONTROL_URL"),
        description="PostgreSQL for the service's own state.",
    )
    api_url: SecretStr | None = Field(
        default=None,
        validation_alias=_named("EXPORT_API_URL"),
        description="The control database for the API, by a login that is a member of `export_api` and nothing else; "
        "default: EXPORT_CONTROL_URL.",
    )
    catalog: Path | None = Field(
        default=None, validation_alias=_named("EXPORT_CATALOG"), description="Catalog file; default: the clinic sample."
    )
    home: Path = Field(
        default=Path(".export-pipelines"),
        validation_alias=_named("EXPORT_HOME"),
        description="Folder of the embedded server, local objects, logs and scratch files.",
    )
    storage_url: str | None = Field(
        default=None,
        validation_alias=_named("EXPORT_STORAGE_URL"),
        description="s3://bucket/prefix, or a folder; default: EXPORT_HOME/objects.",
    )
    s3_endpoint: str | None = Field(
        default=None, validation_alias=_named("S3_ENDPOINT"), description="For S3-compatible stores."
    )
    s3_region: str | None = Field(default=None, validation_alias=_named("S3_REGION"))
    s3_access_key_id: str | None = Field(
        default=None, validation_alias=_named("S3_ACCESS_KEY_ID"), description="Default: the AWS credential chain."
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, validation_alias=_named("S3_SECRET_ACCESS_KEY"))
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, validation_alias=_named("S3_SSE"), description="Server-side encryption of every object."
    )
    s3_sse_kms_key_id: str | None = Field(default=None, validation_alias=_named("S3_SSE_KMS_KEY_ID"))
    smtp_host: str | None = Field(
        default=None, validation_alias=_named("SMTP_HOST"), description="Unset: no mail is sent."
    )
    smtp_port: int = Field(default=587, ge=1, le=65535, validation_alias=_named("SMTP_PORT"))
    smtp_user: str | None = Field(default=None, validation_alias=_named("SMTP_USER"))
    smtp_password: SecretStr | None = Field(default=None, validation_alias=_named("SMTP_PASSWORD"))
    smtp_security: Literal["none", "starttls", "tls"] = Field(
        default="starttls", validation_alias=_named("SMTP_SECURITY")
    )
    smtp_ca_file: Path | None = Field(
        default=None,
        validation_alias=_named("SMTP_CA_FILE"),
        description="PEM file of an authority to trust for the mail server, beside the system's.",
    )
    from_email: str = Field(default="exports@localhost", validation_alias=_named("FROM_EMAIL"))
    from_name: str = Field(default="Export Pipelines", validation_alias=_named("FROM_NAME"))
    link_ttl: Annotated[int, Field(ge=60)] = Field(
        default=7 * 86_400, validation_alias=_named("EXPORT_LINK_TTL"), description="How long a download link works."
    )
    signed_url_ttl: Annotated[int, Field(ge=30, le=604_800)] = Field(
        default=900, validation_alias=_named("EXPORT_SIGNED_URL_TTL"), description="Of the S3 URL a click is sent to."
    )
    keep_seconds: Annotated[int, Field(ge=3600)] = Field(
        default=30 * 86_400, validation_alias=_named("EXPORT_KEEP_SECONDS"), description="How long a package is kept."
    )
    keep_canonical: bool = Field(
        default=True,
        validation_alias=_named("EXPORT_KEEP_CANONICAL"),
        description="Keep what an export has read, so that it can be converted to other formats.",
    )
    cleanup_hour: Annotated[int, Field(ge=0, le=23)] = Field(
        default=3,
        validation_alias=_named("EXPORT_CLEANUP_HOUR"),
        description="When the nightly cleanup runs, in the catalog's timezone.",
    )
    sweep_seconds: Annotated[int, Field(ge=3600)] = Field(
        default=86_400,
        validation_alias=_named("EXPORT_SWEEP_SECONDS"),
        description="How long something must have lain still before it can be taken for a leftover; no run may work "
        "longer.",
    )
    history_days: Annotated[int, Field(ge=1)] = Field(
        default=30,
        validation_alias=_named("EXPORT_HISTORY_DAYS"),
        description="How long Dagster keeps runs, but those that made what is in the lake now.",
    )
    lake_snapshots: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=3,
        validation_alias=_named("EXPORT_LAKE_SNAPSHOTS"),
        description="Newest snapshots kept of each materialised partition, for exports of a point in time.",
    )
    lake_days: Annotated[int, Field(ge=0, le=36_500)] = Field(
        default=0,
        validation_alias=_named("EXPORT_LAKE_DAYS"),
        description="And those that were the newest at some time within so many days.",
    )
    public_url: str | None = Field(
        default=None,
        validation_alias=_named("EXPORT_PUBLIC_URL"),
        description="Where people reach the API and the pages behind links; default: http://127.0.0.1:EXPORT_API_PORT.",
    )
    dagster_url: str | None = Field(
        default=None,
        validation_alias=_named("EXPORT_DAGSTER_URL"),
        description="Dagster's webserver, where the API has runs started at once; default: "
        "http://127.0.0.1:EXPORT_UI_PORT. Where it does not answer, the sensor starts them.",
    )
    api_port: int = Field(default=3070, ge=1, le=65535, validation_alias=_named("EXPORT_API_PORT"))
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = Field(
        default=(),
        validation_alias=_named("EXPORT_TRUSTED_PROXIES"),
        description="Addresses and networks of the proxies before the API, such as `127.0.0.1` or `10.1.0.0/16, ::1`. "
        "Their `X-Forwarded-For` and `X-Forwarded-Proto` are believed, nobody else's.",
    )
    api_max_connections: Connections = Field(default=400, validation_alias=_named("EXPORT_API_MAX_CONNECTIONS"))
    api_connections_per_address: Connections = Field(
        default=100, validation_alias=_named("EXPORT_API_CONNECTIONS_PER_ADDRESS")
    )
    api_max_header_bytes: Annotated[int, Field(ge=4096, le=1_048_576)] = Field(
        default=32_768, validation_alias=_named("EXPORT_API_MAX_HEADER_BYTES")
    )
    api_header_timeout: Seconds = Field(default=10.0, validation_alias=_named("EXPORT_API_HEADER_TIMEOUT"))
    api_body_timeout: Seconds = Field(default=30.0, validation_alias=_named("EXPORT_API_BODY_TIMEOUT"))
    api_write_timeout: Seconds = Field(default=60.0, validation_alias=_named("EXPORT_API_WRITE_TIMEOUT"))
    ui_port: int = Field(default=3000, ge=1, le=65535, validation_alias=_named("EXPORT_UI_PORT"))
    max_file_size: Annotated[int | None, BeforeValidator(_octets)] = Field(
        default=None,
        validation_alias=_named("EXPORT_MAX_FILE_SIZE"),
        description="Most bytes of a file in a package, such as `500MB`; larger tables are split, a larger archive is "
        "refused. Unset: any size.",
    )
    max_attachment: Annotated[int, BeforeValidator(_octets)] = Field(
        default=10_000_000,
        validation_alias=_named("EXPORT_MAX_ATTACHMENT"),
        description="Most bytes of the files in a mail, such as `10MB`; larger ones stay behind the link. Coded for a "
        "mail they take a third more.",
    )
    folders: Annotated[dict[str, Path], NoDecode, BeforeValidator(_folders)] = Field(
        default={},
        validation_alias=_named("EXPORT_FOLDERS"),
        description="Folders that exports can be delivered to, by name, such as `nas=/mnt/nas,archive=/srv/archive`. "
        "Each has to be there; tenants get their own folder in it.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=_named("EXPORT_SECRET_KEY"),
        description="32 bytes in base64 that seal passwords of requests and the signing key; default: "
        "EXPORT_HOME/secret.key, made when first needed.",
    )
    password: SecretStr | None = Field(
        default=None,
        validation_alias=_named("EXPORT_PASSWORD"),
        description="Password for `export --encrypt`, `requests retry` and `verify` at the command line.",
    )
    decoder: Literal["auto", "native", "adbc"] = Field(
        default="auto",
        validation_alias=_named("EXPORT_DECODER"),
        description="Which way rows are read: by the native decoder, through ADBC, or native where it was built.",
    )
    run_launcher: Literal["dagster", "warm"] = Field(
        default="dagster",
        validation_alias=_named("EXPORT_RUN_LAUNCHER"),
        description="How `up` has runs started: `dagster`, each in a new interpreter, or `warm`, each as a copy of a "
        "process that has imported everything, a second earlier and with half the CPU.",
    )
    rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = Field(
        default=Rate(capacity=5, per_seconds=900),
        validation_alias=_named("EXPORT_RATE_LIMIT"),
        description="How many exports a user may ask for through the API, such as `5/15m`, `1/s`, `100/h`; or `off`.",
    )
    link_rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = Field(
        default=Rate(capacity=100, per_seconds=3600),
        validation_alias=_named("EXPORT_LINK_RATE_LIMIT"),
        description="How many links to exports a user may make; or `off`.",
    )
    estimate_rate_limit: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = Field(
        default=Rate(capacity=60, per_seconds=600),
        validation_alias=_named("EXPORT_ESTIMATE_RATE_LIMIT"),
        description="How many estimates a user may ask for, saved templates included; or `off`. Each asks the source.",
    )
    jwt_secret: SecretStr | None = Field(
        default=None,
        validation_alias=_named("EXPORT_JWT_SECRET"),
        description="Shared with the host application, which signs tokens for its users by HS256; 32 bytes or more.",
    )
    jwt_jwks_url: Annotated[str | None, AfterValidator(_keys_address)] = Field(
        default=None,
        validation_alias=_named("EXPORT_JWT_JWKS_URL"),
        description="Instead of the secret: where the issuer's public keys are. Needs EXPORT_JWT_AUDIENCE.",
    )
    jwt_issuer: str | None = Field(
        default=None, validation_alias=_named("EXPORT_JWT_ISSUER"), description="`iss` that tokens must have, if set."
    )
    jwt_audience: str | None = Field(
        default=None,
        validation_alias=_named("EXPORT_JWT_AUDIENCE"),
        description="`aud` that tokens must have, if set.",
    )
    jwt_tenant_claim: str = Field(
        default="tenant_id",
        min_length=1,
        validation_alias=_named("EXPORT_JWT_TENANT_CLAIM"),
        description="Claim with the tenant; dots lead into nested claims.",
    )
    jwt_user_claim: str = Field(default="sub", min_length=1, validation_alias=_named("EXPORT_JWT_USER_CLAIM"))
    jwt_role_claim: str = Field(default="role", min_length=1, validation_alias=_named("EXPORT_JWT_ROLE_CLAIM"))
    jwt_roles: Annotated[dict[str, Role], NoDecode, BeforeValidator(_roles)] = Field(
        default={},
        validation_alias=_named("EXPORT_JWT_ROLES"),
        description="The host's names for roles, such as `clinic_admin=admin,staff=member`; default: ours.",
    )
    heartbeat_seconds: float = Field(default=1.0, gt=0, le=30, validation_alias=_named("EXPORT_HEARTBEAT_SECONDS"))
    stale_seconds: int = Field(
        default=60,
        ge=5,
        validation_alias=_named("EXPORT_STALE_SECONDS"),
        description="Silence after which a run is checked.",
    )
    outage_deadline_seconds: int = Field(
        default=14_400,
        ge=60,
        validation_alias=_named("EXPORT_OUTAGE_DEADLINE_SECONDS"),
        description="How long an export waits for a source, object store or control database that does not answer, "
        "without using up attempts, before it fails.",
    )

    schedule_min_seconds: int = Field(
        default=900,
        ge=60,
        le=86_400,
        validation_alias=_named("EXPORT_SCHEDULE_MIN_SECONDS"),
        description="Least time between two fires of a schedule; 60 allows every minute. Schedules that are there stay "
        "as they are until they are saved anew.",
    )
    schedule_late_seconds: int = Field(
        default=3600,
        ge=60,
        validation_alias=_named("EXPORT_SCHEDULE_LATE_SECONDS"),
        description="A fire of a schedule that is no completed export after this time is late.",
    )

    @model_validator(mode="after")
    def _no_password_in_clear(self) -> Self:
        local = self.smtp_host is None or self.smtp_host in ("localhost", "::1") or self.smtp_host.startswith("127.")
        if self.smtp_security == "none" and self.smtp_user and not local:
            raise ValueError(
                "SMTP_SECURITY=none would send SMTP_PASSWORD readable through the network; "
                "use starttls or tls, or leave SMTP_USER out"
            )
        return self

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

    @field_validator("source_url", "control_url", "api_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must be a URL such as postgresql://user:password@host:5432/database")
        return url

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that sets a field."""
        alias = cls.model_fields[field].validation_alias
        return str(alias.choices[0]) if isinstance(alias, AliasChoices) else field

    @property
    def link_lifetime(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.link_ttl)

    @property
    def signed_url_lifetime(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.signed_url_ttl)

    @property
    def schedule_least_gap(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.schedule_min_seconds)

    @property
    def schedule_late_after(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.schedule_late_seconds)

    @property
    def outage_deadline(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.outage_deadline_seconds)

    @property
    def keep(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.keep_seconds)

    @property
    def sweep_after(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.sweep_seconds)

    @property
    def pages_url(self) -> str:
        return (self.public_url or f"http://127.0.0.1:{self.api_port}").rstrip("/")

    @property
    def launch_url(self) -> str:
        return (self.dagster_url or f"http://127.0.0.1:{self.ui_port}").rstrip("/")

    def require_source_url(self) -> str:
        """The URL in clear, or `RequestRejected` that says how to set it."""
        return _required(self.source_url, "EXPORT_SOURCE_URL")

    def require_control_url(self) -> str:
        return _required(self.control_url, "EXPORT_CONTROL_URL")

    def require_api_url(self) -> str:
        return _required(self.api_url or self.control_url, "EXPORT_API_URL")


def _required(value: SecretStr | None, name: str) -> str:
    if value is None:
        raise RequestRejected(
            "is not set; give a postgresql:// URL, or start through `export-pipelines up`, which brings its own server",
            field=name,
        )
    return value.get_secret_value()


def load_settings() -> Settings:
    """Settings of this process; `RequestRejected` names the variable whose value is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = str(first["msg"]).removeprefix("Value error, ")
        raise RequestRejected(problem, field=".".join(str(part) for part in first["loc"])) from error
