"""What the documents of a package say about which rows of a table it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import Condition, TableSelection

_NAMED = 10  # values in a sentence; the manifest has all


def filters_account(selection: TableSelection) -> dict[str, Any]:
    """As in the configuration, with resolved instants and column names; null among values is NULL."""
    window = selection.window
    return {
        "time_column": selection.window_column,
        "start": window.start_at.isoformat() if window and window.start_at else None,
        "end": window.end_at.isoformat() if window and window.end_at else None,
        "include_deleted": selection.include_deleted,
        **({"columns": values_account(selection)} if selection.conditions else {}),
    }


def values_account(selection: TableSelection) -> dict[str, list[str | None]]:
    """Column → the values its rows have."""
    return {condition.column: condition.wanted for condition in selection.conditions}


def figures_account(selection: TableSelection, catalog: Catalog) -> dict[str, Any]:
    """How figures came about: period, clock, and the function of each measure."""
    table = catalog.tables[selection.table]
    return {
        "period": str(selection.aggregation),
        "time_column": table.time_column,
        "timezone": catalog.timezone,
        "dimensions": [name for name in table.dimensions if name in selection.columns],
        "measures": {
            name: {"function": measure.function.value, "column": measure.column}
            for name, measure in table.measures.items()
            if name in selection.columns
        },
    }


def narrowing(selection: TableSelection, catalog: Catalog) -> str:
    """Which rows were asked for, as the end of a sentence; empty for the whole table."""
    parts = []
    if selection.aggregation:
        parts.append(f"{selection.aggregation} figures, periods beginning in {catalog.timezone}")
    window = selection.window
    if window is not None and not window.unbounded:
        bounds = (("from", window.start_at), ("before", window.end_at))
        named = " and ".join(f"{word} {instant.isoformat()}" for word, instant in bounds if instant)
        parts.append(f"rows with `{selection.window_column}` {named}")
    if selection.whole:
        parts.append("all rows, since the date range does not apply to it")
    parts += [_sentence(condition) for condition in selection.conditions]
    return "; ".join(parts)


def _sentence(condition: Condition) -> str:
    return f"rows with `{condition.column}` {listed_values(condition.wanted)}"


def listed_values(wanted: Sequence[str | None]) -> str:
    """The values that a column may have, as part of a sentence; None is NULL."""
    values = [value for value in wanted if value is not None]
    named = [f"`{plain(value)}`" for value in values[:_NAMED]] + (["NULL"] if None in wanted else [])
    more = len(values) - _NAMED
    return f"{' or '.join(named)}{f' or one of {more} more' if more > 0 else ''}"


def plain(value: str) -> str:
    """On one line, and unable to end the code that it is shown as."""
    return " ".join(value.replace("`", "'").split())
