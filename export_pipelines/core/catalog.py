"""The catalog: what can be exported, as data.

One YAML file describes one source database. This module holds its shape and the rules inside it; reading files,
reflecting a live database and comparing with one belong to `export_pipelines.catalog`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from export_pipelines.core.buckets import MAX_BUCKETS
from export_pipelines.core.columns import Classification, Column, Reason, Shape, Spec
from export_pipelines.core.cron import timezones
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.grains import Grain
from export_pipelines.core.measures import Aggregation, Figures, Measure, figures_of, problem_of
from export_pipelines.core.resolution import Comparison, Resolution
from export_pipelines.core.soft_delete import AliveWhen, alive_text
from export_pipelines.core.suggestions import did_you_mean

__all__ = [
    "Canary",
    "Catalog",
    "Classification",
    "Column",
    "Grain",
    "Partition",
    "Relation",
    "Table",
    "TenantPath",
    "TenantRoot",
    "Withheld",
]

_NAME = r"^[a-z_][a-z0-9_]{0,62}$"


class Relation(Spec):
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


class TenantPath(Spec):
    """How a row belongs to a tenant: by a column, through a relation, or to all tenants alike."""

    column: str | None = None
    through: str | None = Field(default=None, description="Name of a relation of the same table.")
    shared: Reason | None = Field(default=None, description="Reference data, the same for every tenant.")
    null_is_shared: bool = Field(
        default=False, description="Rows with NULL in `column` are defaults that belong to every tenant."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(part is not None for part in (self.column, self.through, self.shared)) != 1:
            raise ValueError("name exactly one of column, through, shared")
        if self.null_is_shared and self.column is None:
            raise ValueError("null_is_shared needs a column; a path through relations follows the table it leads to")
        return self


class Partition(Spec):
    """How the lake cuts a table; ``column`` defaults to the table's time column."""

    grain: Grain = Grain.MONTH
    column: str | None = None


class Withheld(Shape):
    """A table that is never exported, described as if it were: `export: true` is all that takes it in.

    What else is said of it is kept as it is written, and read when it is taken in.
    """

    model_config = ConfigDict(extra="allow")

    export: Literal[False]
    reason: Reason = Field(description="Why the table is not exported.")
    source: str | None = Field(default=None, description="schema.name in PostgreSQL; default: catalog schema + key.")


class Table(Shape):
    """One exportable table or view."""

    export: Literal[True] = Field(
        default=True, description="`false`: it is never exported, for the `reason` beside it."
    )
    reason: Reason | None = Field(default=None, description="Why the table was not exported, while `export` was false.")
    source: str | None = Field(default=None, description="schema.name in PostgreSQL; default: catalog schema + key.")
    description: str | None = None
    module: str | None = None
    primary_key: tuple[str, ...] = ()
    tenant: TenantPath
    time_column: str | None = None
    deleted_column: str | None = None
    alive_when: AliveWhen | None = Field(
        default=None, description="Value of `deleted_column` in rows that are not deleted, beside NULL."
    )
    partition: Partition = Partition(grain=Grain.NONE)
    roles: tuple[Literal["member", "admin"], ...] = ("member", "admin")
    relations: dict[str, Relation] = Field(default_factory=dict)
    dimensions: tuple[str, ...] = Field(default=(), description="Columns that `measures` may be grouped by.")
    measures: dict[Annotated[str, Field(pattern=_NAME)], Measure] = Field(
        default_factory=dict, description="Figures by name that a request with `aggregation` may ask for."
    )

    @property
    def partition_column(self) -> str | None:
        if self.partition.grain is Grain.NONE:
            return None
        return self.partition.column or self.time_column

    @model_validator(mode="after")
    def _columns_exist(self) -> Self:
        named = {
            "tenant.column": (self.tenant.column,),
            "time_column": (self.time_column,),
            "deleted_column": (self.deleted_column,),
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
        if self.tenant.null_is_shared and not self.columns[str(self.tenant.column)].nullable:
            raise ValueError(f"tenant.null_is_shared: column {self.tenant.column!r} is never NULL")
        if problem := self._deletion_problem():
            raise ValueError(problem)
        if not self.exported_columns:
            raise ValueError("every column is excluded; list the table under excluded instead")
        if problem := problem_of(self.columns, self.time_column, self.dimensions, self.measures):
            raise ValueError(problem)
        return self

    def _deletion_problem(self) -> str | None:
        if self.deleted_column is None:
            return None if self.alive_when is None else "alive_when needs a deleted_column"
        column = self.columns[self.deleted_column]
        if self.alive_when is None:
            if column.nullable:
                return None
            return (
                f"deleted_column {self.deleted_column!r} is never NULL, so that every row would count as deleted; "
                "name the value of rows that are not deleted, such as `alive_when: infinity` or `alive_when: false`"
            )
        try:
            alive_text(column, self.alive_when)
        except ValueError as error:
            return f"alive_when {self.alive_when!r} {error}"
        return None

    def figures(self, aggregation: Aggregation) -> Figures:
        """What the table looks like when its measures are computed for each period."""
        return figures_of(
            aggregation,
            columns=self.columns,
            time_column=str(self.time_column),
            dimensions=self.dimensions,
            measures=self.measures,
            description=self.description,
        )


class TenantRoot(Spec):
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


class Canary(Spec):
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
    if name not in timezones():
        raise ValueError(f"{name!r} is not an IANA timezone")
    return name


class Catalog(Spec):
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
    tenant_buckets: Annotated[int, Field(ge=1, le=MAX_BUCKETS)] | None = None
    canary: Canary | None = None
    tables: dict[str, Table] = Field(min_length=1)
    withheld: dict[str, Withheld] = Field(default_factory=dict, description="Those of `tables` with `export: false`.")
    excluded: dict[str, Reason] = Field(default_factory=dict, description="Tables that are never exported.")
    _resolution: Resolution = PrivateAttr(default_factory=Resolution)

    @model_validator(mode="before")
    @classmethod
    def _split_tables(cls, content: Any) -> Any:
        """A file has exported and withheld tables in one block; here each kind has its own."""
        tables = content.get("tables") if isinstance(content, dict) else None
        if not isinstance(tables, dict):
            return content
        apart = {
            name: entry for name, entry in tables.items() if isinstance(entry, dict) and entry.get("export") is False
        }
        withheld = content.get("withheld", {}) | apart
        return {**content, "tables": {k: v for k, v in tables.items() if k not in apart}, "withheld": withheld}

    @model_validator(mode="after")
    def _exclude_withheld(self) -> Self:
        for name in self.withheld:
            self.excluded.setdefault(self.withheld_as(name), self.withheld[name].reason)
        return self

    @field_validator("tables", "withheld")
    @classmethod
    def _table_names(cls, tables: dict[str, Any]) -> dict[str, Any]:
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
                    kept = relation.references in self.withheld
                    why = "has `export: false`; set it to true as well" if kept else "is not in the catalog"
                    raise ValueError(f"tables.{name}.relations.{key}: {relation.references!r} {why}")
                for column in relation.referenced_columns:
                    if column not in target.columns:
                        raise ValueError(
                            f"tables.{name}.relations.{key}: {relation.references}.{column} does not exist"
                        )
            self.tenant_route(name)
        return self

    def resolved(self, resolution: Resolution) -> Catalog:
        """The same catalog with facts of its live database, for whoever writes SQL from it."""
        catalog = self.model_copy()
        catalog._resolution = resolution  # noqa: SLF001 - of our own class
        return catalog

    @property
    def resolution(self) -> Resolution:
        """Facts of the live database; empty before `resolved`, when keys are taken for PostgreSQL's own types."""
        return self._resolution

    def owner_comparison(self, table: str) -> Comparison:
        """How the tenant column of a table is compared with an id."""
        return self._resolution.owners.get(table) or Comparison(key_cast=self.tenant.type)

    def join_comparison(self, table: str, column: str, referenced: tuple[str, str]) -> Comparison:
        """How a column is compared with the one that it refers to: (table, column) of the catalog."""
        return self._resolution.joins.get((table, column, *referenced)) or Comparison()

    @property
    def directory_role(self) -> str:
        """The role that may list tenants and nothing else."""
        return f"{self.reader_role}_directory"

    def withheld_as(self, name: str) -> str:
        """What a withheld table is called under `excluded`: its name in PostgreSQL, with another schema's in front."""
        source = self.withheld[name].source or name
        schema, _, relation = source.rpartition(".")
        return relation if schema in ("", self.schema_) else source

    def table(self, name: str, *, offered: Iterable[str] | None = None) -> Table:
        """The table, or `RequestRejected` naming the one that may have been meant, among those ``offered``."""
        if name not in self.tables:
            reason = self.withheld[name].reason if name in self.withheld else self.excluded.get(name)
            why = f"is excluded from export: {reason}" if reason else "is not in the catalog"
            meant = (
                did_you_mean(name, self.tables if offered is None else offered) or "; the catalog lists what there is"
            )
            raise RequestRejected(f"table {name!r} {why}{meant}", field="tables")
        return self.tables[name]

    def null_is_shared(self, name: str) -> bool:
        """Whether rows without a tenant, here or at the end of the path to it, belong to every tenant."""
        route = self.tenant_route(name)
        return self.tables[route[-1][1].references if route else name].tenant.null_is_shared

    def shape(self, name: str, aggregation: Aggregation | None) -> Table | Figures:
        """What the rows of a table are in an export: as they stand, or as figures."""
        return self.tables[name] if aggregation is None else self.tables[name].figures(aggregation)

    @property
    def modules(self) -> dict[str, tuple[str, ...]]:
        """Module → its tables, in catalog order."""
        named: dict[str, tuple[str, ...]] = {}
        for name, table in self.tables.items():
            if table.module is not None:
                named[table.module] = (*named.get(table.module, ()), name)
        return named

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
