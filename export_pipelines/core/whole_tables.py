"""What becomes of tables that a date range cannot limit: one rule for requests and for the windows of schedules."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

from export_pipelines.core.errors import RequestRejected

_LONGEST_NAME, _MOST_NAMES = 63, 1000


class WholeTable(StrEnum):
    """What to do with a table that has no time column."""

    INCLUDE = "include"  # all of its rows
    REFUSE = "refuse"  # the whole request
    LEAVE_OUT = "leave_out"  # the table


def _word_or_names(given: Any) -> WholeTable | tuple[str, ...] | None:
    if given is None or (isinstance(given, str) and given in set(WholeTable)):
        return None if given is None else WholeTable(given)
    names = tuple(given) if isinstance(given, list | tuple) else ()
    if not 1 <= len(names) <= _MOST_NAMES or not all(
        isinstance(name, str) and 1 <= len(name) <= _LONGEST_NAME for name in names
    ):
        raise ValueError(f"must be {', '.join(WholeTable)}, or a list of tables")
    return names


WholeTables = Annotated[
    Any,
    AfterValidator(_word_or_names),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(WholeTable)},
                {"type": "array", "items": {"type": "string", "maxLength": _LONGEST_NAME}, "minItems": 1},
                {"type": "null"},
            ]
        }
    ),
]


def as_whole(
    table: str, wanted: WholeTable | tuple[str, ...] | None, *, has_time_column: bool, named_alone: bool
) -> WholeTable | None:
    """What becomes of a table whose rows a range was asked of; None: the range limits it.

    A list names tables that come whole, whether or not they have a time column. ``named_alone``: the range was asked of
    this very table, in an entry of its own, so that ignoring it has to be asked for as well.
    """
    names = wanted if isinstance(wanted, tuple) else ()
    if table in names:
        return WholeTable.INCLUDE
    if has_time_column:
        return None
    if isinstance(wanted, WholeTable):
        return wanted
    return WholeTable.REFUSE if names or named_alone else WholeTable.INCLUDE


def require_named(wanted: WholeTable | tuple[str, ...] | None, exported: Iterable[str], *, field: str) -> None:
    """`RequestRejected` for a list with a table that is not in the export."""
    known = set(exported)
    for table in wanted if isinstance(wanted, tuple) else ():
        if table not in known:
            raise RequestRejected(f"names {table!r}, which is not in the export", field=field)


def refusal(table: str, *, whole_tables: str, field: str) -> RequestRejected:
    """Of a range on a table that it cannot limit; ``whole_tables`` is the path of the field that would allow it."""
    return RequestRejected(
        f"{table} has no time column, so no date range limits it; leave the range or the table out, or set "
        f"{whole_tables} to {WholeTable.INCLUDE} for all of its rows",
        field=field,
    )
