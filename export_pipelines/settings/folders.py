"""Folders of the operator's that exports can be delivered to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from export_pipelines.settings.values import NamedFolders, SettingsGroup, named_folders, variable


class FolderSettings(SettingsGroup):
    """Folders"""

    folders: Annotated[dict[str, Path], NoDecode, BeforeValidator(named_folders), AfterValidator(NamedFolders)] = Field(
        default=NamedFolders(),
        validation_alias=variable("EXPORT_FOLDERS"),
        description="Folders that exports can be delivered to, by name, such as `nas=/mnt/nas,archive=/srv/archive`. "
        "Each has to be there; tenants get their own folder in it.",
    )
