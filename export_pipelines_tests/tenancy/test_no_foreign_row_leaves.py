"""Two tenants in one database, every table, every format: the policy alone and the SQL filter alone each suffice.

What leaves is read back from the finished files and compared with what an administrator sees of the tenant.
"""

from __future__ import annotations

import datetime as dt
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import ExportFile, ExportPlan, Stage, TableSelection, TenantScope
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline import assembly
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.lake.materialize import whole_partition
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.pipeline.verification.data_files import read_part
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines.pipeline.write.heads import table_head
from export_pipelines.samples.loader import load_sample
from export_pipelines.settings import Settings
from export_pipelines.sources import relation
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines_tests.lanes import every_pair
from export_pipelines_tests.workshop import TENANTS, login_url

OURS, THEIRS = TENANTS[:2]
CATALOG = assembly.open_catalog(Settings(EXPORT_HOME=Path("unused")))
DEFENCES = ("policy and filter", "policy alone", "filter alone")
HOSTILE = "'; DROP TABLE clinic.pets; -- \x01\x1f\r\n\t\"=1+1,<a>&\u2028\U0001f9ff"


@pytest.fixture(scope="module")
def sources(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> dict[str, str]:
    """Login URLs of two databases with the same rows: one with its policies, one where they let everything through."""
    urls = {}
    for name in ("guarded", "open"):
        admin_url = database(name)
        load_sample(admin_url, "clinic", tenants=2, rows=1_500)
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute("UPDATE clinic.pets SET name = %s WHERE clinic_id = %s", (HOSTILE, THEIRS))
            connection.execute("UPDATE clinic.clients SET full_name = %s WHERE clinic_id = %s", (HOSTILE, OURS))
            if name == "open":
                open_all_policies(connection)
        urls[name] = login_url(postgres, admin_url, CATALOG.reader_role)
        urls[f"{name} admin"] = admin_url
    return urls


def open_all_policies(connection: psycopg.Connection[Any]) -> None:
    policies = connection.execute(
        "SELECT schemaname, tablename, policyname FROM pg_policies WHERE policyname LIKE 'export_tenant_%'"
    ).fetchall()
    for schema, table, policy in policies:
        if policy != "export_tenant_list":
            statement = sql.SQL("ALTER POLICY {} ON {} USING (true)")
            connection.execute(statement.format(sql.Identifier(policy), sql.Identifier(schema, table)))


def services_on(
    url: str, folder: Path, *, checked: bool, catalog: Catalog = CATALOG, engine: Engine | None = None
) -> ExportServices:
    check = assembly.require_sound if checked else (lambda *_: None)
    source = PostgresSource(
        url, catalog, check_tables=check, report=attest_session, compare=find_unknown, engine=engine
    )
    settings = Settings(EXPORT_HOME=folder, EXPORT_CONTROL_URL=url)  # the control database is never connected to here
    return open_services(settings, catalog=catalog, source=source, store=LocalStore(folder))


def plan_for(format_name: str, tables: list[str] | None = None) -> ExportPlan:
    return ExportPlan(
        request_id="tenancy",
        attempt=1,
        scope=TenantScope(tenant_id=OURS),
        catalog=CATALOG.name,
        export_type="selective",
        name="everything",
        selections=tuple(whole_partition(CATALOG, table, None) for table in tables or CATALOG.tables),
        format=format_name,
        requested_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    )


@pytest.fixture(scope="module")
def exported(sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], dict[str, Any]]:
    """``exported(defence, format)``: keys of the rows that left, by table, and the files' bytes."""

    @cache
    def export(defence: str, format_name: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("tenancy")
        guarded = defence != "filter alone"
        services = services_on(sources["guarded" if guarded else "open"], folder, checked=guarded)
        with pytest.MonkeyPatch.context() as patch:
            if defence == "policy alone":
                patch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
            plan = plan_for(format_name)
            stage = stage_tables(plan, services, Unwatched())
            files = convert_tables(plan, stage, services, Unwatched())
            validate_files(plan, stage, files, services, Unwatched())
        return {"keys": keys_in(stage, files, services, format_name), "bytes": contents(files, folder)}

    return export


def keys_in(
    stage: Stage, files: tuple[ExportFile, ...], services: ExportServices, format_name: str
) -> dict[str, set[Any]]:
    spec = find_format(format_name)
    heads = {table.table: table_head(table, services) for table in stage.tables}
    keys: dict[str, set[Any]] = {}
    for file in files:
        with services.store.local(file.key) as path:
            for part in file.parts:
                wanted = CATALOG.tables[part.table].primary_key
                for batch in read_part(spec, path, heads[part.table], part):
                    columns = [map(str, batch.column(name).to_pylist()) for name in wanted]
                    keys.setdefault(part.table, set()).update(zip(*columns, strict=True))
    return keys


def contents(files: tuple[ExportFile, ...], folder: Path) -> bytes:
    """All bytes that left, workbooks unzipped."""
    found = b""
    for file in files:
        path = folder / file.key
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found += b"".join(archive.read(name) for name in archive.namelist())
        else:
            found += path.read_bytes()
    return found


@cache
def keys_of(admin_url: str, table: str, tenant: str) -> frozenset[Any]:
    """Primary keys of one tenant's rows, by the administrator, through joins written for this test."""
    spec = CATALOG.tables[table]
    joins = {
        "invoice_items": "JOIN clinic.invoices o ON o.id = t.invoice_id",
        "lab_results": "JOIN clinic.medical_records o ON o.id = t.medical_record_id",
    }
    owner = "o" if table in joins else "t"
    column = "id" if table == "clinics" else "clinic_id"
    listed = ", ".join(f't."{name}"::text' for name in spec.primary_key)
    statement = f"SELECT {listed} FROM clinic.{table} t {joins.get(table, '')} WHERE {owner}.{column} = %s"
    with psycopg.connect(admin_url) as connection:
        return frozenset(connection.execute(statement.encode(), (tenant,)).fetchall())


# Whichever defence is left, rows come the same way into all formats: each format is met once, each defence with CSV.
each_way_out = pytest.mark.parametrize(
    ("format_name", "defence"), every_pair(list(all_formats()), DEFENCES, base="csv")
)


@each_way_out
@pytest.mark.parametrize("table", list(CATALOG.tables))
def test_exactly_the_tenants_rows_leave(
    exported: Callable[[str, str], dict[str, Any]], sources: dict[str, str], defence: str, format_name: str, table: str
) -> None:
    ours, theirs = (keys_of(sources["guarded admin"], table, tenant) for tenant in (OURS, THEIRS))
    assert ours
    assert theirs
    assert exported(defence, format_name)["keys"][table] == ours


@pytest.mark.parametrize("defence", DEFENCES)
def test_whichever_way_rows_are_read_only_the_tenants_arrive(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defence: str, engine: Engine
) -> None:
    guarded = defence != "filter alone"
    if defence == "policy alone":
        monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    services = services_on(sources["guarded" if guarded else "open"], tmp_path, checked=guarded, engine=engine)
    with services.source.snapshot(TenantScope(tenant_id=OURS)) as snapshot:
        for table, spec in CATALOG.tables.items():
            rows = [row for batch in snapshot.read(whole_partition(CATALOG, table, None)) for row in batch.to_pylist()]
            keys = {tuple(str(row[name]) for name in spec.primary_key) for row in rows}
            assert keys == keys_of(sources["guarded admin"], table, OURS), table


@each_way_out
def test_the_other_tenants_id_is_nowhere_in_the_bytes(
    exported: Callable[[str, str], dict[str, Any]], defence: str, format_name: str
) -> None:
    found = exported(defence, format_name)["bytes"]
    assert THEIRS.encode() not in found
    if format_name != "parquet":  # whose pages are compressed
        assert OURS.encode() in found


@pytest.mark.parametrize("table", ["invoice_items", "lab_results"])
def test_without_both_defences_foreign_rows_would_leave(
    sources: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The tests above can fail: this is what they would see."""
    monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    services = services_on(sources["open"], tmp_path, checked=False)
    plan = plan_for("csv", [table])
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    theirs = keys_of(sources["open admin"], table, THEIRS)
    assert theirs <= keys_in(stage, files, services, "csv")[table]


@pytest.mark.parametrize("columns", [None, ("id", "name")])
def test_without_both_defences_the_last_guard_stops_tables_with_a_tenant_column(
    sources: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    columns: tuple[str, ...] | None,
    engine: Engine,
) -> None:
    """Also where the tenant's column is not among the exported ones."""
    monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    services = services_on(sources["open"], tmp_path, checked=False, engine=engine)
    plan = plan_for("csv", ["pets"])
    if columns:
        plan = replace(plan, selections=(replace(plan.selections[0], columns=columns),))
    with pytest.raises(IntegrityViolation, match="rows of another tenant arrived"):
        stage_tables(plan, services, Unwatched())
    assert services.store.list("") == []


def test_open_policies_are_refused_before_anything_is_read(sources: dict[str, str], tmp_path: Path) -> None:
    services = services_on(sources["open"], tmp_path, checked=True)
    with pytest.raises(RequestRejected, match="lets rows through without looking at"):
        stage_tables(plan_for("csv", ["pets"]), services, Unwatched())
    assert services.store.list("") == []


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "%",
        "*",
        "' OR '1'='1",
        f"{OURS}' OR clinic_id = '{THEIRS}",
        f"{OURS},{THEIRS}",
        f"{OURS}\x00",
        f" {OURS}",
        OURS.replace("4000", "4000".upper()) + " ",
        "../../" + THEIRS,
    ],
)
def test_a_hostile_tenant_id_reads_nothing(sources: dict[str, str], tmp_path: Path, tenant: str) -> None:
    services = services_on(sources["guarded"], tmp_path, checked=True)
    with pytest.raises(RequestRejected, match="tenant_id"), services.source.snapshot(TenantScope(tenant_id=tenant)):
        pass


def test_the_snapshot_keeps_its_tenant_whatever_the_selection_asks(sources: dict[str, str], tmp_path: Path) -> None:
    services = services_on(sources["guarded"], tmp_path, checked=True)
    selection = TableSelection(table="clinics", columns=CATALOG.tables["clinics"].exported_columns)
    with services.source.snapshot(TenantScope(tenant_id=OURS)) as snapshot:
        rows = [row for batch in snapshot.read(selection) for row in batch.to_pylist()]
    assert [row["id"] for row in rows] == [OURS]


def test_the_login_itself_sees_nothing(sources: dict[str, str]) -> None:
    """NOINHERIT: without becoming the reader role there is nothing to read."""
    with psycopg.connect(sources["guarded"]) as connection:
        for table in CATALOG.tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(f"SELECT 1 FROM clinic.{table}".encode())
