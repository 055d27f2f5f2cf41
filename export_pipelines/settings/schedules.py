"""How often schedules may fire, and when a fire is late."""

from __future__ import annotations

import datetime as dt

from pydantic import Field

from export_pipelines.settings.values import Seconds, SettingsGroup, variable


class ScheduleSettings(SettingsGroup):
    """Schedules"""

    schedule_min_seconds: Seconds = Field(
        default=900,
        ge=60,
        le=86_400,
        validation_alias=variable("EXPORT_SCHEDULE_MIN_SECONDS"),
        description="Least time between two fires of a schedule; 60 allows every minute. Schedules that are there stay "
        "as they are until they are saved anew.",
    )
    schedule_late_seconds: Seconds = Field(
        default=3600,
        ge=60,
        validation_alias=variable("EXPORT_SCHEDULE_LATE_SECONDS"),
        description="A fire of a schedule that is no completed export after this time is late.",
    )

    @property
    def schedule_least_gap(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.schedule_min_seconds)

    @property
    def schedule_late_after(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.schedule_late_seconds)
