"""One partition of one table into the lake: canonical, unfiltered Parquet, checked before it becomes visible."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from export_pipelines.core.catalog import Catalog, Classification, Grain, Table
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.naming import lake_prefix
from export_pipelines.core.ports import ObjectStore, Snapshot
from export_pipelines.core.windows import period_window
from export_pipelines.pipeline.canonical import write_canonical

PREVIEW_ROWS = 5
_SHOWN = frozenset({Classification.PUBLIC, Classification.INTERNAL})


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """One asset check on one partition."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class LakePartition:
    """A materialised partition, or the reason why it was not replaced."""

    key: str
    rows: int
    size_bytes: int
    outcomes: tuple[CheckOutcome, ...]
    preview: tuple[tuple[str, ...], ...]  # header, then rows; only public and internal columns are shown

    @property
    def valid(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)


class _Silent:
    """Progress nobody watches."""

    def advance(self, *, table: str, rows: int) -> None:
        """Rows of a partition are reported when it is whole."""

    def file_created(self) -> None:
        """A partition is one object; it is reported when it is whole."""


def whole_partition(catalog: Catalog, name: str, period: dt.date | None) -> TableSelection:
    """All rows and columns of a table in one period, soft-deleted ones included."""
    table = catalog.tables[name]
    window = None
    if period is not None:
        start = catalog.history_start
        if table.partition.grain is Grain.MONTH:
            start = start.replace(day=1)
        window = period_window(period, period, grain=table.partition.grain, history_start=start)
    return TableSelection(
        table=name, columns=table.exported_columns, window=window, window_column=table.partition_column
    )


def materialize_partition(
    catalog: Catalog, name: str, scope: TenantScope, period: dt.date | None, snapshot: Snapshot, store: ObjectStore
) -> LakePartition:
    """Write one partition. A partition that fails a check is not put in the place of the one that was there."""
    table = catalog.tables[name]
    selection = whole_partition(catalog, name, period)
    prefix = lake_prefix(catalog.name, name, scope, table.partition.grain, period)
    key, written = f"{prefix}/part-00000.parquet", f"{prefix}/unchecked/part-00000.parquet"
    schema = table.arrow_schema()
    rows = write_canonical(store, written, snapshot.read(selection), schema, table=name, progress=_Silent())
    with store.local(written) as path:
        outcomes = tuple(_check(path, table, schema, scope, selection, snapshot, rows))
        preview = _preview(path, table)
    size = sum(size for _, size in store.list(written))
    if all(outcome.passed for outcome in outcomes):
        store.move(written, key)
    else:
        store.delete(written)
    return LakePartition(key=key, rows=rows, size_bytes=size, outcomes=outcomes, preview=preview)


def check_names(table: Table) -> list[str]:
    """The checks that `materialize_partition` makes for a table."""
    names = ["rows_match_source", "schema_matches_catalog"]
    if table.primary_key and set(table.primary_key) <= set(table.exported_columns):
        names.append("key_is_unique")
    if table.tenant.shared is None:
        names.append("only_this_tenant")
    return names


def _check(
    path: Path,
    table: Table,
    schema: pa.Schema,
    scope: TenantScope,
    selection: TableSelection,
    snapshot: Snapshot,
    rows: int,
) -> Iterator[CheckOutcome]:
    names = check_names(table)
    counted = snapshot.count_by_policy(selection)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE VIEW part AS SELECT * FROM read_parquet($path)".replace("$path", _literal(str(path))))
        found = connection.sql("SELECT count(*) FROM part").fetchone()
        assert found is not None
        yield CheckOutcome(
            name="rows_match_source",
            passed=rows == found[0] == counted,
            detail=f"read {rows}, in the file {found[0]}, in the source by its policies {counted}",
        )
        columns = connection.table("part").columns
        yield CheckOutcome(
            name="schema_matches_catalog", passed=columns == schema.names, detail=f"{len(columns)} columns"
        )
        if "key_is_unique" in names:
            keys = ", ".join(_quoted(name) for name in table.primary_key)
            repeated = connection.sql(
                f"SELECT count(*) FROM (SELECT 1 FROM part GROUP BY {keys} HAVING count(*) > 1)"  # noqa: S608 - quoted
            ).fetchone()
            assert repeated is not None
            yield CheckOutcome(name="key_is_unique", passed=repeated[0] == 0, detail=f"{repeated[0]} repeated keys")
        if "only_this_tenant" in names:
            yield _purity(connection, table, scope, rows, counted)


def _purity(
    connection: duckdb.DuckDBPyConnection, table: Table, scope: TenantScope, rows: int, counted: int
) -> CheckOutcome:
    column = table.tenant.column
    if column is None or column not in table.exported_columns:
        detail = "read by filter and policy, counted by the policy alone"
        return CheckOutcome(name="only_this_tenant", passed=rows == counted, detail=detail)
    foreign = connection.execute(
        f"SELECT count(*) FROM part WHERE {_quoted(column)}::VARCHAR IS DISTINCT FROM $1",  # noqa: S608 - quoted
        [scope.tenant_id],
    ).fetchone()
    assert foreign is not None
    return CheckOutcome(name="only_this_tenant", passed=foreign[0] == 0, detail=f"{foreign[0]} foreign rows")


def _preview(path: Path, table: Table) -> tuple[tuple[str, ...], ...]:
    shown = [name for name in table.exported_columns if table.columns[name].classification in _SHOWN]
    if not shown:
        return ()
    listed = ", ".join(f"left({_quoted(name)}::VARCHAR, 40)" for name in shown)
    with duckdb.connect() as connection:
        rows = connection.sql(
            f"SELECT {listed} FROM read_parquet({_literal(str(path))}) LIMIT {PREVIEW_ROWS}"  # noqa: S608 - quoted
        ).fetchall()
    return (tuple(shown), *(tuple("" if value is None else str(value) for value in row) for row in rows))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
