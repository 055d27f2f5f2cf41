"""All groups together, read once a process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rejection import rejected
from export_pipelines.settings.api import ApiSettings
from export_pipelines.settings.databases import DatabaseSettings
from export_pipelines.settings.folders import FolderSettings
from export_pipelines.settings.links import LinkSettings
from export_pipelines.settings.mail import MailSettings
from export_pipelines.settings.retention import RetentionSettings
from export_pipelines.settings.runs import RunSettings
from export_pipelines.settings.schedules import ScheduleSettings
from export_pipelines.settings.shell import ShellSettings
from export_pipelines.settings.storage import StorageSettings
from export_pipelines.settings.tokens import TokenSettings
from export_pipelines.settings.values import SettingsGroup, required, variable


class Settings(
    DatabaseSettings,
    StorageSettings,
    MailSettings,
    FolderSettings,
    LinkSettings,
    RetentionSettings,
    RunSettings,
    ScheduleSettings,
    ApiSettings,
    TokenSettings,
    ShellSettings,
):
    """Everything a deployment may set. Secrets are `SecretStr`, so printing settings shows none."""

    @classmethod
    def groups(cls) -> tuple[type[SettingsGroup], ...]:
        """The groups in the order of the documentation."""
        return tuple(group for group in cls.__bases__ if issubclass(group, SettingsGroup))

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that sets a field."""
        alias: Any = cls.model_fields[field].validation_alias
        return str(alias.choices[0])

    def require_api_url(self) -> str:
        """The control database as the API connects to it, in clear, or `RequestRejected`."""
        return required(self.api_url or self.control_url, "EXPORT_API_URL")


class _Renamed(SettingsGroup):
    """Variables that are refused: left unread, packages would go at another time than somebody set."""

    keep_seconds: str | None = Field(default=None, validation_alias=variable("EXPORT_KEEP_SECONDS"))


def load_settings(given: Mapping[str, Any] | None = None) -> Settings:
    """Settings of this process, and in their place what is ``given`` by the names of the variables.

    `RequestRejected` names the variable whose value is wrong, or that is called something else by now.
    """
    if _Renamed(**(given or {})).keep_seconds is not None:
        raise RequestRejected(
            "is not a setting any more; set EXPORT_RETENTION_DAYS, in days", field="EXPORT_KEEP_SECONDS"
        )
    try:
        return Settings(**(given or {}))
    except ValidationError as error:
        raise rejected(error) from error
