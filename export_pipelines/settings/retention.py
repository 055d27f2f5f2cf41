"""How long packages, stages, generations of the lake and Dagster's runs are there, and when they are cleared."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from export_pipelines.settings.values import Days, Seconds, SettingsGroup, variable


class RetentionSettings(SettingsGroup):
    """Retention and cleanup"""

    retention_days: Days = Field(
        default=90,
        ge=1,
        le=36_500,
        validation_alias=variable("EXPORT_RETENTION_DAYS"),
        description="How long a package is kept; a request that asks for more is refused.",
    )
    keep_canonical: bool = Field(
        default=True,
        validation_alias=variable("EXPORT_KEEP_CANONICAL"),
        description="Keep what an export has read, so that it can be converted to other formats.",
    )
    cleanup_hour: Annotated[int, Field(ge=0, le=23)] = Field(
        default=3,
        validation_alias=variable("EXPORT_CLEANUP_HOUR"),
        description="When the nightly cleanup runs, in the catalog's timezone.",
    )
    sweep_seconds: Seconds = Field(
        default=86_400,
        ge=3600,
        validation_alias=variable("EXPORT_SWEEP_SECONDS"),
        description="How long something must have lain still before it can be taken for a leftover; no run may work "
        "longer.",
    )
    history_days: Days = Field(
        default=30,
        ge=1,
        validation_alias=variable("EXPORT_HISTORY_DAYS"),
        description="How long Dagster keeps runs, but those that made what is in the lake now.",
    )
    lake_snapshots: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=3,
        validation_alias=variable("EXPORT_LAKE_SNAPSHOTS"),
        description="Newest snapshots kept of each materialised partition, for exports of a point in time.",
    )
    lake_days: Days = Field(
        default=0,
        ge=0,
        le=36_500,
        validation_alias=variable("EXPORT_LAKE_DAYS"),
        description="And those that were the newest at some time within so many days.",
    )

    @property
    def keep(self) -> dt.timedelta:
        return dt.timedelta(days=self.retention_days)

    @property
    def sweep_after(self) -> dt.timedelta:
        """How long something lies still before it can be a leftover."""
        return dt.timedelta(seconds=self.sweep_seconds)
