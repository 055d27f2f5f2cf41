"""The tenants' database, what may be exported of it, and the service's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from export_pipelines.settings.values import PostgresUrl, SettingsGroup, required, variable


class DatabaseSettings(SettingsGroup):
    """Databases and catalog"""

    source_url: PostgresUrl = Field(
        default=None, validation_alias=variable("EXPORT_SOURCE_URL"), description="PostgreSQL with the tenants' data."
    )
    control_url: PostgresUrl = Field(
        default=None,
        validation_alias=variable("EXPORT_CONTROL_URL"),
        description="PostgreSQL for the service's own state.",
    )
    catalog: Path | None = Field(
        default=None,
        validation_alias=variable("EXPORT_CATALOG"),
        description="Catalog file; default: that of the sample.",
    )
    decoder: Literal["auto", "native", "adbc"] = Field(
        default="auto",
        validation_alias=variable("EXPORT_DECODER"),
        description="Which way rows are read: by the native decoder, through ADBC, or native where it was built.",
    )

    def require_source_url(self) -> str:
        """The URL in clear, or `RequestRejected` that says how to set it."""
        return required(self.source_url, "EXPORT_SOURCE_URL")

    def require_control_url(self) -> str:
        return required(self.control_url, "EXPORT_CONTROL_URL")
