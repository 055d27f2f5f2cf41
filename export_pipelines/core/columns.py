"""Columns of the catalog and of what is made from it: their fate, and the form in which their values travel."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Self

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from export_pipelines.core.types import Kind, ValueType, base_type, field_of, normalize, value_type
from export_pipelines.core.types import as_text as text_form

Reason = Annotated[str, Field(min_length=3, description="Why; shown to auditors.")]


class Classification(StrEnum):
    """How delicate a column is; later decisions (anonymisation, attachments) read it."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    IDENTIFIER = "identifier"
    SENSITIVE = "sensitive"


def positional(schema: pa.Schema) -> pa.Schema:
    """The columns called ``c0``, ``c1``, …, for engines to which names are patterns or differ by more than case."""
    return pa.schema([field.with_name(f"c{i}") for i, field in enumerate(schema)])


class Spec(BaseModel):
    """A part of a catalog."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Spec):
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


class Shape(Spec):
    """The columns that rows have: those of a table, or of what is computed from one."""

    columns: dict[str, Column] = Field(min_length=1)

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
