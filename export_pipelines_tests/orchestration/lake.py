"""What tests of the lake share: the workshop's table assets, and two ways to the same rows that have nothing in common.

The source is asked by its administrator with psycopg, the lake by DuckDB.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from dagster import AssetKey, ExecuteInProcessResult, MultiPartitionKey
from psycopg import sql

from export_pipelines.core.catalog import Catalog, Table
from export_pipelines.core.types import Kind
from export_pipelines.orchestration.jobs import materialize_job_name
from export_pipelines.orchestration.partitions import BUCKET, PERIOD, TENANT, tenant_partitions_name
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

_GENERATION = re.compile(r"snapshot=[0-9T]{15}\.[0-9]{6}Z/")
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def partition(tenant: str, period: dt.date | None = None) -> str:
    return tenant if period is None else MultiPartitionKey({PERIOD: period.isoformat(), TENANT: tenant})


def bucket_partition(bucket: str, period: dt.date | None = None) -> str:
    return bucket if period is None else MultiPartitionKey({PERIOD: period.isoformat(), BUCKET: bucket})


@dataclass(frozen=True, kw_only=True)
class Lake:
    """A workshop whose tenants are known to Dagster, and the administrator's URL of its source."""

    workshop: Workshop
    admin_url: str

    def __post_init__(self) -> None:
        name = tenant_partitions_name(self.catalog)
        self.workshop.instance.add_dynamic_partitions(name, list(TENANTS))

    @property
    def catalog(self) -> Catalog:
        return self.workshop.catalog

    def materialize(
        self, table: str, first: str, last: str | None = None, *, only_missing: bool = False
    ) -> ExecuteInProcessResult:
        """One run over a partition, or over all from ``first`` to ``last`` in each dimension."""
        config = {"ops": {f"{self.catalog.name}__{table}": {"config": {"only_missing": only_missing}}}}
        name = materialize_job_name(self.catalog.tables[table].partition.grain)
        job = self.workshop.definitions.resolve_job_def(name)
        one_or_many: dict[str, Any] = {"partition_key": first}
        if last is not None:
            one_or_many = {"tags": {RANGE_START: first, RANGE_END: last}}
        return job.execute_in_process(
            instance=self.workshop.instance,
            asset_selection=[AssetKey([self.catalog.name, table])],
            run_config=QUIET | config,
            raise_on_error=False,
            **one_or_many,
        )

    def files(self) -> dict[str, bytes]:
        """Everything in the object store, unfinished writes included."""
        objects = self.workshop.objects
        found = (path for path in objects.rglob("*") if path.is_file())
        return {path.relative_to(objects).as_posix(): path.read_bytes() for path in found}

    def partitions(self) -> set[str]:
        """Every object, without the folder that names the snapshot which a partition's part was read from."""
        return set(map(without_snapshot, self.files()))

    def folder(self, table: str, tenant: str = TENANTS[0], period: str | None = None) -> Path:
        """Of a tenant's partitions, or of one: ``month=2024-03``."""
        folder = self.workshop.objects / "lake" / self.catalog.name / table / f"tenant={tenant}"
        return folder / period if period else folder

    def stored(self, table: str, folder: Path) -> list[str]:
        """All rows below a folder, of the newest snapshot of each partition, each as text, sorted."""
        described = self.catalog.tables[table]
        columns = ", ".join(_in_file(described, name) for name in described.exported_columns)
        with duckdb.connect() as session:
            rows = session.execute(f"SELECT {columns} FROM read_parquet($1)", [_newest(folder)]).fetchall()
        return sorted(map(repr, rows))

    def source(self, table: str, tenant: str = TENANTS[0], condition: str = "TRUE") -> list[str]:
        """The same rows by the administrator, to whom no policy applies. ``r`` is the table in ``condition``."""
        described = self.catalog.tables[table]
        columns = [_in_source(described, name) for name in described.exported_columns]
        query = sql.SQL("SELECT {} FROM {} r WHERE {} AND {}").format(
            sql.SQL(", ").join(columns),
            sql.Identifier(*self.catalog.relation_name(table)),
            sql.SQL(OWNED.get(table, "r.clinic_id = {tenant}")).format(tenant=sql.Literal(tenant)),
            sql.SQL(condition),
        )
        with psycopg.connect(self.admin_url) as connection:
            return sorted(map(repr, connection.execute(query).fetchall()))


OpenLake = Callable[..., Lake]
Tables = dict[str, dict[str, Any]]  # changes to tables of the catalog


def changed(catalog: Catalog, tables: Tables, **changes: Any) -> Catalog:
    merged = {name: table.model_copy(update=tables.get(name, {})) for name, table in catalog.tables.items()}
    return catalog.model_copy(update={"tables": merged, **changes})


def administer(source: ClinicSource | Lake, statement: str) -> None:
    with psycopg.connect(source.admin_url, autocommit=True) as connection:
        connection.execute(statement.encode())


OWNED = {
    "clinics": "r.id = {tenant}",
    "invoice_items": "r.invoice_id IN (SELECT id FROM clinic.invoices WHERE clinic_id = {tenant})",
    "lab_results": "r.medical_record_id IN (SELECT id FROM clinic.medical_records WHERE clinic_id = {tenant})",
}


def without_snapshot(path: str) -> str:
    """A part's path as its partition alone would have it."""
    return _GENERATION.sub("", path)


def _newest(folder: Path) -> list[str]:
    """The current part of every partition below a folder: names of snapshots sort as time does."""
    found = sorted(folder.rglob("*.parquet"))
    return [str(path) for path in {without_snapshot(str(path)): path for path in found}.values()]


def _in_file(table: Table, name: str) -> str:
    instant = table.columns[name].travels_as.kind in (Kind.INSTANT, Kind.TIMESTAMP)
    return f'epoch_us("{name}")' if instant else f'"{name}"'


def _in_source(table: Table, name: str) -> sql.Composable:
    """Instants as microseconds, arrays as JSON, and what Arrow has no type for as PostgreSQL prints it."""
    column = table.columns[name]
    value: sql.Composable = sql.Identifier("r", name)
    if column.mask is not None:
        return sql.SQL("NULL")
    if column.travels_as.kind in (Kind.INSTANT, Kind.TIMESTAMP):
        return sql.SQL("(extract(epoch FROM {}) * 1000000)::bigint").format(value)
    if column.type.endswith("[]"):
        return sql.SQL("to_json({})::text").format(value)
    if column.travels_as.kind in (Kind.TEXT, Kind.NUMERIC, Kind.JSON):
        return sql.SQL("{}::text").format(value)
    if column.travels_as.kind is Kind.FLOAT:  # a real, printed short, is another number than the real itself
        return sql.SQL("{}::float8").format(value)
    return value
