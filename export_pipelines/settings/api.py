"""What the API connects as, and what callers may cost it."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from export_pipelines.core.rates import Rate
from export_pipelines.settings.values import Networks, OptionalRate, PostgresUrl, SettingsGroup, Unit, variable

_Connections = Annotated[int, Field(ge=1, le=50_000), Unit("connections")]
_Timeout = Annotated[float, Field(gt=0, le=3600), Unit("seconds")]


class ApiSettings(SettingsGroup):
    """API"""

    read_by_runs: ClassVar[bool] = False

    api_url: PostgresUrl = Field(
        default=None,
        validation_alias=variable("EXPORT_API_URL"),
        description="The control database for the API, by a login that is a member of `export_api` and nothing else; "
        "default: EXPORT_CONTROL_URL.",
    )
    trusted_proxies: Networks = Field(
        default=(),
        validation_alias=variable("EXPORT_TRUSTED_PROXIES"),
        description="Addresses and networks of the proxies before the API, such as `127.0.0.1` or `10.1.0.0/16, ::1`. "
        "Their `X-Forwarded-For` and `X-Forwarded-Proto` are believed, nobody else's.",
    )
    api_max_connections: _Connections = Field(
        default=400,
        validation_alias=variable("EXPORT_API_MAX_CONNECTIONS"),
        description="Open connections to an API process; a few more are there for health checks. Each may take two "
        "file descriptors.",
    )
    api_connections_per_address: _Connections = Field(
        default=100,
        validation_alias=variable("EXPORT_API_CONNECTIONS_PER_ADDRESS"),
        description="Of these by one client address (a /64 in IPv6), and calls at work for one. A trusted proxy may "
        "have any number.",
    )
    api_max_header_bytes: Annotated[int, Field(ge=4096, le=1_048_576), Unit("bytes")] = Field(
        default=32_768,
        validation_alias=variable("EXPORT_API_MAX_HEADER_BYTES"),
        description="Most bytes of a call's request target and header fields.",
    )
    api_header_timeout: _Timeout = Field(
        default=10.0,
        validation_alias=variable("EXPORT_API_HEADER_TIMEOUT"),
        description="Time in which the head of a call has to arrive.",
    )
    api_body_timeout: _Timeout = Field(
        default=30.0,
        validation_alias=variable("EXPORT_API_BODY_TIMEOUT"),
        description="Time in which the body of a call has to arrive after its head.",
    )
    api_write_timeout: _Timeout = Field(
        default=60.0,
        validation_alias=variable("EXPORT_API_WRITE_TIMEOUT"),
        description="Time in which a client has to read another 64 KiB of an answer; else it is cut off.",
    )
    rate_limit: OptionalRate = Field(
        default=Rate(capacity=5, per_seconds=900),
        validation_alias=variable("EXPORT_RATE_LIMIT"),
        description="How many exports a user may ask for through the API, such as `5/15m`, `1/s`, `100/h`; or `off`.",
    )
    link_rate_limit: OptionalRate = Field(
        default=Rate(capacity=100, per_seconds=3600),
        validation_alias=variable("EXPORT_LINK_RATE_LIMIT"),
        description="How many links to exports a user may make; or `off`.",
    )
    estimate_rate_limit: OptionalRate = Field(
        default=Rate(capacity=60, per_seconds=600),
        validation_alias=variable("EXPORT_ESTIMATE_RATE_LIMIT"),
        description="How many estimates a user may ask for, saved templates included; or `off`. Each asks the source.",
    )
