"""README.md of a package: first for whoever receives it, in plain words; below, what engineers want to know.

The first part names columns and causes only where people need them. Every count and every column that is left out is in
the second part, in the words of `export_pipelines.packaging.omissions`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from zoneinfo import ZoneInfo

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.columns import Classification
from export_pipelines.core.migration import LOAD_FILE, MigrationScripts
from export_pipelines.core.model import ExportFile, ExportPlan, Stage, StagedTable, TableSelection
from export_pipelines.core.omissions import (
    ColumnCause,
    OmittedColumn,
    OmittedTable,
    Precision,
    RowCount,
    TableCause,
    TableOmissions,
)
from export_pipelines.core.ports import FormatSpec
from export_pipelines.core.windows import Window
from export_pipelines.core.wording import counted, readable_size
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.packaging.documents import EVERY_TABLE
from export_pipelines.packaging.migration_scripts import has_load_script
from export_pipelines.packaging.omissions import sentences, sentences_beside
from export_pipelines.packaging.selections import listed_values, narrowing, plain

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DELICATE = {Classification.PERSONAL, Classification.SENSITIVE}
_MOST_LISTED = 50  # files; more are told by the first and the last


def readme(
    plan: ExportPlan, catalog: Catalog, stage: Stage, files: tuple[ExportFile, ...], *, spec: FormatSpec
) -> bytes:
    """What is here and how to open it, for people; then how it was made and how to check it, for engineers."""
    lines = [
        f"# {plan.name}",
        "",
        *_what_this_is(plan, catalog, stage),
        *_contents(plan, catalog, stage, files),
        *_opening(plan, files, spec),
        *_missing(plan, stage),
        *_questions(plan, catalog),
        "---",
        "",
        "# For engineers",
        "",
        *_how_it_was_made(plan, catalog, stage),
        *_files(files),
        *_tables(plan, catalog, stage),
        "## Tables that are not in it",
        "",
        *_bullets(list(sentences_beside(stage.omissions)) or [EVERY_TABLE]),
        "",
        *(_loading(plan, stage.migration) if stage.migration is not None else []),
        *_values_and_checks(plan, stage),
    ]
    return "\n".join(lines).encode()


# For people ---------------------------------------------------------------------------------------------------------


def _what_this_is(plan: ExportPlan, catalog: Catalog, stage: Stage) -> Iterator[str]:
    rows, tables = sum(table.rows for table in stage.tables), len(stage.tables)
    held = f"{counted(rows, 'row')} in {counted(tables, 'table')}"
    yield f"This is a copy of data from {catalog.title or catalog.name}: {held}."
    yield ""
    yield f"- **Whose data:** only what belongs to `{plain(plan.scope.tenant_id)}`; nothing of other customers."
    yield f"- **As of:** {_as_of(plan, stage)} Later changes are not in it."
    yield f"- **Period:** {_period(plan, catalog)}"
    yield f"- **Export number:** `{plan.request_id}`"
    yield ""
    if _is_delicate(plan, catalog):
        yield (
            "It contains personal data. Keep it where only those can read it who need it, do not pass it on "
            "unprotected, and delete it when you no longer need it."
        )
        yield ""


def _as_of(plan: ExportPlan, stage: Stage) -> str:
    if not stage.parts:
        return f"{_instant_in_words(stage.snapshot.taken_at)}."
    assert plan.point_in_time is not None
    return f"{_instant_in_words(plan.point_in_time)}, or up to some days before; the engineers' part says which."


def _period(plan: ExportPlan, catalog: Catalog) -> str:
    periods = {
        _window_in_words(selection.window, catalog.timezone) for selection in plan.selections if not selection.whole
    }
    whole = f"; all of {', '.join(plan.whole_tables)}, whatever the date" if plan.whole_tables else ""
    if periods <= {""}:
        return "everything up to then."
    if len(periods) == 1:
        return f"{periods.pop()}{whole}."
    return "differs from table to table, see below."


def _contents(plan: ExportPlan, catalog: Catalog, stage: Stage, files: Sequence[ExportFile]) -> Iterator[str]:
    staged = {table.table: table for table in stage.tables}
    yield from ("## What is in it", "")
    first = next((file for file in files if file.parts), None)
    if first is not None:
        yield f"Open this file first: **`{first.path}`**"
        yield ""
    yield from ("| Table | What it is | Rows | Where |", "|---|---|---:|---|")
    for selection in plan.selections:
        table = catalog.shape(selection.table, selection.aggregation)
        what = _what_a_table_is(selection, catalog, table.description or "")
        rows = staged[selection.table].rows
        yield f"| {selection.table} | {_cell(what)} | {rows:,} | {_where(selection.table, files)} |"
    yield ""


def _what_a_table_is(selection: TableSelection, catalog: Catalog, description: str) -> str:
    words = [description] if description else []
    if window := _window_in_words(selection.window, catalog.timezone):
        words.append(window)
    if selection.whole:
        words.append("all of it, whatever the date")
    return "; ".join(words)


def _where(table: str, files: Sequence[ExportFile]) -> str:
    held = [file for file in files if any(part.table == table for part in file.parts)]
    if not held:
        return ""
    if len(held) > 1:
        return f"{len(held):,} files, `{held[0].path}` to `{held[-1].path}`"
    (part,) = [part for part in held[0].parts if part.table == table][:1]
    if part.route:
        return f"`{held[0].path}`, inside the records as {' / '.join(part.route)}"
    return f"`{held[0].path}`"


def _opening(plan: ExportPlan, files: Sequence[ExportFile], spec: FormatSpec) -> Iterator[str]:
    if not any(file.parts for file in files):
        return
    yield from ("## How to open it", "")
    if plan.compression in CODECS:
        suffix = CODECS[plan.compression].suffix
        yield f"The files are compressed. Unpack those that end in `{suffix}` first, for example with 7-Zip."
        yield ""
    if spec.how_to_open:
        yield spec.how_to_open
        yield ""
    yield "Times are in UTC, which can differ from the time on your clock."
    yield ""


def _missing(plan: ExportPlan, stage: Stage) -> Iterator[str]:
    yield from ("## What is not in it, and why", "")
    found = [line for selection in plan.selections for line in _missing_of(stage.omissions.of(selection.table))]
    by_cause: dict[TableCause, list[str]] = {}
    for table in stage.omissions.other_tables:
        by_cause.setdefault(table.cause, []).append(_named(table))
    found += [f"{_TABLES[cause]}: {', '.join(names)}." for cause, names in by_cause.items()]
    yield from _bullets(found or ["Nothing was left out."])
    yield ""


_TABLES = {
    TableCause.NOT_REQUESTED: "Tables that nobody asked for",
    TableCause.NO_TIME_COLUMN: "Tables without dates, which were to be left out of a period",
    TableCause.ROLE: "Tables that the person who asked may not have",
    TableCause.EXCLUDED: "Tables that are never exported",
    TableCause.NOT_IN_CATALOG: "Tables that are new and cannot be exported yet",
}
_COLUMNS = {
    ColumnCause.EXCLUDED: "columns that are never exported",
    ColumnCause.MASKED: "columns that are always left empty, to protect people",
    ColumnCause.NOT_REQUESTED: "columns that nobody asked for",
    ColumnCause.AGGREGATED: "columns of single records, because totals were asked for",
    ColumnCause.NOT_IN_CATALOG: "columns that are new and cannot be exported yet",
}


def _missing_of(omissions: TableOmissions) -> Iterator[str]:
    name = omissions.table
    deleted = omissions.deleted
    if deleted and not deleted.included and deleted.left_out != RowCount(rows=0):
        yield f"{name}: {_count_in_words(deleted.left_out)} that had been deleted in the application."
    if omissions.window is not None:
        undated = "" if omissions.window.rows_without_time else ", and those without a date"
        yield f"{name}: rows outside the period above{undated}."
    for column, values in omissions.filters.items():
        yield f"{name}: rows in which `{plain(column)}` is anything but {listed_values(values)}."
    by_cause: dict[ColumnCause, list[str]] = {}
    for one in omissions.columns:
        by_cause.setdefault(one.cause, []).append(_named(one))
    for cause, names in by_cause.items():
        yield f"{name}: {_COLUMNS[cause]}: {', '.join(names)}."


def _named(omitted: OmittedColumn | OmittedTable) -> str:
    """With the reason that somebody wrote down."""
    reason = plain(omitted.reason).rstrip(".") if omitted.reason else ""
    return f"`{plain(omitted.name)}`{f' ({reason})' if reason else ''}"


def _count_in_words(count: RowCount) -> str:
    word = {Precision.EXACT: "", Precision.AT_LEAST: "more than ", Precision.ESTIMATE: "about "}[count.precision]
    return f"{word}{counted(count.rows, 'row')}"


def _questions(plan: ExportPlan, catalog: Catalog) -> list[str]:
    people = f"the people who run {catalog.title or catalog.name} for you"
    asked = f"Ask whoever sent you this export, or {people}. Give them the export number `{plan.request_id}`."
    return ["## Questions", "", asked, ""]


def _is_delicate(plan: ExportPlan, catalog: Catalog) -> bool:
    columns = (
        catalog.shape(selection.table, selection.aggregation).columns[name]
        for selection in plan.selections
        for name in selection.columns
    )
    return any(column.classification in _DELICATE and column.mask is None for column in columns)


def _window_in_words(window: Window | None, timezone: str) -> str:
    """``1 March 2024 to 31 May 2024``, both included; with times where it does not begin and end with days."""
    if window is None or window.unbounded:
        return ""
    zone = ZoneInfo(timezone)
    start, end = (at.astimezone(zone) if at else None for at in (window.start_at, window.end_at))
    if all(at is None or at.time() == dt.time() for at in (start, end)):
        if start is None:
            return f"up to {_day_in_words(end - dt.timedelta(days=1))}" if end else ""
        first = _day_in_words(start)
        return f"{first} to {_day_in_words(end - dt.timedelta(days=1))}, both days included" if end else f"from {first}"
    bounds = (("from", start), ("before", end))
    return " ".join(f"{word} {_day_in_words(at)}, {at:%H:%M:%S} ({timezone})" for word, at in bounds if at)


def _instant_in_words(instant: dt.datetime) -> str:
    utc = instant.astimezone(dt.UTC)
    return f"{_day_in_words(utc)}, {utc:%H:%M} UTC"


def _day_in_words(moment: dt.datetime) -> str:
    """Whatever the locale."""
    return f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"


def _cell(text: str) -> str:
    """On one line of a table."""
    return " ".join(text.replace("|", "\\|").split())


# For engineers ------------------------------------------------------------------------------------------------------


def _how_it_was_made(plan: ExportPlan, catalog: Catalog, stage: Stage) -> list[str]:
    return [
        f"Export {plan.request_id} for tenant {plan.scope.tenant_id}, from {catalog.title or catalog.name}.",
        _moment(plan, stage),
        "",
    ]


def _files(files: Sequence[ExportFile]) -> Iterator[str]:
    data = [file for file in files if file.parts]
    yield from ("## Files", "", "| File | Rows | Bytes | Holds |", "|---|---:|---:|---|")
    for file in data if len(data) <= _MOST_LISTED else (data[0], data[-1]):
        held = ", ".join(f"{part.table} ({part.rows:,})" for part in file.parts)
        yield f"| {file.path} | {file.rows:,} | {file.size_bytes:,} | {held} |"
    yield ""
    if len(data) > _MOST_LISTED:
        size = readable_size(sum(file.size_bytes for file in data))
        yield f"These are the first and the last of {len(data):,} files, {size} in all; `manifest.json` lists each."
        yield ""


def _tables(plan: ExportPlan, catalog: Catalog, stage: Stage) -> Iterator[str]:
    yield from ("## Tables", "")
    for selection in plan.selections:
        table = catalog.shape(selection.table, selection.aggregation)
        yield from (f"### {selection.table}", "", table.description or "", "")
        if chosen := narrowing(selection, catalog):
            yield from (f"Holds {chosen}.", "")
        yield from ("What is left out:", "", *_bullets(sentences(stage.omissions.of(selection.table))), "")
        yield from ("Columns:", "")
        for name in selection.columns:
            yield f"- `{name}` ({table.columns[name].type}) {table.columns[name].description or ''}".rstrip()
        yield ""


def _values_and_checks(plan: ExportPlan, stage: Stage) -> list[str]:
    return [
        "## Values",
        "",
        "Instants are UTC. In text files NULL and the empty text differ: see the format's notes in the documentation.",
        "Columns that the format has no exact value for, or of which programs keep fewer digits than the file has, are",
        "listed in `manifest.json`, under `fidelity` of a table.",
        *_blank_lines(plan, stage),
        "",
        "## Check it",
        "",
        "- `sha256sum -c SHA256SUMS` checks every file.",
        "- `export-pipelines verify .` also counts and re-reads every row.",
        "- `manifest.json` says where each row came from and, under `left_out`, what is not here; `datapackage.json`",
        "  describes the files to tools.",
        "",
    ]


def _blank_lines(plan: ExportPlan, stage: Stage) -> list[str]:
    """Of tables with one column, where a row without a value is a line without anything."""
    if plan.format != "csv":
        return []
    found = [(table.table, table.rows - _values(table)) for table in stage.tables if len(table.columns) == 1]
    return [
        f"`{name}` has {blank:,} empty lines, which are rows whose only value is NULL. Ask readers to count them: "
        "pandas with `skip_blank_lines=False`, pyarrow with `ignore_empty_lines=False`."
        for name, blank in found
        if blank
    ]


def _values(table: StagedTable) -> int:
    return sum(table.aggregates.columns[name].non_null for name in table.columns)


def _bullets(lines: Iterable[str]) -> Iterable[str]:
    return (f"- {line}" for line in lines)


def _moment(plan: ExportPlan, stage: Stage) -> str:
    if not stage.parts:
        return f"All tables show the database as it was at {stage.snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC."
    first, last = (find(part.snapshot.taken_at for part in stage.parts) for find in (min, max))
    return (
        f"Tables show the database as it was materialised at or before {plan.point_in_time:%Y-%m-%d %H:%M:%S} UTC, "
        f"each part at its own moment between {first:%Y-%m-%d %H:%M:%S} and {last:%Y-%m-%d %H:%M:%S} UTC: not one "
        "consistent state. `manifest.json` lists every part under `source`."
    )


def _loading(plan: ExportPlan, scripts: MigrationScripts) -> list[str]:
    lines = [
        "## Into another database",
        "",
        "- `export-pipelines restore . --url postgresql://… --keys keys.json` makes the tables, loads and compares.",
    ]
    if plan.format == "csv" and has_load_script(scripts):
        lines.append(
            f"- `psql -X -d database -f {LOAD_FILE}` in this folder does so without this program. It runs whatever the "
            "scripts say: check the signature first, and use a login that is no superuser."
        )
    if scripts.extensions:
        lines.append(f"- The database needs the extensions {', '.join(scripts.extensions)}.")
    lines += [
        f"- {optional.table}: {optional.what} comes with the extensions {', '.join(optional.extensions)} alone."
        for optional in scripts.optional
    ]
    if scripts.left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {f'{left.table}: ' if left.table else ''}{left.what}, {left.reason}" for left in scripts.left_out]
    return [*lines, ""]
