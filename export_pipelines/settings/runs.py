"""How runs are started and watched, what an outage does to them, and how large their files may become."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field

from export_pipelines.core.run_launchers import RunLauncher
from export_pipelines.settings.values import OptionalSize, Port, Seconds, SettingsGroup, Unit, variable


class RunSettings(SettingsGroup):
    """Runs"""

    run_launcher: RunLauncher = Field(
        default="warm",
        validation_alias=variable("EXPORT_RUN_LAUNCHER"),
        description="How runs start: `warm`, each as a copy of a process that has imported everything (on Linux; "
        "elsewhere as with `dagster`), or `dagster`, each in a new interpreter, a second later and with twice the CPU.",
    )
    dagster_url: str | None = Field(
        default=None,
        validation_alias=variable("EXPORT_DAGSTER_URL"),
        description="Dagster's webserver, where the API has runs started at once; default: "
        "http://127.0.0.1:EXPORT_UI_PORT. Where it does not answer, the sensor starts them.",
    )
    ui_port: Port = Field(
        default=3000,
        validation_alias=variable("EXPORT_UI_PORT"),
        description="Dagster's UI. `up` takes the next free port when it is taken.",
    )
    max_file_size: OptionalSize = Field(
        default=None,
        validation_alias=variable("EXPORT_MAX_FILE_SIZE"),
        description="Most bytes of a file in a package, such as `500MB`; larger tables are split, a larger archive is "
        "refused. Unset: any size.",
    )
    heartbeat_seconds: Annotated[float, Unit("seconds")] = Field(
        default=1.0,
        gt=0,
        le=30,
        validation_alias=variable("EXPORT_HEARTBEAT_SECONDS"),
        description="How often a run writes its progress and asks whether it should stop.",
    )
    stale_seconds: Seconds = Field(
        default=60,
        ge=5,
        validation_alias=variable("EXPORT_STALE_SECONDS"),
        description="Silence after which a run is checked.",
    )
    outage_deadline_seconds: Seconds = Field(
        default=14_400,
        ge=60,
        validation_alias=variable("EXPORT_OUTAGE_DEADLINE_SECONDS"),
        description="How long an export waits for a source, object store or control database that does not answer, "
        "without using up attempts, before it fails.",
    )

    @property
    def launch_url(self) -> str:
        return (self.dagster_url or f"http://127.0.0.1:{self.ui_port}").rstrip("/")

    @property
    def stale_after(self) -> dt.timedelta:
        """Silence after which a run is looked at."""
        return dt.timedelta(seconds=self.stale_seconds)

    @property
    def outage_deadline(self) -> dt.timedelta:
        return dt.timedelta(seconds=self.outage_deadline_seconds)
