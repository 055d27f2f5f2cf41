"""Does a manifest state what was left out, and does the statement agree with its rows, filters and columns?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from export_pipelines.core.omissions import ColumnCause, Precision, TableOmissions
from export_pipelines.packaging.manifest_reading import ReadManifest, ReadTable
from export_pipelines.packaging.omissions import read_omissions, read_table_omissions


def check_omissions(manifest: ReadManifest) -> Iterator[str]:
    """What is wrong with the statements of a manifest, in sentences."""
    for table in manifest.tables:
        stated = read_table_omissions(table.left_out)
        if stated is None or stated.table != table.name:
            yield f"{table.name}: the manifest does not state what was left out"
            continue
        for problem in (*_rows(table, stated), *_filters(table, stated), *_columns(table, stated)):
            yield f"{table.name}: left_out: {problem}"
    yield from _beside(manifest)


def _rows(table: ReadTable, stated: TableOmissions) -> Iterator[str]:
    exported, everything, deleted = stated.exported_rows, stated.all_rows, stated.deleted
    if exported.precision is not Precision.EXACT or (deleted and deleted.left_out.precision is not Precision.EXACT):
        yield "rows of an export are counted, not estimated"
    if table.aggregation is None and exported.rows != table.rows:
        yield f"{exported.rows} rows are in the export, which has {table.rows}"
    if table.aggregation is not None and exported.rows < table.rows:
        yield f"{table.rows} rows of figures are of {exported.rows} rows"
    if deleted and deleted.included and deleted.left_out.rows:
        yield f"{deleted.left_out.rows} rows are left out as deleted, and such rows are included"
    matching = exported.rows + (deleted.left_out.rows if deleted else 0)
    if not stated.narrowed and (everything.rows, everything.precision) != (matching, Precision.EXACT):
        yield f"{everything.rows} rows in all are not the {matching} that are in the export or left out as deleted"
    if stated.narrowed and everything.precision is Precision.EXACT and matching > everything.rows:
        yield f"{matching} rows are in the export or left out as deleted, of {everything.rows} in all"


def _filters(table: ReadTable, stated: TableOmissions) -> Iterator[str]:
    filters, window = table.filters, stated.window
    if stated.deleted and stated.deleted.included != filters.include_deleted:
        yield "whether rows marked as deleted are included differs from the filters"
    if not stated.deleted and not filters.include_deleted:
        yield "rows marked as deleted were left out, and how many is not stated"
    bounded = (filters.start is not None, filters.end is not None)
    applied = (window.start is not None, window.end is not None) if window else (False, False)
    if bounded != applied or (window and window.column != filters.time_column):
        yield "the window differs from the filters"
    if dict(stated.filters) != filters.columns:
        yield "the values differ from the filters"


def _columns(table: ReadTable, stated: TableOmissions) -> Iterator[str]:
    present = {column.name for column in table.columns}
    for column in stated.columns:
        if (column.name in present) != (column.cause is ColumnCause.MASKED):
            yield f"column {column.name} is {'' if column.name in present else 'not '}in the files"
    masked = {column.name for column in table.columns if column.masked}
    if masked != {column.name for column in stated.columns if column.cause is ColumnCause.MASKED}:
        yield "other columns are masked than the files have"


def _beside(manifest: ReadManifest) -> Iterator[str]:
    stated = read_omissions(manifest.left_out, ())
    if stated is None:
        yield "the manifest does not state which tables were left out"
        return
    others = {table.name for table in stated.other_tables}
    held: Counter[str] = Counter()
    for part in manifest.source.parts:
        held[part.table] += part.rows
    for table in manifest.tables:
        if table.name in others:
            yield f"{table.name} is stated as left out, and is in the package"
        omitted = read_table_omissions(table.left_out)
        if table.name in held and omitted and held[table.name] != omitted.all_rows.rows:
            yield f"{table.name}: its partitions hold {held[table.name]} rows, {omitted.all_rows.rows} are stated"
