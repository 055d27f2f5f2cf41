"""Where people reach the service, and how long what they are given works."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from export_pipelines.settings.values import Port, Seconds, SettingsGroup, variable


class LinkSettings(SettingsGroup):
    """Addresses and links"""

    public_url: str | None = Field(
        default=None,
        validation_alias=variable("EXPORT_PUBLIC_URL"),
        description="Where people reach the API and the pages behind links; default: http://127.0.0.1:EXPORT_API_PORT.",
    )
    api_port: Port = Field(
        default=3070,
        validation_alias=variable("EXPORT_API_PORT"),
        description="The API and the download pages. `up` takes the next free port when it is taken.",
    )
    link_ttl: Seconds = Field(
        default=7 * 86_400,
        ge=60,
        validation_alias=variable("EXPORT_LINK_TTL"),
        description="How long a download link works.",
    )
    signed_url_ttl: Seconds = Field(
        default=900,
        ge=30,
        le=604_800,
        validation_alias=variable("EXPORT_SIGNED_URL_TTL"),
        description="How long the S3 URL works that a click on a link is sent to.",
    )

    @property
    def pages_url(self) -> str:
        """Where people reach the download pages, without a trailing slash."""
        return (self.public_url or f"http://127.0.0.1:{self.api_port}").rstrip("/")

    @property
    def link_lifetime(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.link_ttl)

    @property
    def signed_url_lifetime(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.signed_url_ttl)
