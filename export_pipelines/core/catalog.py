"""The catalog: what can be exported, as data.

One YAML file describes one source database. This module holds its shape and the rules inside it; reading files,
reflecting a live database and comparing with one belong to `export_pipelines.catalog`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.types import Kind, ValueType, base_type, field_of, normalize, value_type
from export_pipelines.core.types import as_text as text_form

_NAME = r"^[a-z_][a-z0-9_]{0,62}$"
Reason = Annotated[str, Field(min_length=3, description="Why; shown to auditors.")]


class Classification(StrEnum):
    """How delicate a column is; later decisions (anonymisation, attachments) read it."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    IDENTIFIER = "identifier"
    SENSITIVE = "sensitive"


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Spec):
    """One column of the source: exported, masked (always NULL) or excluded, the last two with a reason."""

    type: Annotated[str, AfterValidator(normalize), Field(min_length=1)]
    classification: Classification = Classification.INTERNAL
    nullable: bool = True
    description: str | None = None
    label: str | None = None
    as_text: bool = Field(
        default=False, description="Travel as text, for values that files cannot hold as what they are."
    )
    mask: Reason | None = None
    exclude: Reason | None = None

    @property
    def travels_as(self) -> ValueType:
        """How values of this column move from the source to the files."""
        return text_form(self.type) if self.as_text else value_type(self.type)

    @property
    def exported(self) -> bool:
        return self.exclude is None

    @model_validator(mode="after")
    def _one_fate(self) -> Self:
        if self.mask and self.exclude:
            raise ValueError("a column is either masked or excluded, not both")
        return self


class Relation(_Spec):
    """A foreign key, declared in the database or only known here (``virtual``)."""

    columns: tuple[str, ...] = Field(min_length=1)
    references: str
    referenced_columns: tuple[str, ...] = Field(min_length=1)
    nest_as: str | None = Field(default=None, pattern=_NAME, description="Nested JSON: field of the parent record.")
    virtual: bool = False

    @model_validator(mode="after")
    def _same_width(self) -> Self:
        if len(self.columns) != len(self.referenced_columns):
            raise ValueError("columns and referenced_columns must have the same length")
        return self


class TenantPath(_Spec):
    """How a row belongs to a tenant: by a column, through a relation, or to all tenants alike."""

    column: str | None = None
    through: str | None = Field(default=None, description="Name of a relation of the same table.")
    shared: Reason | None = Field(default=None, description="Reference data, the same for every tenant.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.column, self.through, self.shared)) != 1:
            raise ValueError("name exactly one of column, through, shared")
        return self


class Grain(StrEnum):
    """Length of a partition's period."""

    MONTH = "month"
    DAY = "day"
    NONE = "none"


class Partition(_Spec):
    """How the lake cuts a table; ``column`` defaults to the table's time column."""

    grain: Grain = Grain.MONTH
    column: str | None = None


class Table(_Spec):
    """One exportable table or view."""

    source: str | None = Field(default=None, description="schema.name in PostgreSQL; default: catalog schema + key.")
    description: str | None = None
    module: str | None = None
    primary_key: tuple[str, ...] = ()
    tenant: TenantPath
    time_column: str | None = None
    deleted_column: str | None = None
    updated_column: str | None = None
    partition: Partition = Partition(grain=Grain.NONE)
    append_only: bool = False
    roles: tuple[Literal["member", "admin"], ...] = ("member", "admin")
    columns: dict[str, Column] = Field(min_length=1)
    relations: dict[str, Relation] = Field(default_factory=dict)

    @property
    def exported_columns(self) -> tuple[str, ...]:
        """Names in catalog order, excluded ones left out."""
        return tuple(name for name, column in self.columns.items() if column.exported)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The exported columns that can hold any text, a canary's marker among others; JSON and arrays included."""
        return tuple(
            name
            for name in self.exported_columns
            for column in (self.columns[name],)
            if column.mask is None
            and column.travels_as.kind in (Kind.TEXT, Kind.JSON)
            and base_type(column.type) != "uuid"
        )

    @property
    def partition_column(self) -> str | None:
        if self.partition.grain is Grain.NONE:
            return None
        return self.partition.column or self.time_column

    def form_of(self, name: str, as_text: Collection[str] = ()) -> ValueType:
        """How a column moves from the source to the files; ``as_text`` are those that this export carries as text."""
        column = self.columns[name]
        return text_form(column.type) if name in as_text else column.travels_as

    def arrow_schema(self, columns: tuple[str, ...] | None = None, as_text: Collection[str] = ()) -> pa.Schema:
        """The schema rows of this table have everywhere between source and format."""
        return pa.schema(
            [
                field_of(name, self.form_of(name, as_text), nullable=column.nullable or column.mask is not None)
                for name in (self.exported_columns if columns is None else columns)
                for column in (self.columns[name],)
            ]
        )

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        named = {
            "tenant.column": (self.tenant.column,),
            "time_column": (self.time_column,),
            "deleted_column": (self.deleted_column,),
            "updated_column": (self.updated_column,),
            "partition.column": (self.partition.column,),
            "primary_key": self.primary_key,
            **{f"relations.{name}.columns": relation.columns for name, relation in self.relations.items()},
        }
        for where, names in named.items():
            for name in names:
                if name is not None and name not in self.columns:
                    raise ValueError(f"{where} names {name!r}, which is not among the columns")
        if self.partition.grain is not Grain.NONE and self.partition_column is None:
            raise ValueError("partition.grain needs a time_column or partition.column")
        if self.tenant.through is not None and self.tenant.through not in self.relations:
            raise ValueError(f"tenant.through names {self.tenant.through!r}, which is not among the relations")
        if not self.exported_columns:
            raise ValueError("every column is excluded; list the table under excluded instead")
        return self


class TenantRoot(_Spec):
    """Where tenants live and how the database is told which one is asked for."""

    table: str = Field(description="schema.name of the table with one row for each tenant.")
    key: str = "id"
    label: str | None = None
    type: str = Field(default="text", description="SQL type of a tenant's id.")
    setting: str = Field(
        default="export.tenant_id",
        pattern=r"^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+$",
        description="Session setting which the row-level security policies compare with.",
    )


class Canary(_Spec):
    """A reserved tenant whose rows carry a marker that must never turn up in anybody's export."""

    tenant: str = Field(min_length=1, description="Its id as text. It is not listed and cannot be exported.")
    marker: str = Field(
        pattern=r"^[A-Za-z0-9-]{16,200}$",  # no format escapes, folds or splits such a text
        description="In a text column of its rows: 16 to 200 letters, digits and hyphens that occur nowhere else.",
    )

    @property
    def marker_sha256(self) -> str:
        """What a manifest says of the marker."""
        return hashlib.sha256(self.marker.encode()).hexdigest()


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError(f"{name!r} is not an IANA timezone")
    return name


class Catalog(_Spec):
    """All that one source database offers for export, and all that it keeps back."""

    version: Literal[1] = 1
    name: str = Field(pattern=_NAME)
    title: str | None = None
    description: str | None = None
    schema_: str = Field(default="public", alias="schema")
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    history_start: dt.date = dt.date(2020, 1, 1)
    drift: Literal["warn", "fail"] = "warn"
    reader_role: str = Field(default="export_reader", pattern=_NAME)
    tenant: TenantRoot
    canary: Canary | None = None
    tables: dict[str, Table] = Field(min_length=1)
    excluded: dict[str, Reason] = Field(default_factory=dict, description="Tables that are never exported.")

    @field_validator("tables")
    @classmethod
    def _table_names(cls, tables: dict[str, Table]) -> dict[str, Table]:
        for name in tables:
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"table key {name!r}: use lower-case letters, digits and underscores")
        return tables

    @model_validator(mode="after")
    def _relations_resolve(self) -> Self:
        for name, table in self.tables.items():
            for key, relation in table.relations.items():
                target = self.tables.get(relation.references)
                if target is None:
                    raise ValueError(f"tables.{name}.relations.{key}: {relation.references!r} is not in the catalog")
                for column in relation.referenced_columns:
                    if column not in target.columns:
                        raise ValueError(
                            f"tables.{name}.relations.{key}: {relation.references}.{column} does not exist"
                        )
            self.tenant_route(name)
        return self

    @property
    def directory_role(self) -> str:
        """The role that may list tenants and nothing else."""
        return f"{self.reader_role}_directory"

    def table(self, name: str) -> Table:
        """The table, or `RequestRejected` naming what there is."""
        if name not in self.tables:
            reason = self.excluded.get(name)
            why = f"is excluded from export: {reason}" if reason else "is not in the catalog"
            raise RequestRejected(f"table {name!r} {why}; choose from {', '.join(self.tables)}", field="tables")
        return self.tables[name]

    def relation_name(self, name: str) -> tuple[str, str]:
        """(schema, name) of the table in PostgreSQL."""
        source = self.tables[name].source or name
        schema, _, relation = source.rpartition(".")
        return schema or self.schema_, relation

    def tenant_route(self, name: str) -> tuple[tuple[str, Relation], ...]:
        """The relations to follow, as (table, relation) pairs, until a table that has the tenant column.

        Empty when the table has it itself or is shared.
        """
        route: list[tuple[str, Relation]] = []
        seen = {name}
        table = self.tables[name]
        while table.tenant.through is not None:
            relation = table.relations[table.tenant.through]
            route.append((name, relation))
            name, table = relation.references, self.tables[relation.references]
            if name in seen:
                raise ValueError(f"tables.{name}.tenant: the path through relations runs in a circle")
            seen.add(name)
        if route and table.tenant.shared is not None:
            raise ValueError(f"tables.{route[0][0]}.tenant: the path ends at {name!r}, which is shared by all tenants")
        return tuple(route)
