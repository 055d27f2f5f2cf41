"""What an export leaves out, as documents and answers state it: as JSON, and in sentences for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError

from export_pipelines.core.omissions import (
    ColumnCause,
    Omissions,
    OmittedColumn,
    OmittedTable,
    Precision,
    RowCount,
    SoftDelete,
    TableCause,
    TableOmissions,
)
from export_pipelines.packaging.selections import listed_values, plain

LEFT_OUT = "left_out"  # the field of a manifest, of each of its tables, and of answers
_ALL = TypeAdapter(Omissions)
_TABLE = TypeAdapter(TableOmissions)
_NONE = RowCount(rows=0)
_COLUMNS = {
    ColumnCause.EXCLUDED: "Never exported",
    ColumnCause.MASKED: "Masked, every value is NULL",
    ColumnCause.NOT_REQUESTED: "Not asked for",
    ColumnCause.AGGREGATED: "Not in it, since figures were asked for",
    ColumnCause.NOT_IN_CATALOG: "In the database and unknown to the catalog, so in no export yet",
}
_TABLES = {
    TableCause.NOT_REQUESTED: "Not asked for",
    TableCause.NO_TIME_COLUMN: "Left out, since they have no time column that the date range could be of",
    TableCause.ROLE: "Not allowed for the role of whoever asked",
    TableCause.EXCLUDED: "Never exported",
    TableCause.NOT_IN_CATALOG: "In the database and unknown to the catalog, so in no export yet",
}


def table_account(omissions: TableOmissions) -> dict[str, Any]:
    """``left_out`` of a table in a manifest."""
    account: dict[str, Any] = _TABLE.dump_python(omissions, mode="json")
    return account


def account_beside(omissions: Omissions) -> dict[str, Any]:
    """``left_out`` of a manifest: what is not said of one of its tables."""
    account: dict[str, Any] = _ALL.dump_python(omissions, mode="json")
    del account["tables"]
    return account


def account(stated: Omissions | str | None) -> dict[str, Any] | str | None:
    """All of it, for answers, with ``summary`` in sentences; or why it cannot be told."""
    if not isinstance(stated, Omissions):
        return stated
    return {**_ALL.dump_python(stated, mode="json"), "summary": list(summary(stated))}


def read_omissions(beside: object, tables: Sequence[object]) -> Omissions | None:
    """From ``left_out`` of a manifest and of each of its tables; None where that is no statement."""
    try:
        return _ALL.validate_python({**cast("dict[str, Any]", beside), "tables": tables})
    except (TypeError, ValidationError):
        return None


def omissions_in(manifest: dict[str, Any]) -> Omissions | None:
    """What a manifest as JSON states; None where it states nothing."""
    return read_omissions(manifest.get(LEFT_OUT), [table.get(LEFT_OUT) for table in manifest.get("tables", ())])


def read_table_omissions(account: object) -> TableOmissions | None:
    """From ``left_out`` of a table; None where that is no statement."""
    try:
        return _TABLE.validate_python(account)
    except ValidationError:
        return None


def summary(omissions: Omissions) -> Iterator[str]:
    """The sentences of all tables, each with its table, then those of the tables that are not exported."""
    for table in omissions.tables:
        for sentence in sentences(table):
            yield f"{table.table}: {sentence}"
    yield from sentences_beside(omissions)


def notable(stated: Omissions | str) -> Iterator[str]:
    """The sentences that whoever asked may not expect: rows that are missing, and what the catalog does not know."""
    if isinstance(stated, str):
        yield stated
        return
    for table in stated.tables:
        if table.deleted and table.deleted.left_out != _NONE:
            yield _of_marked(table, table.deleted)
        if table.narrowed:
            yield f"{table.table}: {_covered(table)}"
        unknown = [column for column in table.columns if column.cause is ColumnCause.NOT_IN_CATALOG]
        yield from _by_cause(unknown, _COLUMNS, f"{table.table}: ")
    unexpected = (TableCause.NO_TIME_COLUMN, TableCause.ROLE, TableCause.NOT_IN_CATALOG)
    yield from _by_cause((table for table in stated.other_tables if table.cause in unexpected), _TABLES, "Tables: ")


def sentences(omissions: TableOmissions) -> Iterator[str]:
    """Which rows and columns of a table are not in the export."""
    yield _of_deleted(omissions)
    if omissions.window is not None:
        window = omissions.window
        bounds = (("from", window.start), ("before", window.end))
        named = " and ".join(f"{word} {bound}" for word, bound in bounds if bound)
        unset = "are in it" if window.rows_without_time else "are not in it"
        yield f"Only rows with `{window.column}` {named}; rows without `{window.column}` {unset}."
    for column, values in omissions.filters.items():
        yield f"Only rows with `{column}` {listed_values(values)}."
    if omissions.narrowed:
        yield _covered(omissions)
    yield from _by_cause(omissions.columns, _COLUMNS)


def sentences_beside(omissions: Omissions) -> Iterator[str]:
    """Which tables are not in the export, and whether the database may have more than the catalog."""
    yield from _by_cause(omissions.other_tables, _TABLES, "Tables: ")
    if not omissions.compared_with_database:
        yield "Whether the database had tables or columns that the catalog does not know was not looked at."


def _covered(omissions: TableOmissions) -> str:
    return f"Covers {_number(omissions.exported_rows)} of {_number(omissions.all_rows)} rows in all."


def _of_deleted(omissions: TableOmissions) -> str:
    deleted, name = omissions.deleted, omissions.table
    if deleted is None:
        return f"No {name} are left out as deleted: the catalog names no column that marks them."
    if deleted.included:
        return f"Rows that are marked as deleted (`{deleted.column}`) are in it."
    return _of_marked(omissions, deleted)


def _of_marked(omissions: TableOmissions, deleted: SoftDelete) -> str:
    marked, within = deleted.left_out, omissions.exported_rows + deleted.left_out
    rows = f"{_number(within)} {'matching ' if omissions.narrowed else ''}{omissions.table}"
    if marked == _NONE:
        return f"None of {rows} is marked as deleted (`{deleted.column}`)."
    be = "is" if marked == RowCount(rows=1) else "are"
    return (
        f"{_number(marked)} of {rows} {be} marked as deleted (`{deleted.column}`) and "
        f"{be} not in this export; ask with include_deleted to get {'it' if be == 'is' else 'them'}."
    )


def _by_cause(
    omitted: Iterable[OmittedColumn | OmittedTable], words: dict[Any, str], before: str = ""
) -> Iterator[str]:
    order = list(words)
    for cause, found in groupby(sorted(omitted, key=lambda one: order.index(one.cause)), key=lambda one: one.cause):
        named = ", ".join(f"`{plain(one.name)}`{f' ({plain(one.reason)})' if one.reason else ''}" for one in found)
        yield f"{before}{words[cause]}: {named}."


def _number(count: RowCount) -> str:
    word = {Precision.EXACT: "", Precision.AT_LEAST: "more than ", Precision.ESTIMATE: "about "}[count.precision]
    return f"{word}{count.rows:,}"
