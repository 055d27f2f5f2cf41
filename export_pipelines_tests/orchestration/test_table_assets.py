"""Table assets on real databases: what is in a partition, who checks it, and what is left when something fails."""

from __future__ import annotations

import datetime as dt
import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from dagster import AssetCheckKey, AssetKey, DagsterRunStatus, MetadataValue, MultiPartitionKey
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.test_utils import create_run_for_test
from psycopg import sql

from export_pipelines.core.catalog import Grain, Partition
from export_pipelines.core.errors import IntegrityViolation, Unavailable
from export_pipelines.core.model import TenantScope
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.orchestration import assets
from export_pipelines.pipeline.lake.materialize import sweep_lake_stage
from export_pipelines.pipeline.lake.partition_checks import KEY, PREVIEW_ROWS, ROWS, TENANT, Inspector, check_names
from export_pipelines.sources import relation
from export_pipelines.sources.engines import choose_engine
from export_pipelines.sources.postgres import PostgresSnapshot, PostgresSource
from export_pipelines_tests.orchestration.lake import OWNED, Lake, OpenLake, Tables, administer, partition
from export_pipelines_tests.workshop import TENANTS, ClinicSource

OURS = TENANTS[0]
MARCH, APRIL, MAY = (dt.date(2024, month, 1) for month in (3, 4, 5))
TODAY = dt.datetime.now(dt.UTC).date()
IN_MARCH = "r.created_at >= '2024-03-01Z' AND r.created_at < '2024-04-01Z'"


def a_day_with_rows(source: ClinicSource, table: str) -> dt.date:
    """The last one of our tenant."""
    owned = sql.SQL(OWNED.get(table, "r.clinic_id = {tenant}")).format(tenant=sql.Literal(OURS))
    last = sql.SQL("SELECT max(r.created_at AT TIME ZONE 'UTC')::date FROM clinic.{} r WHERE {}")
    with psycopg.connect(source.admin_url) as connection:
        found = connection.execute(last.format(sql.Identifier(table), owned)).fetchone()
    assert found is not None
    return found[0]


def losing_rows_of(monkeypatch: pytest.MonkeyPatch, reader: int) -> None:
    """The n-th table that is read loses the first row of each batch on its way from the wire."""
    rows_reader: Any = choose_engine().open
    whole, calls = rows_reader.read, itertools.count(1)

    def losing(*arguments: Any) -> Iterator[pa.RecordBatch]:
        lost = 1 if next(calls) == reader else 0
        for batch in whole(*arguments):
            yield batch.slice(lost)

    monkeypatch.setattr(rows_reader, "read", losing)


# What a partition holds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table", ["clients", "pets", "medical_records", "lab_results", "prescriptions", "appointments", "inventory",
              "invoices", "invoice_items"],
)  # fmt: skip
def test_a_month_holds_exactly_the_rows_of_its_tenant_and_month(lake: Lake, clinic: ClinicSource, table: str) -> None:
    month = a_day_with_rows(clinic, table).replace(day=1)
    assert lake.materialize(table, partition(OURS, month)).success
    stored = lake.stored(table, lake.folder(table, period=f"month={month:%Y-%m}"))
    in_that_month = f"date_trunc('month', r.created_at AT TIME ZONE 'UTC') = '{month}'"
    assert stored == lake.source(table, condition=in_that_month) != []


def test_a_day_holds_exactly_the_rows_of_its_tenant_and_day(lake: Lake, clinic: ClinicSource) -> None:
    day = a_day_with_rows(clinic, "payments")
    assert lake.materialize("payments", partition(OURS, day)).success
    on_that_day = f"(r.created_at AT TIME ZONE 'UTC')::date = '{day}'"
    stored = lake.stored("payments", lake.folder("payments", period=f"day={day}"))
    assert stored == lake.source("payments", condition=on_that_day) != []


@pytest.mark.parametrize("table", ["clinics", "profiles", "products"])
def test_a_table_without_time_is_one_partition_a_tenant(lake: Lake, table: str) -> None:
    assert lake.materialize(table, partition(OURS)).success
    assert lake.partitions() == {f"lake/clinic/{table}/tenant={OURS}/part-00000.parquet"}
    assert lake.stored(table, lake.folder(table)) == lake.source(table) != []


def test_soft_deleted_rows_are_in_the_lake(open_lake: OpenLake, spare: ClinicSource) -> None:
    administer(spare, "UPDATE clinic.pets r SET deleted_at = now() WHERE " + IN_MARCH)
    lake = open_lake(spare)
    lake.materialize("pets", partition(OURS, MARCH))
    stored = lake.stored("pets", lake.folder("pets"))
    assert stored == lake.source("pets", condition=IN_MARCH + " AND r.deleted_at IS NOT NULL") != []


def test_a_period_without_rows_is_an_empty_file_of_the_same_schema(open_lake: OpenLake) -> None:
    lake = open_lake(history_start=dt.date(1999, 1, 1))
    result = lake.materialize("pets", partition(OURS, dt.date(1999, 7, 1)))
    assert result.success
    assert lake.stored("pets", lake.folder("pets", period="month=1999-07")) == []
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/partition_row_count"] == MetadataValue.int(0)


CUTS: dict[str, tuple[Tables, dt.date, str]] = {
    "months, most rows older than history": ({}, TODAY - dt.timedelta(days=200), "UTC"),
    "months of a column that is mostly NULL": (
        {"pets": {"partition": Partition(grain=Grain.MONTH, column="deleted_at")}}, dt.date(2024, 1, 1), "UTC",
    ),
    "months of a date, in a zone east of UTC": (
        {"pets": {"partition": Partition(grain=Grain.MONTH, column="born_on")}}, dt.date(2022, 1, 1), "Asia/Kolkata",
    ),
    "days in a zone with summer time": (
        {"pets": {"partition": Partition(grain=Grain.DAY)}}, TODAY - dt.timedelta(days=40), "America/New_York",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cut", list(CUTS))
def test_all_partitions_of_a_tenant_together_are_its_whole_table(open_lake: OpenLake, cut: str) -> None:
    tables, start, timezone = CUTS[cut]
    lake = open_lake(tables=tables, history_start=start, timezone=timezone)
    grain = lake.catalog.tables["pets"].partition.grain
    first = start if grain is Grain.DAY else start.replace(day=1)
    yesterday = TODAY - dt.timedelta(days=1)  # a day that has begun in every zone
    last = yesterday if grain is Grain.DAY else yesterday.replace(day=1)
    result = lake.materialize("pets", partition(OURS, first), partition(OURS, last))
    assert result.success
    assert lake.stored("pets", lake.folder("pets")) == lake.source("pets")
    assert len(result.get_asset_materialization_events()) == len(lake.files()) > 5


def test_a_month_begins_at_midnight_of_the_catalogs_zone(open_lake: OpenLake, spare: ClinicSource) -> None:
    administer(spare, f"UPDATE clinic.pets SET created_at = '2024-03-01 04:59:59Z' WHERE clinic_id = '{OURS}'")
    lake = open_lake(spare, timezone="America/New_York")
    lake.materialize("pets", partition(OURS, dt.date(2024, 2, 1)), partition(OURS, MARCH))
    assert lake.stored("pets", lake.folder("pets", period="month=2024-02")) == lake.source("pets")
    assert lake.stored("pets", lake.folder("pets", period="month=2024-03")) == []


# Ranges -----------------------------------------------------------------------------------------------------------


def test_one_run_over_months_and_tenants_takes_one_snapshot_a_tenant(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    snapshot = PostgresSource.snapshot

    def counted(source: PostgresSource, scope: TenantScope) -> AbstractContextManager[PostgresSnapshot]:
        taken.append(scope.tenant_id)
        return snapshot(source, scope)

    monkeypatch.setattr(PostgresSource, "snapshot", counted)
    result = lake.materialize("pets", partition(TENANTS[0], MARCH), partition(TENANTS[2], MAY))
    assert result.success
    assert taken == list(TENANTS)
    wanted = {partition(tenant, month) for tenant in TENANTS for month in (MARCH, APRIL, MAY)}
    assert {event.partition for event in result.get_asset_materialization_events()} == wanted
    assert lake.partitions() == {
        f"lake/clinic/pets/tenant={tenant}/month=2024-0{month}/part-00000.parquet"
        for tenant in TENANTS
        for month in (3, 4, 5)
    }
    for tenant in TENANTS:
        rows = lake.source("pets", tenant, "r.created_at >= '2024-03-01Z' AND r.created_at < '2024-06-01Z'")
        assert lake.stored("pets", lake.folder("pets", tenant)) == rows


# Metadata and checks ----------------------------------------------------------------------------------------------


def test_each_partition_tells_its_own_rows_and_bytes(lake: Lake) -> None:
    result = lake.materialize("invoices", partition(OURS, MARCH), partition(OURS, MAY))
    for event in result.get_asset_materialization_events():
        metadata, key = event.materialization.metadata, event.partition
        assert isinstance(key, MultiPartitionKey)
        folder = lake.folder("invoices", period=f"month={key.keys_by_dimension['period'][:7]}")
        assert metadata["dagster/partition_row_count"].value == len(lake.stored("invoices", folder)) > 0
        (part,) = folder.glob("snapshot=*/part-00000.parquet")
        assert metadata["size_bytes"].value == part.stat().st_size
        assert lake.workshop.objects / str(metadata["object"].value) == part


def test_the_column_schema_is_the_catalogs(lake: Lake) -> None:
    spec = lake.workshop.definitions.resolve_asset_graph().get(AssetKey(["clinic", "clients"]))
    schema = spec.metadata["dagster/column_schema"]
    clients = lake.catalog.tables["clients"]
    assert [column.name for column in schema.columns] == list(clients.exported_columns)
    assert {column.name: column.type for column in schema.columns}["balance"] == "numeric(12,2)"
    assert {column.name: column.tags for column in schema.columns}["email"] == {"classification": "personal"}


def test_the_preview_shows_rows_but_nothing_personal_or_sensitive(lake: Lake, clinic: ClinicSource) -> None:
    """No event of the run holds such a value anywhere, whatever the metadata is called."""
    result = lake.materialize("clients", partition(OURS, dt.date(2023, 1, 1)), partition(OURS, MAY))
    previews = [event.materialization.metadata["preview"] for event in result.get_asset_materialization_events()]
    assert max(len(preview.records) for preview in previews) <= PREVIEW_ROWS
    assert {name for preview in previews for record in preview.records for name in record.data} == {
        "created_at",
        "updated_at",
        "deleted_at",
    }
    secret = [
        name
        for name, column in lake.catalog.tables["clients"].columns.items()
        if column.classification not in {"public", "internal"}
    ]
    events = "\n".join(map(str, lake.workshop.instance.all_logs(result.run_id)))
    with psycopg.connect(clinic.admin_url) as connection:
        columns = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in secret)
        query = sql.SQL("SELECT {} FROM clinic.clients WHERE clinic_id <> id").format(columns)
        values = {value for row in connection.execute(query) for value in row if value and len(value) > 6}
    assert len(values) > 100
    assert {value for value in values if value in events} == set(TENANTS) & {OURS}


def test_every_check_is_recorded_and_passes(lake: Lake) -> None:
    result = lake.materialize("pets", partition(OURS, MARCH), partition(OURS, MAY))
    found = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert list(found) == check_names(lake.catalog.tables["pets"])
    assert all(check.passed and check.metadata["partitions"].value == 3 for check in found.values())
    storage = lake.workshop.instance.event_log_storage
    keys = [AssetCheckKey(AssetKey(["clinic", "pets"]), name) for name in found]
    records = storage.get_latest_asset_check_execution_by_key(keys)
    assert {record.status for record in records.values()} == {AssetCheckExecutionRecordStatus.SUCCEEDED}
    assert len(records) == 4


def test_checks_come_after_the_materializations_they_are_about(lake: Lake) -> None:
    """The other way round, runs side by side leave checks that Dagster shows as not evaluated."""
    for last in (None, partition(OURS, MAY)):
        result = lake.materialize("pets", partition(OURS, MARCH), last)
        kinds = [event.event_type_value for event in result.all_events]
        assert max(at for at, kind in enumerate(kinds) if kind == "ASSET_MATERIALIZATION") < kinds.index(
            "ASSET_CHECK_EVALUATION"
        )


# Failures ---------------------------------------------------------------------------------------------------------


def assert_refused(lake: Lake, before: dict[str, bytes], failing: str) -> None:
    """The run failed by that check alone, and the whole store is as before."""
    result = lake.materialize("pets", partition(OURS, MARCH))
    assert not result.success
    assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} == {failing}
    assert result.get_asset_materialization_events() == []
    assert before
    assert lake.files() == before


def test_a_repeated_key_leaves_the_former_partition_in_place(
    open_lake: OpenLake, spare: ClinicSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalog says that a pet is known by its tenant, and nothing has compared the catalog with the database."""
    administer(spare, f"UPDATE clinic.pets SET created_at = '2030-01-01' WHERE clinic_id = '{OURS}'")
    lake = open_lake(spare, tables={"pets": {"primary_key": ("clinic_id",)}})
    monkeypatch.setattr(PostgresSnapshot, "require_sound", lambda *_: None)
    assert lake.materialize("pets", partition(OURS, MARCH)).success
    administer(spare, f"UPDATE clinic.pets SET created_at = '2024-03-05' WHERE clinic_id = '{OURS}'")
    assert_refused(lake, lake.files(), KEY)


def test_rows_lost_on_the_way_leave_the_former_partition_in_place(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lake.materialize("pets", partition(OURS, MARCH)).success
    losing_rows_of(monkeypatch, reader=1)
    assert_refused(lake, lake.files(), ROWS)


def test_a_policy_dropped_while_rows_are_read_leaves_the_former_partition_in_place(
    open_lake: OpenLake, spare: ClinicSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(spare)
    assert lake.materialize("pets", partition(OURS, MARCH)).success
    proved, calls = PostgresSnapshot.require_sound, itertools.count(1)

    def then_dropped(snapshot: PostgresSnapshot, tables: Any) -> None:
        proved(snapshot, tables)
        if next(calls) == 1:  # later, what has been read is locked, and the statement would wait for the run
            administer(spare, "ALTER TABLE clinic.pets DISABLE ROW LEVEL SECURITY")

    monkeypatch.setattr(PostgresSnapshot, "require_sound", then_dropped)
    assert_refused(lake, lake.files(), ROWS)


def test_a_table_that_lost_its_policy_is_refused(open_lake: OpenLake, spare: ClinicSource) -> None:
    administer(spare, "ALTER TABLE clinic.pets DISABLE ROW LEVEL SECURITY")
    lake = open_lake(spare)
    result = lake.materialize("pets", partition(OURS, MARCH))
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "row-level security is not enabled" in str(failure.step_failure_data.user_failure_data)
    assert lake.files() == {}


def test_a_partition_that_fails_does_not_hide_the_others_of_its_run(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three months are in the lake; Dagster knows of those two."""
    losing_rows_of(monkeypatch, reader=2)
    result = lake.materialize("invoices", partition(OURS, MARCH), partition(OURS, MAY))
    assert not result.success
    assert lake.partitions() == {
        f"lake/clinic/invoices/tenant={OURS}/month=2024-0{month}/part-00000.parquet" for month in (3, 5)
    }
    known = lake.workshop.instance.get_materialized_partitions(AssetKey(["clinic", "invoices"]))
    assert known == {partition(OURS, MARCH), partition(OURS, MAY)}
    (rows, *_) = result.get_asset_check_evaluations()
    assert (rows.passed, rows.metadata["failed"].value, rows.metadata["partitions"].value) == (False, 1, 3)


def test_a_second_run_is_the_partition_from_then_on_and_the_first_its_past(
    open_lake: OpenLake, spare: ClinicSource
) -> None:
    lake = open_lake(spare)
    lake.materialize("pets", partition(OURS, MARCH))
    (path,) = lake.files()
    administer(spare, "UPDATE clinic.pets r SET created_at = '2024-04-05' WHERE " + IN_MARCH)
    assert lake.stored("pets", lake.folder("pets"))
    assert lake.materialize("pets", partition(OURS, MARCH)).success
    assert lake.partitions() == {f"lake/clinic/pets/tenant={OURS}/month=2024-03/part-00000.parquet"}
    assert min(lake.files()) == path
    assert len(lake.files()) == 2
    assert lake.stored("pets", lake.folder("pets")) == []


def test_an_error_in_the_middle_keeps_what_was_done_and_nothing_half_done(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows_reader: Any = choose_engine().open
    whole, calls = rows_reader.read, itertools.count(1)

    def breaking(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in whole(*arguments):
            yield batch
            if next(calls) == 3:
                raise IntegrityViolation("broken off in the third partition, after its first batch")

    monkeypatch.setattr(rows_reader, "read", breaking)
    result = lake.materialize("invoices", partition(OURS, MARCH), partition(OURS, MAY))
    assert not result.success
    assert lake.partitions() == {
        f"lake/clinic/invoices/tenant={OURS}/month=2024-0{month}/part-00000.parquet" for month in (3, 4)
    }
    assert not (lake.workshop.objects / "stage").exists()
    known = lake.workshop.instance.get_materialized_partitions(AssetKey(["clinic", "invoices"]))
    assert known == {partition(OURS, MARCH), partition(OURS, APRIL)}


def test_a_connection_that_is_cut_is_tried_again(
    lake: Lake, clinic: ClinicSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "RETRY_SECONDS", 0)
    proved, calls = PostgresSnapshot.require_sound, itertools.count(1)

    def then_cut(snapshot: PostgresSnapshot, tables: Any) -> None:
        proved(snapshot, tables)
        if next(calls) == 1:
            administer(clinic, f"SELECT pg_terminate_backend({snapshot._connection.info.backend_pid})")

    monkeypatch.setattr(PostgresSnapshot, "require_sound", then_cut)
    result = lake.materialize("pets", partition(OURS, MARCH))
    assert result.success
    assert result.retry_attempts_for_node("clinic__pets") == 1
    assert lake.stored("pets", lake.folder("pets")) == lake.source("pets", condition=IN_MARCH)


def test_nobody_who_reads_the_lake_meets_an_unchecked_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    check = Inspector.check

    def watched(*arguments: Any) -> Any:
        seen.append([path for path in lake.files() if path.startswith("lake/")])
        return check(*arguments)

    monkeypatch.setattr(Inspector, "check", watched)
    lake.materialize("pets", partition(OURS, MARCH))
    assert seen == [[]]
    assert lake.partitions() == {f"lake/clinic/pets/tenant={OURS}/month=2024-03/part-00000.parquet"}


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_writes_is_not(lake: Lake) -> None:
    living = create_run_for_test(lake.workshop.instance, status=DagsterRunStatus.STARTED).run_id
    killed = create_run_for_test(lake.workshop.instance, status=DagsterRunStatus.FAILURE).run_id
    for run_id in (living, killed, "forgotten"):
        with lake.workshop.services.store.writing(f"stage/lake/{run_id}/part-00000.parquet") as sink:
            sink.write(b"half")
    lake.materialize("pets", partition(OURS, MARCH))
    left = {path for path in lake.files() if path.startswith("stage/")}
    assert left == {f"stage/lake/{living}/part-00000.parquet"}


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mkdir` finds it there, and it is gone when `mkdir` asks whether it is a folder."""
    refusals, mkdir = iter([FileExistsError(17, "File exists")]), Path.mkdir

    def meeting_a_delete(path: Path, *given: Any, **named: Any) -> None:
        for refusal in refusals:
            raise refusal
        mkdir(path, *given, **named)

    monkeypatch.setattr(Path, "mkdir", meeting_a_delete)
    store = LocalStore(tmp_path)
    with store.writing("stage/lake/1/part") as sink:
        sink.write(b"rows")
    assert [key for key, _ in store.list("stage")] == ["stage/lake/1/part"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "stage").write_bytes(b"")
    with pytest.raises(Unavailable, match="stage"), LocalStore(tmp_path).writing("stage/lake/1/part") as sink:
        sink.write(b"rows")


def test_runs_side_by_side_do_not_trip_over_each_others_folders(tmp_path: Path) -> None:
    """Each run lists the stage of all to sweep it, while the others make and remove their folders there."""
    store, until = LocalStore(tmp_path), time.monotonic() + 2

    def run(number: int) -> int:
        turns = 0
        while time.monotonic() < until:
            sweep_lake_stage(store, at_work=lambda _: True)
            with store.writing(f"stage/lake/{number}/part") as sink:
                sink.write(b"rows")
            store.move(f"stage/lake/{number}/part", f"lake/{number}/part")
            store.delete(f"stage/lake/{number}")
            turns += 1
        return turns

    with ThreadPoolExecutor(4) as runs:
        assert all(turns > 0 for turns in runs.map(run, range(4)))
    assert [key for key, _ in store.list("")] == [f"lake/{number}/part" for number in range(4)]


# Tenants ----------------------------------------------------------------------------------------------------------


def test_by_the_policy_alone_no_foreign_row_gets_in(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    for table in ("pets", "lab_results"):
        assert lake.materialize(table, partition(OURS, MARCH)).success
        assert lake.stored(table, lake.folder(table)) == lake.source(table, condition=IN_MARCH) != []


@pytest.mark.parametrize("table", ["pets", "lab_results"])
def test_by_the_filter_alone_no_foreign_row_gets_in_and_the_run_fails(
    open_lake: OpenLake, spare: ClinicSource, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The policies let everything through: what the filter read is the tenant's, and it is not published."""
    with psycopg.connect(spare.admin_url, autocommit=True) as connection:
        found = "SELECT policyname, tablename FROM pg_policies WHERE policyname ~ '^export_tenant_(read|only)$'"
        for policy, name in connection.execute(found).fetchall():
            opened = sql.SQL("ALTER POLICY {} ON clinic.{} USING (true)")
            connection.execute(opened.format(sql.Identifier(policy), sql.Identifier(name)))
    lake = open_lake(spare)
    read: list[list[str]] = []
    check = Inspector.check

    def kept(inspector: Inspector, path: Path, *arguments: Any) -> Any:
        read.append(lake.stored(table, path.parent))
        return check(inspector, path, *arguments)

    monkeypatch.setattr(Inspector, "check", kept)
    monkeypatch.setattr(PostgresSnapshot, "require_sound", lambda *_: None)
    result = lake.materialize(table, partition(OURS, MARCH))
    assert read == [lake.source(table, condition=IN_MARCH)] != [[]]
    failed = {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
    assert failed == ({ROWS} if table == "pets" else {ROWS, TENANT})
    assert lake.files() == {}
