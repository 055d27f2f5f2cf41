"""What a partition's file is asked before it may enter the lake, by another library than the one that wrote it."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from export_pipelines.core.catalog import Classification, Table
from export_pipelines.core.model import TenantScope

PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 40
ROWS, SCHEMA, KEY, TENANT = "rows_match_source", "schema_matches_catalog", "key_is_unique", "only_this_tenant"
_PART = "read_parquet($1, hive_partitioning = false)"  # a folder ``a=1`` is no column of ours
_SHOWN = frozenset({Classification.PUBLIC, Classification.INTERNAL})
_MEMORY_LIMIT = "256MB"  # the key check spills to disk beyond


@dataclass(frozen=True, kw_only=True)
class CheckOutcome:
    """One asset check on one partition."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many rows a partition has, by those who should know."""

    read: int  # sent by the source
    by_policy: int  # counted in the source without the SQL filter


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The first rows, for people; only public and internal columns are shown."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def check_names(table: Table) -> list[str]:
    """The checks that every partition of a table goes through."""
    names = [ROWS, SCHEMA]
    if table.primary_key and set(table.primary_key) <= set(table.exported_columns):
        names.append(KEY)
    if table.tenant.shared is None:
        names.append(TENANT)
    return names


@contextmanager
def inspecting(scratch: Path) -> Iterator[Inspector]:
    """An inspector for many files; opening one costs more than a small partition."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY_LIMIT,
        "temp_directory": str(scratch),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=config) as session:
        session.execute("SET TimeZone = 'UTC'")
        yield Inspector(session)


class Inspector:
    """Reads partitions back."""

    def __init__(self, session: duckdb.DuckDBPyConnection) -> None:
        self._session = session
        self._known: tuple[pa.Schema, list[tuple[str, str]]] | None = None

    def check(
        self,
        path: Path,
        table: Table,
        scope: TenantScope,
        counts: Counts,
        spellings: Collection[str] = (),
    ) -> tuple[CheckOutcome, ...]:
        """One outcome for each of `check_names`, in that order.

        ``spellings`` are other texts that are the tenant's id to the source, as ``ACME`` is ``acme`` to citext.
        """
        names = check_names(table)
        outcomes = [self._schema(path, table.arrow_schema())]
        if not outcomes[0].passed:  # nothing else can be asked of columns that are not there
            skipped = (name for name in names if name != SCHEMA)
            return (*outcomes, *(CheckOutcome(name=name, passed=False, detail="not readable") for name in skipped))
        found, repeated, foreign = self._count(path, table, names, [scope.tenant_id, *spellings])
        outcomes.insert(
            0,
            CheckOutcome(
                name=ROWS,
                passed=counts.read == found == counts.by_policy,
                detail=f"read {counts.read}, in the file {found}, in the source by its policies {counts.by_policy}",
            ),
        )
        if KEY in names:
            outcomes.append(CheckOutcome(name=KEY, passed=repeated == 0, detail=f"{repeated} repeated keys"))
        if TENANT in names:
            outcomes.append(_purity(table, foreign, counts))
        return tuple(outcomes)

    def _schema(self, path: Path, schema: pa.Schema) -> CheckOutcome:
        expected = self._expected(schema)
        found = self._session.execute(f"SELECT * FROM {_PART} LIMIT 0", [_exact(path)]).description  # noqa: S608 - a constant
        assert found is not None
        stored = [(name, str(kind)) for name, kind, *_ in found]
        wrong = sorted({name for name, _ in {*expected} ^ {*stored}})
        detail = f"other than the catalog says: {', '.join(wrong)}" if wrong else f"{len(stored)} columns"
        return CheckOutcome(name=SCHEMA, passed=stored == expected, detail=detail)

    def _expected(self, schema: pa.Schema) -> list[tuple[str, str]]:
        """Names and types as this library would have them, worked out once for all partitions of a table."""
        if self._known is None or not self._known[0].equals(schema):
            wanted = self._session.from_arrow(schema.empty_table())
            self._known = (schema, list(zip(wanted.columns, map(str, wanted.types), strict=True)))
        return self._known[1]

    def _count(self, path: Path, table: Table, names: list[str], owners: list[str]) -> tuple[int, int, int]:
        """Rows, keys that more than one row has, and rows of other tenants."""
        repeated, foreign = "0", "0"
        columns = ", ".join(_position(table, name) for name in table.exported_columns)
        if KEY in names:
            keys = ", ".join(_position(table, name) for name in table.primary_key)
            repeated = f"(SELECT count(*) FROM (SELECT 1 FROM part GROUP BY {keys} HAVING count(*) > 1))"  # noqa: S608
        if (column := _visible_tenant(table)) is not None:
            owner, unset = f"{_position(table, column)}::VARCHAR", "true" if table.tenant.null_is_shared else "false"
            if table.form_of(column).padded:  # blanks at its end say nothing of whose a row is
                owner = f"rtrim({owner}, ' ')"
            foreign = f"count(*) FILTER (WHERE NOT coalesce(list_contains($2::VARCHAR[], {owner}), {unset}))"
        # $2 is selected so that it is bound also where nothing compares with it.
        row = self._session.execute(
            f"WITH part({columns}) AS (SELECT * FROM {_PART}) "  # noqa: S608 - positions only
            f"SELECT count(*), {repeated}, {foreign}, $2 FROM part",
            [_exact(path), owners],
        ).fetchone()
        assert row is not None
        return row[0], row[1], row[2]


def preview_of(path: Path, table: Table) -> Preview:
    """A few rows as text, cut short."""
    shown = [name for name in table.exported_columns if table.columns[name].classification in _SHOWN]
    if not shown:
        return Preview()
    with pq.ParquetFile(path) as file:
        first = next(file.iter_batches(batch_size=PREVIEW_ROWS, columns=shown, use_threads=False), None)
    rows = [] if first is None else zip(*(column.to_pylist() for column in first.select(shown).columns), strict=True)
    return Preview(columns=tuple(shown), rows=tuple(tuple(map(_short, row)) for row in rows))


def _short(value: object) -> str:
    return "" if value is None else str(value)[:PREVIEW_CHARACTERS]


def _visible_tenant(table: Table) -> str | None:
    """The tenant's column, where the file has it with its values."""
    column = table.tenant.column
    if column is None or column not in table.exported_columns or table.columns[column].mask is not None:
        return None
    return column


def _purity(table: Table, foreign: int, counts: Counts) -> CheckOutcome:
    if _visible_tenant(table) is not None:
        return CheckOutcome(name=TENANT, passed=foreign == 0, detail=f"{foreign} foreign rows")
    detail = "read by filter and policy, counted by the policy alone"
    return CheckOutcome(name=TENANT, passed=counts.read == counts.by_policy, detail=detail)


def _position(table: Table, name: str) -> str:
    """A column by its place: DuckDB takes names that differ only in case for one."""
    return f"c{table.exported_columns.index(name)}"


def _exact(path: Path) -> str:
    """This one file, whatever its folders are called."""
    return glob.escape(str(path))
