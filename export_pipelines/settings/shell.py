"""What commands take from the shell that they are typed in."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, SecretStr

from export_pipelines.settings.values import SettingsGroup, variable


class ShellSettings(SettingsGroup):
    """Command line"""

    read_by_runs: ClassVar[bool] = False

    password: SecretStr | None = Field(
        default=None,
        validation_alias=variable("EXPORT_PASSWORD"),
        description="Password for `export --encrypt`, `requests retry` and `verify` at the command line.",
    )
