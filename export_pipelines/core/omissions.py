"""What of the source is not in an export, and why: rows of its tables, columns of them, whole tables.

Found in the snapshot that the rows are read from, kept with them, and stated in every package and answer in this form.
The sentences for people are `export_pipelines.packaging.omissions`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import Field, NonNegativeInt

COUNTED_ROWS = 100_000  # where a count of rows that nobody asked for ends


class Precision(StrEnum):
    """What a number of rows is."""

    EXACT = "exact"
    AT_LEAST = "at_least"  # counting ended there
    ESTIMATE = "estimate"  # by the planner of the source; never less than 1


@dataclass(frozen=True, kw_only=True)
class RowCount:
    """A number of rows, and how sure it is."""

    rows: NonNegativeInt
    precision: Precision = Precision.EXACT

    def __add__(self, other: RowCount) -> RowCount:
        weakest = max(self.precision, other.precision, key=list(Precision).index)
        return RowCount(rows=self.rows + other.rows, precision=weakest)


class ColumnCause(StrEnum):
    """Why a column of an exported table is not in the files, or has no values there."""

    EXCLUDED = "excluded"  # the catalog never exports it
    MASKED = "masked"  # it is in the files, and each of its values is NULL
    NOT_REQUESTED = "not_requested"
    AGGREGATED = "aggregated"  # figures were asked for in the place of rows
    NOT_IN_CATALOG = "not_in_catalog"  # the database has it, the catalog does not know it


class TableCause(StrEnum):
    """Why a table is not in an export."""

    EXCLUDED = "excluded"  # the catalog never exports it
    ROLE = "role"  # whoever asked for the export may not export it
    NOT_REQUESTED = "not_requested"
    NO_TIME_COLUMN = "no_time_column"  # a date range was asked for, and such tables were to be left out
    NOT_IN_CATALOG = "not_in_catalog"  # the database has it, the catalog does not know it


@dataclass(frozen=True, kw_only=True)
class OmittedColumn:
    """A column without values in the export."""

    name: str
    cause: ColumnCause
    reason: Annotated[str | None, Field(description="As the catalog words it.")] = None


@dataclass(frozen=True, kw_only=True)
class OmittedTable:
    """A table without rows in the export."""

    name: Annotated[str, Field(description="`schema.*` stands for all tables of an excluded schema.")]
    cause: TableCause
    reason: Annotated[str | None, Field(description="As the catalog words it, or which roles may export it.")] = None


@dataclass(frozen=True, kw_only=True)
class SoftDelete:
    """What became of rows that are marked as deleted."""

    column: str
    included: bool  # whether the export holds such rows
    left_out: Annotated[
        RowCount, Field(description="Rows that are marked as deleted, meet all other conditions, and are left out.")
    ]


@dataclass(frozen=True, kw_only=True)
class AppliedWindow:
    """A half-open range of time, as it was compared with the column: its days, its local times or instants."""

    column: str
    start: Annotated[str | None, Field(description="Included.")]
    end: Annotated[str | None, Field(description="Not included.")]
    rows_without_time: Annotated[bool, Field(description="Whether rows in which the column is NULL are included.")]


@dataclass(frozen=True, kw_only=True)
class TableOmissions:
    """What narrowed one table of an export. Of a tenant's own table all counts are of that tenant's rows."""

    table: str
    exported_rows: Annotated[
        RowCount, Field(description="Rows of the table that are in the export, or that its figures are computed from.")
    ]
    all_rows: Annotated[
        RowCount, Field(description="Rows of the table whatever was asked for; counted to 100,000 where narrowed.")
    ]
    deleted: Annotated[
        SoftDelete | None, Field(description="None: the catalog names no column that marks rows as deleted.")
    ]
    window: AppliedWindow | None
    filters: Annotated[
        Mapping[str, tuple[str | None, ...]],
        Field(description="Column → the values that its rows have; null is NULL."),
    ]
    columns: tuple[OmittedColumn, ...]

    @property
    def narrowed(self) -> bool:
        """Whether anything but the soft delete keeps rows of the table out."""
        return self.window is not None or bool(self.filters)


@dataclass(frozen=True, kw_only=True)
class Omissions:
    """All that an export leaves out."""

    tables: Annotated[tuple[TableOmissions, ...], Field(description="Those that are exported, in their order.")]
    other_tables: Annotated[tuple[OmittedTable, ...], Field(description="Those that are not.")]
    compared_with_database: Annotated[
        bool, Field(description="Whether the database was searched for tables and columns that the catalog lacks.")
    ]

    def of(self, table: str) -> TableOmissions:
        return next(omissions for omissions in self.tables if omissions.table == table)


@dataclass(frozen=True, kw_only=True)
class NotInCatalog:
    """What a database has and its catalog does not know."""

    tables: tuple[str, ...] = ()  # schema.name, sorted
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by table of the catalog, in their order


@dataclass(frozen=True, kw_only=True)
class OtherRows:
    """Counts beside the rows of a selection, from the same snapshot."""

    deleted: RowCount | None = None  # left out as deleted; None: no row is
    read: RowCount | None = None  # behind figures; None: the selection's own rows
    all_rows: RowCount | None = None  # None: the rows and those left out as deleted
