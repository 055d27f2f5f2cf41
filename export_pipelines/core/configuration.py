"""The configuration of an export as users write it: shape only, no knowledge of any catalog.

The same JSON comes from the API, the CLI, a template, a schedule or an SQL insert by the host application. What each
key means to people is its description here; `docs/configuration.md` is made from them.
`export_pipelines.core.planning` turns it into a plan.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.literals import Scalar
from export_pipelines.core.measures import Aggregation
from export_pipelines.core.rejection import rejected
from export_pipelines.core.suggestions import in_snake_case
from export_pipelines.core.whole_tables import WholeTables

MAX_CONFIGURATION_BYTES = 64 * 1024
_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_STORABLE_MESSAGE = "holds NUL or half a character; leave it out"
MAX_VALUES = 10_000
MAX_DESCRIPTION = 2000  # characters
MAX_HOURS = 24 * 365
MAX_DAYS = 36_500
MANY_FILES = 500  # of a split; nobody opens more, and each costs some milliseconds and a line in each document
MAX_PARALLEL_JOBS = 8  # each reader holds a connection of the source and up to three row groups in memory
ExportType = Literal["selective", "full_backup", "migration", "audit"]
BulkType = Literal["full_backup", "migration", "audit"]


def keepable(text: str) -> str:
    """The text, or ValueError for one that the service's tables cannot keep."""
    if _NOT_STORABLE.search(text):
        raise ValueError(_NOT_STORABLE_MESSAGE)
    return text


def _says_something(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return keepable(text)


TableName = Annotated[str, Field(min_length=1, max_length=63)]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_says_something)]  # of what is kept


def _values(given: Any) -> tuple[Scalar, ...]:
    values = tuple(given) if isinstance(given, list | tuple) else (given,)
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        raise ValueError("must be a text, a number, true, false or null, or a list of them")
    if not 1 <= len(values) <= MAX_VALUES:
        raise ValueError(f"has {len(values):,} values; name 1 to {MAX_VALUES:,}, or leave the filter out")
    return values


_SCALAR = {"type": ["string", "number", "boolean", "null"]}
FilterValues = Annotated[
    Any,
    AfterValidator(_values),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1, "maxItems": MAX_VALUES}]}),
]
LinkHours = Annotated[
    float | None, Field(gt=0, le=MAX_HOURS, description="How long links work, at most as long as the package is kept.")
]


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

    foreign_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("from", "date_from", "start_date", "begin", "since"), "start"),
        **dict.fromkeys(("to", "date_to", "end_date", "until"), "end"),
    }

    start: str | None = Field(default=None, max_length=64, description="First day or instant, included.")
    end: str | None = Field(default=None, max_length=64, description="Day or instant after the last, not included.")


class Filters(_Part):
    """Which rows. Every other key is a column, or its plural, with the value or the values that rows must have."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, FilterValues] = Field(init=False)
    foreign_names: ClassVar[Mapping[str, str]] = {
        "date_range": "date_range",  # in another case
        **dict.fromkeys(("from", "date_from", "start_date"), "date_range.start"),
        **dict.fromkeys(("to", "date_to", "end_date"), "date_range.end"),
    }

    date_range: DateRange | None = Field(default=None, description="Of the table's time column.")
    whole_tables: WholeTables = Field(
        default=None,
        description="Tables that `date_range` cannot limit, since they have no time column: `include` all of their "
        "rows, `refuse` the request, or `leave_out` these tables; or a list of tables that come whole in any case. "
        "Default: include; in `data_sources`, where each table has a range of its own, refuse.",
    )
    include_deleted: bool = Field(
        default=False,
        description="Also rows that are marked as deleted; without them the package says how many they are.",
    )

    @model_validator(mode="before")
    @classmethod
    def _own_names(cls, raw: Any) -> Any:
        """A key in camel case would be taken for a column."""
        for name in raw if isinstance(raw, dict) else ():
            ours = in_snake_case(str(name))
            if ours != name and ours in cls.model_fields:
                raise _problem_at((name,), PydanticCustomError("extra_forbidden", "has another name here"))
        return raw

    @property
    def values(self) -> dict[str, tuple[Scalar, ...]]:
        """Column, as it was written → values; null is one."""
        return dict(self.__pydantic_extra__ or {})


class DataSource(_Part):
    """One table with what is wanted of it."""

    foreign_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("table", "name", "dataset", "source"), "type"),
        **dict.fromkeys(("columns", "select"), "fields"),
        **dict.fromkeys(("where", "filter"), "filters"),
        "date_range": "filters.date_range",
    }

    type: TableName = Field(description="Table of the catalog.")
    filters: Filters | None = Field(default=None, description="Which rows.")
    fields: tuple[str, ...] | None = Field(
        default=None, min_length=1, max_length=2000, description="Columns, or dimensions and measures; default: all."
    )
    aggregation: Aggregation | None = Field(
        default=None, description="The table's measures for each period, in the place of its rows."
    )


class DeliveryTarget(_Part):
    """One way in which the package is handed out. What else an entry says is up to its method.

    `export_pipelines.core.notifying` holds it against what the method, a kind of destination, knows.
    """

    model_config = ConfigDict(extra="allow")

    method: str = Field(
        min_length=1, max_length=40, description="Kind of destination. [Delivery](delivery.md) has the fields of each."
    )


class SplitFiles(_Switched):
    """Several files a table: by the period of its rows, by size, or both."""

    split_by: Literal["month", "week", "size"] | None = Field(default=None, description="Default: by size.")
    max_size_mb: float | None = Field(default=None, description="Of a finished file; 1 MB is 1,000,000 bytes.")
    many_files: bool = Field(
        default=False, description=f"Confirms that more than {MANY_FILES} files are wanted; without, they are refused."
    )


class SealedPassword(_Part):
    """Stands in the request table for a password that is kept encrypted in a column of its own."""

    sealed: Literal[True]


class Encryption(_Switched):
    """One encrypted archive instead of readable files."""

    foreign_names: ClassVar[Mapping[str, str]] = {"password_protected": "password", "passphrase": "password"}

    method: Literal["AES256", "age"] | None = Field(default=None, description="A ZIP with a password, or age.")
    password: SecretStr | SealedPassword | None = Field(default=None, description="12 to 99 characters. Never kept.")
    recipients: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(
        default=(), max_length=50, description="Public keys for age, in the place of a password."
    )
    hide_names: bool = Field(default=True, description="AES256: no name of a file can be seen without the password.")

    @field_validator("method", mode="before")
    @classmethod
    def _any_case(cls, method: Any) -> Any:
        return {"aes256": "AES256", "age": "age"}.get(method.lower(), method) if isinstance(method, str) else method


def with_clear_password(encryption: Encryption) -> dict[str, Any]:
    """As it is written, with its password in clear; the request store seals it."""
    found = encryption.model_dump(mode="json", exclude_defaults=True)
    if isinstance(encryption.password, SecretStr):
        found["password"] = encryption.password.get_secret_value()
    return found


class Retention(_Part):
    """How long the package is kept. More than the service keeps packages (EXPORT_RETENTION_DAYS) is refused."""

    keep_exports_days: float | None = Field(
        default=None, gt=0, le=MAX_DAYS, description="Default: as long as the service keeps packages."
    )
    auto_cleanup: bool = Field(
        default=True, description="false: the days are not applied, only the service's own limit is."
    )


class ExportConfig(_Part):
    """One export: of tables, or of what an earlier export read, in another format."""

    foreign_names: ClassVar[Mapping[str, str]] = {  # of the exports of applications, and of what lies one level deeper
        "date_range": "filters.date_range",
        **dict.fromkeys(("date_from", "start_date", "start"), "filters.date_range.start"),
        **dict.fromkeys(("date_to", "end_date", "end"), "filters.date_range.end"),
        **dict.fromkeys(("source_job_id", "job_id"), "convert"),
        **dict.fromkeys(("target_format", "file_format", "export_format", "output_format"), "format"),
        **dict.fromkeys(("password", "password_protected"), "encryption.password"),
        **dict.fromkeys(("email_recipients", "recipients", "s3_config", "destination"), "delivery"),
        **dict.fromkeys(("split_by", "max_size_mb"), "split_files"),
        **dict.fromkeys(("keep_exports_days", "retention_days", "keep_days"), "retention.keep_exports_days"),
        "type": "export_type",
        **dict.fromkeys(("sources", "datasets"), "data_sources"),
        "whole_tables": "filters.whole_tables",
        "title": "name",
    }

    name: str = Field(
        default="", max_length=200, description="Title, also in file names. Default: what kind of export it is."
    )
    description: str = Field(
        default="", max_length=MAX_DESCRIPTION, description="What it is for; kept and shown with the export."
    )
    export_type: ExportType = Field(
        default="selective",
        description="full_backup: whole tables. migration: with the DDL to restore them elsewhere. audit: what the "
        "service did for the tenant, no rows of tables. All but selective need the role admin.",
    )
    data_sources: tuple[DataSource, ...] | None = Field(
        default=None, min_length=1, max_length=1000, description="Tables, each with its own filters and fields."
    )
    tables: tuple[TableName, ...] | None = Field(
        default=None, min_length=1, max_length=1000, description="Short form: tables that share `filters`."
    )
    modules: tuple[TableName, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="All tables of these groups that the caller may export and that are not named anyway.",
    )
    filters: Filters | None = Field(default=None, description="Which rows, for `tables` and `modules`.")
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
    format: str = Field(min_length=1, max_length=40, description="Name or alias of a format.")
    options: dict[str, Any] = Field(default_factory=dict, description="Of formats; those of others have no effect.")
    compression: str = Field(
        default="none", min_length=1, max_length=40, description="Of each file, or `zip` for one archive."
    )
    split_files: SplitFiles | None = Field(default=None, description="Several files a table.")
    encryption: Encryption | None = Field(default=None, description="One encrypted archive.")
    delivery: tuple[DeliveryTarget, ...] = Field(
        default=(), max_length=20, description="Who is told and where files are put; default: nobody, nowhere."
    )
    retention: Retention | None = Field(default=None, description="How long the package is kept.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.is_bulk:
            return self._bulk_form()
        if {self.include_deleted, self.parallel_jobs, self.point_in_time} != {None}:
            raise ValueError("include_deleted, parallel_jobs and point_in_time go with full_backup and migration")
        selecting = self.data_sources is not None or self.tables is not None or self.modules is not None
        if selecting == (self.convert is not None) or (self.data_sources is not None and self.tables is not None):
            raise ValueError("name either tables or data_sources, and modules with either, or an export to convert")
        if self.filters is not None and self.tables is None and self.modules is None:
            raise ValueError(
                "filters goes with tables and modules; data_sources have their own, a conversion those of its export"
            )
        return self

    def _bulk_form(self) -> Self:
        if (self.data_sources, self.filters, self.convert) != (None, None, None):
            raise ValueError(f"{self.export_type} takes whole tables: leave data_sources, filters and convert out")
        if self.export_type == "audit" and (self.tables, self.modules) != (None, None):
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
        """The tables that are named, in the long form, whichever was used."""
        if self.data_sources is not None:
            return self.data_sources
        return tuple(DataSource(type=table, filters=self.filters) for table in self.tables or ())


@dataclass(frozen=True)
class Configuration:
    """A configuration as it was written, which is what the service stores, and as it was checked.

    It may stand in a body of the API in the place of `ExportConfig`, is documented as one, and is parsed with it.
    """

    documented_as: ClassVar[type[BaseModel]] = ExportConfig
    written: dict[str, Any] = dataclass_field(repr=False)  # may hold a password in clear
    config: ExportConfig

    @classmethod
    def of(cls, raw: Any) -> Configuration:
        """Raises `RequestRejected` naming the first offending field."""
        try:
            return cls._checked(raw, ExportConfig.model_validate)
        except ValidationError as error:
            raise rejected(error, model=ExportConfig, whole="config") from error
        except ValueError as error:
            raise RequestRejected(str(error), field="config") from error

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(cls._checked, handler.generate_schema(ExportConfig))

    @classmethod
    def _checked(cls, raw: Any, check: Callable[[Any], ExportConfig]) -> Configuration:
        try:
            _check_size(raw)
            _check_storable(raw)
        except RecursionError as error:
            raise ValueError("is nested too deeply") from error
        return cls(written=raw, config=check(raw))


def parse_configuration(raw: Any) -> ExportConfig:
    """Raises `RequestRejected` naming the first offending field."""
    return Configuration.of(raw).config


def _check_size(raw: Any) -> None:
    if len(json.dumps(raw, default=str)) > MAX_CONFIGURATION_BYTES:
        raise ValueError(
            f"is larger than {MAX_CONFIGURATION_BYTES} bytes; where its filters list many values (some 1,600 UUIDs "
            "fit), ask for them in several exports, or by a date range"
        )


def _check_storable(value: Any, path: tuple[int | str, ...] = ()) -> None:
    """Python's JSON knows texts and numbers that the request table cannot keep; none of them, wherever it stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_storable(name, path)
            _check_storable(inner, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            _check_storable(inner, (*path, place))
    elif isinstance(value, str) and _NOT_STORABLE.search(value):
        raise _problem_at(path, PydanticCustomError("not_storable", _NOT_STORABLE_MESSAGE))
    elif isinstance(value, float) and not math.isfinite(value):
        raise _problem_at(path, PydanticCustomError("not_storable", "is not a finite number"))


def _problem_at(path: tuple[int | str, ...], problem: PydanticCustomError) -> ValidationError:
    """Within a larger body pydantic puts the path to the configuration before it."""
    details = InitErrorDetails(type=problem, loc=path, input=None)
    return ValidationError.from_exception_data(Configuration.__name__, [details], hide_input=True)
