"""A schedule as users write it, and as it is kept once it has been checked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from export_pipelines.core.configuration import Title
from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.recurrence import CatchUp, Timing

MAX_JITTER_SECONDS = 86_400
MAX_KEEP_DAYS = 36_500
DEFAULT_PAUSE_AFTER = 5


class ScheduleOrder(Timing):
    """When and how an export recurs; what it exports stands beside it."""

    foreign_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("schedule", "schedule_expression", "cron_expression"), "cron"),
        **dict.fromkeys(("day_of_week", "day_of_month"), "day"),
        **dict.fromkeys(("retention", "keep_exports_days", "retention_days"), "keep_days"),
        **dict.fromkeys(("date_range", "data_window"), "window"),
        **dict.fromkeys(("configuration", "export_config", "query"), "config"),
        **dict.fromkeys(("tables", "data_sources", "format", "filters", "delivery"), "config"),
        "whole_tables": "window.whole_tables",
    }

    name: Title
    window: DataWindow = Field(
        default=DataWindow(), description="Which rows each export reads; also as a word, such as previous_day."
    )
    catch_up: CatchUp = Field(
        default=CatchUp.LATEST, description="What becomes of fires that were missed by more than five minutes."
    )
    jitter_seconds: int = Field(
        default=0, ge=0, le=MAX_JITTER_SECONDS, description="The export of each fire begins up to this much later."
    )
    keep_days: int | None = Field(
        default=None, ge=1, le=MAX_KEEP_DAYS, description="How long its exports are kept. Default: as long as others."
    )
    pause_after_failures: int | None = Field(
        default=DEFAULT_PAUSE_AFTER, ge=1, le=1000, description="In a row; null: it is never paused by itself."
    )


def named(config: Mapping[str, Any], schedule_name: str) -> dict[str, Any]:
    """The configuration of an export, which is called after its schedule unless it has a name of its own."""
    return {**config, "name": config.get("name") or schedule_name}


@dataclass(frozen=True, kw_only=True)
class ScheduleDraft:
    """What was checked and is to be kept."""

    name: str
    config: Mapping[str, Any]  # may hold a password in clear, which the store seals
    cron: Cron
    window: DataWindow
    catch_up: CatchUp
    jitter_seconds: int
    keep_days: int | None
    pause_after: int | None
    next_fire_at: dt.datetime
