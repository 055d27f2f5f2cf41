"""The configuration of an export as users write it: shape only, no knowledge of any catalog.

The same JSON comes from the API, the CLI, a template, a schedule or an SQL insert by the host application.
`export_pipelines.core.planning` turns it into a plan.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from export_pipelines.core.errors import RequestRejected

MAX_CONFIGURATION_BYTES = 64 * 1024
MAX_PARALLEL_JOBS = 8  # each reader holds a connection of the source and up to three row groups in memory
ExportType = Literal["selective", "full_backup", "migration", "audit"]
BulkType = Literal["full_backup", "migration", "audit"]
TableName = Annotated[str, Field(min_length=1, max_length=63)]
Recipient = Annotated[str, Field(max_length=320)]  # 64 octets, an @ and 255 (RFC 5321)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)  # one of them is a password


class _Switched(_Part):
    """A part that ``enabled: false`` turns off, whatever else it says."""

    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _ignored_when_off(cls, raw: Any) -> Any:
        return {"enabled": False} if isinstance(raw, dict) and raw.get("enabled") is False else raw


class DateRange(_Part):
    """Half-open; a date means the start of that day in the tenant's timezone."""

    start: str | None = Field(default=None, max_length=64)
    end: str | None = Field(default=None, max_length=64)


class Filters(_Part):
    date_range: DateRange | None = None
    include_deleted: bool = False


class DataSource(_Part):
    type: TableName = Field(description="Table of the catalog.")
    filters: Filters | None = None
    fields: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=2000)


class EmailTarget(_Part):
    method: Literal["email"] = "email"
    recipients: tuple[Recipient, ...] = Field(min_length=1, max_length=50)
    subject: str | None = Field(default=None, max_length=500)
    body: str | None = Field(default=None, max_length=20_000)


class DownloadTarget(_Part):
    """Every export can be downloaded; naming it is allowed and changes nothing."""

    method: Literal["download"] = "download"


class SplitFiles(_Switched):
    """Several files a table: by the period of its rows, by size, or both."""

    split_by: Literal["month", "week", "size"] | None = None
    max_size_mb: float | None = Field(default=None, description="Of a finished file; 1 MB is 1,000,000 bytes.")


class SealedPassword(_Part):
    """Stands in the request table for a password that is kept encrypted in a column of its own."""

    sealed: Literal[True]


class Encryption(_Switched):
    """One encrypted archive instead of readable files."""

    method: Literal["AES256", "age"] | None = None
    password: SecretStr | SealedPassword | None = None
    recipients: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(default=(), max_length=50)
    hide_names: bool = Field(default=True, description="AES256: no name of a file can be seen without the password.")

    @field_validator("method", mode="before")
    @classmethod
    def _any_case(cls, method: Any) -> Any:
        return {"aes256": "AES256", "age": "age"}.get(method.lower(), method) if isinstance(method, str) else method


class ExportConfig(_Part):
    """One export: of tables, or of what an earlier export read, in another format."""

    name: str = Field(default="", max_length=200)
    export_type: ExportType = Field(
        default="selective",
        description="full_backup: whole tables. migration: with the DDL to restore them elsewhere. audit: what the "
        "service did for the tenant, no rows of tables. All but selective need the role admin.",
    )
    data_sources: tuple[DataSource, ...] | None = Field(default=None, min_length=1, max_length=1000)
    tables: tuple[TableName, ...] | None = Field(default=None, min_length=1, max_length=1000)
    filters: Filters | None = None
    include_deleted: bool | None = Field(
        default=None, description="full_backup and migration: rows marked as deleted, too; so unless false."
    )
    parallel_jobs: int | None = Field(
        default=None,
        ge=1,
        le=MAX_PARALLEL_JOBS,
        description="full_backup and migration: connections that read tables at the same time, in one snapshot.",
    )
    point_in_time: AwareDatetime | None = Field(
        default=None,
        description="full_backup: from the partitions materialised at or before this instant, not from the source.",
    )
    convert: UUID | None = Field(default=None, description="Id of a finished export to convert; instead of tables.")
    format: str = Field(min_length=1, max_length=40)
    options: dict[str, Any] = Field(default_factory=dict)
    compression: str = Field(default="none", min_length=1, max_length=40)
    split_files: SplitFiles | None = None
    encryption: Encryption | None = None
    delivery: tuple[EmailTarget | DownloadTarget, ...] = Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.is_bulk:
            return self._bulk_form()
        if {self.include_deleted, self.parallel_jobs, self.point_in_time} != {None}:
            raise ValueError("include_deleted, parallel_jobs and point_in_time go with full_backup and migration")
        if [self.data_sources, self.tables, self.convert].count(None) != 2:  # noqa: PLR2004 - of three
            raise ValueError("name either tables or data_sources, or an export to convert")
        if self.tables is None and self.filters is not None:
            raise ValueError("filters goes with tables; data_sources have their own, a conversion those of its export")
        return self

    def _bulk_form(self) -> Self:
        if (self.data_sources, self.filters, self.convert) != (None, None, None):
            raise ValueError(f"{self.export_type} takes whole tables: leave data_sources, filters and convert out")
        if self.export_type == "audit" and self.tables is not None:
            raise ValueError("audit holds no tables; leave tables out")
        if self.export_type == "audit" and {self.include_deleted, self.parallel_jobs} != {None}:
            raise ValueError("include_deleted and parallel_jobs go with full_backup and migration")
        if self.point_in_time is not None and self.export_type != "full_backup":
            raise ValueError("point_in_time goes with full_backup: only rows are kept of the past, not the schema")
        return self

    @property
    def is_bulk(self) -> bool:
        """Whole tables, or the account of the service itself."""
        return self.export_type != "selective"

    def sources(self) -> tuple[DataSource, ...]:
        """The long form, whichever was used."""
        if self.data_sources is not None:
            return self.data_sources
        return tuple(DataSource(type=table, filters=self.filters) for table in self.tables or ())


def parse_configuration(raw: Any) -> ExportConfig:
    """Raises `RequestRejected` naming the first offending field."""
    if _size(raw) > MAX_CONFIGURATION_BYTES:
        raise RequestRejected(f"is larger than {MAX_CONFIGURATION_BYTES} bytes", field="config")
    try:
        return ExportConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "config"
        raise RequestRejected(explain(first), field=field) from error


def _size(raw: Any) -> int:
    try:
        return len(json.dumps(raw, default=str))
    except RecursionError as error:
        raise RequestRejected("is nested too deeply", field="config") from error


def explain(problem: Any) -> str:
    """One pydantic error as a sentence with a next step."""
    if problem["type"] == "extra_forbidden":
        return "is not a known field; remove it or check its spelling"
    if problem["type"] == "too_short":
        return "is empty; name at least one"
    if problem["type"].startswith("uuid_"):
        return "is not an id of a request, such as 0190b6c4-0000-7000-8000-000000000001"
    if problem["type"] == "string_too_short":
        return "must not be empty"
    return str(problem["msg"]).removeprefix("Value error, ")
