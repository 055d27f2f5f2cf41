"""What a check of the catalog against a live database reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing, and what to do about it. An error forbids exporting the table."""

    level: Literal["error", "warning"]
    table: str | None  # catalog key, or schema.name where the catalog does not know the table; None: all tables
    column: str | None = None
    message: str
    next_step: str

    def __str__(self) -> str:
        where = ".".join(part for part in (self.table, self.column) if part)
        return f"{self.level}: {f'{where}: ' if where else ''}{self.message}; {self.next_step}"


def error(message: str, next_step: str, *, table: str | None = None, column: str | None = None) -> Finding:
    """A finding that forbids exporting the table, or everything where no table is named."""
    return Finding(level="error", table=table, column=column, message=message, next_step=next_step)


def warning(message: str, next_step: str, *, table: str | None = None, column: str | None = None) -> Finding:
    """A finding worth knowing, which forbids nothing."""
    return Finding(level="warning", table=table, column=column, message=message, next_step=next_step)
