"""A bulk order as the API and the command line take it, and the requests that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from export_pipelines.core.configuration import (
    MAX_DESCRIPTION,
    MAX_PARALLEL_JOBS,
    BulkType,
    DeliveryTarget,
    Encryption,
    TableName,
    with_clear_password,
)

DEFAULT_FORMATS: dict[str, str] = {"full_backup": "csv", "migration": "csv", "audit": "ndjson"}
MAX_FORMATS = 8
FormatName = Annotated[str, Field(min_length=1, max_length=40)]


class Partitioning(BaseModel):
    """How the files of a bulk export are cut, and how many tables are read at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["table", "month", "week"] = "table"
    parallel_jobs: int | None = Field(default=None, ge=1, le=MAX_PARALLEL_JOBS)


class BulkOrder(BaseModel):
    """All or chosen tables in whole, or the account of the service; one request for each format."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    foreign_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("formats", "target_format"), "format"),
        **dict.fromkeys(("parallel_jobs", "parallelism"), "partitioning.parallel_jobs"),
        **dict.fromkeys(("split_by", "split_files"), "partitioning.by"),
        "type": "export_type",
    }

    export_type: BulkType
    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=MAX_DESCRIPTION, description="What it is for; of each export.")
    tables: tuple[TableName, ...] | None = Field(
        default=None, min_length=1, max_length=1000, description="Default: all that the role may export."
    )
    include_deleted: bool | None = Field(default=None, description="Rows marked as deleted, too; so unless false.")
    point_in_time: AwareDatetime | None = Field(
        default=None, description="full_backup: as materialised at or before this instant."
    )
    format: tuple[FormatName, ...] | FormatName = Field(
        default=(), description=f"One, or a list of up to {MAX_FORMATS}; default csv, of an audit ndjson."
    )
    options: dict[str, Any] = Field(default_factory=dict)
    partitioning: Partitioning = Partitioning()
    compression: str = Field(default="none", min_length=1, max_length=40)
    encryption: Encryption | None = None
    delivery: tuple[DeliveryTarget, ...] = Field(default=(), max_length=20)

    @field_validator("format", mode="after")
    @classmethod
    def _few(cls, formats: tuple[str, ...] | str) -> tuple[str, ...]:
        found = (formats,) if isinstance(formats, str) else formats
        if len(found) > MAX_FORMATS:
            raise ValueError(f"names {len(found)} formats; ask for at most {MAX_FORMATS} at a time")
        return found

    def configurations(self) -> list[dict[str, Any]]:
        """The configuration of each request. A password is in clear, as in any order; the request store seals it."""
        formats = tuple(dict.fromkeys(self.format)) or (DEFAULT_FORMATS[self.export_type],)
        return [self._configuration(name) for name in formats]

    def _configuration(self, format_: str) -> dict[str, Any]:
        wanted = {
            "export_type": self.export_type,
            "name": self.name,
            "description": self.description or None,
            "tables": list(self.tables) if self.tables else None,
            "include_deleted": self.include_deleted,
            "parallel_jobs": self.partitioning.parallel_jobs,
            "point_in_time": self.point_in_time.isoformat() if self.point_in_time else None,
            "format": format_,
            "options": self.options,
            "compression": self.compression,
            "split_files": None if self.partitioning.by == "table" else {"split_by": self.partitioning.by},
            "encryption": with_clear_password(self.encryption) if self.encryption else None,
            "delivery": [target.model_dump(mode="json", exclude_none=True) for target in self.delivery],
        }
        return {name: value for name, value in wanted.items() if value is not None}
