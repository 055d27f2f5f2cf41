"""Table assets of a catalog with buckets: a partition is the parts of all its tenants, or it is not there."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pyarrow as pa
import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult, MultiPartitionKey, build_schedule_context

from export_pipelines.core.buckets import bucket_keys, bucket_of
from export_pipelines.core.catalog import Grain
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import TenantScope
from export_pipelines.orchestration import assets
from export_pipelines.orchestration.operator_schedules import closing_schedule
from export_pipelines.orchestration.partitions import tenants_of
from export_pipelines.sources.engines import choose_engine
from export_pipelines.sources.postgres import PostgresSnapshot, PostgresSource
from export_pipelines_tests.orchestration.lake import Lake, OpenLake, administer, bucket_partition, partition
from export_pipelines_tests.workshop import TENANTS, ClinicSource

# Dagster calls the tags of its own dimensions so.
pytestmark = pytest.mark.filterwarnings(r"ignore:Non-compliant tag keys like \['dagster/partition:DeprecationWarning")

MARCH, APRIL = dt.date(2024, 3, 1), dt.date(2024, 4, 1)
IN_MARCH = "r.created_at >= '2024-03-01Z' AND r.created_at < '2024-04-01Z'"
BUCKETS = 17  # the smallest number with which the second and the third tenant share one without the first
ALONE, SHARED = bucket_of(TENANTS[0], BUCKETS), bucket_of(TENANTS[1], BUCKETS)
TOGETHER = TENANTS[1:]


@pytest.fixture
def lake(open_lake: OpenLake) -> Lake:
    return open_lake(tenant_buckets=BUCKETS)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tenants whose snapshots are taken from now on."""
    taken: list[str] = []
    snapshot = PostgresSource.snapshot

    def noted(source: PostgresSource, scope: TenantScope) -> AbstractContextManager[PostgresSnapshot]:
        taken.append(scope.tenant_id)
        return snapshot(source, scope)

    monkeypatch.setattr(PostgresSource, "snapshot", noted)
    return taken


def parts(tenants: tuple[str, ...], *months: dt.date) -> set[str]:
    return {
        f"lake/clinic/pets/tenant={tenant}/month={month:%Y-%m}/part-00000.parquet"
        for tenant in tenants
        for month in months
    }


def known(lake: Lake) -> set[str]:
    return lake.workshop.instance.get_materialized_partitions(AssetKey(["clinic", "pets"]))


def reported(result: ExecuteInProcessResult) -> dict[str | None, dict[str, Any]]:
    """By partition, what its materialization says."""
    events = result.get_asset_materialization_events()
    return {
        event.partition: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in events
    }


# What a bucket holds ----------------------------------------------------------------------------------------------


def test_a_bucket_holds_exactly_the_rows_of_its_tenants(lake: Lake, read: list[str]) -> None:
    result = lake.materialize("pets", bucket_partition(SHARED, MARCH), bucket_partition(SHARED, APRIL))
    assert result.success
    assert read == list(TOGETHER)
    assert lake.partitions() == parts(TOGETHER, MARCH, APRIL)
    for tenant in TOGETHER:
        rows = lake.source("pets", tenant, IN_MARCH)
        assert lake.stored("pets", lake.folder("pets", tenant, "month=2024-03")) == rows
    assert known(lake) == {bucket_partition(SHARED, MARCH), bucket_partition(SHARED, APRIL)}
    march = reported(result)[bucket_partition(SHARED, MARCH)]
    expected = sum(len(lake.source("pets", tenant, IN_MARCH)) for tenant in TOGETHER)
    assert expected > 0
    assert (march["dagster/partition_row_count"], march["tenants"], march["already_present"]) == (expected, 2, 0)
    checks = result.get_asset_check_evaluations()
    assert len(checks) == 4
    assert all(check.passed and check.metadata["partitions"].value == 4 for check in checks)


def test_all_buckets_together_are_the_whole_table(lake: Lake) -> None:
    last = dt.datetime.now(dt.UTC).date().replace(day=1)
    for bucket in (ALONE, SHARED):
        first = bucket_partition(bucket, lake.catalog.history_start)
        assert lake.materialize("pets", first, bucket_partition(bucket, last)).success
    for tenant in TENANTS:
        assert lake.stored("pets", lake.folder("pets", tenant)) == lake.source("pets", tenant) != []


def test_a_table_without_time_is_one_partition_a_bucket(lake: Lake) -> None:
    assert lake.materialize("products", SHARED).success
    assert lake.partitions() == {f"lake/clinic/products/tenant={tenant}/part-00000.parquet" for tenant in TOGETHER}


def test_a_bucket_without_tenants_is_there_and_empty(lake: Lake) -> None:
    empty = next(bucket for bucket in bucket_keys(BUCKETS) if bucket not in {ALONE, SHARED})
    result = lake.materialize("pets", bucket_partition(empty, MARCH))
    assert result.success
    assert reported(result)[bucket_partition(empty, MARCH)]["dagster/partition_row_count"] == 0
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert lake.files() == {}


def test_tenants_whose_ids_cannot_be_keys_are_in_buckets_as_well(lake: Lake) -> None:
    everybody = ["o'brien", "a|b", "x...y", *TENANTS]
    held = [tenant for bucket in bucket_keys(BUCKETS) for tenant in tenants_of(bucket, lake.catalog, everybody)]
    assert sorted(held) == sorted(everybody)


# A bucket is whole or not there -----------------------------------------------------------------------------------


def breaking_at(monkeypatch: pytest.MonkeyPatch, read: int) -> None:
    """The n-th partition that is read breaks off before its end."""
    rows_reader: Any = choose_engine().open
    whole, calls = rows_reader.read, itertools.count(1)

    def breaking(*arguments: Any) -> Iterator[pa.RecordBatch]:
        broken = next(calls) == read
        yield from whole(*arguments)
        if broken:
            raise IntegrityViolation("broken off")

    monkeypatch.setattr(rows_reader, "read", breaking)


def test_a_bucket_that_broke_off_is_not_materialized_and_goes_on_from_what_is_there(
    lake: Lake, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    months = bucket_partition(SHARED, MARCH), bucket_partition(SHARED, APRIL)
    breaking_at(monkeypatch, read=4)
    assert not lake.materialize("pets", *months).success
    assert lake.partitions() == parts(TOGETHER, MARCH) | parts(TOGETHER[:1], APRIL)
    assert known(lake) == {months[0]}  # of April, one tenant is missing
    read.clear()
    result = lake.materialize("pets", *months, only_missing=True)
    assert result.success
    assert read == [TOGETHER[1]]
    assert known(lake) == set(months)
    assert {key: (said["tenants"], said["already_present"]) for key, said in reported(result).items()} == {
        months[0]: (2, 2),
        months[1]: (2, 1),
    }
    expected = sum(len(lake.source("pets", tenant, IN_MARCH)) for tenant in TOGETHER)
    assert reported(result)[months[0]]["dagster/partition_row_count"] == expected


def test_a_part_that_fails_a_check_keeps_its_bucket_out(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_reader: Any = choose_engine().open
    whole, calls = rows_reader.read, itertools.count(1)

    def losing(*arguments: Any) -> Iterator[pa.RecordBatch]:
        lost = 1 if next(calls) == 1 else 0
        for batch in whole(*arguments):
            yield batch.slice(lost)

    monkeypatch.setattr(rows_reader, "read", losing)
    result = lake.materialize("pets", bucket_partition(SHARED, MARCH), bucket_partition(SHARED, APRIL))
    assert not result.success
    assert lake.partitions() == parts(TOGETHER, APRIL) | parts(TOGETHER[1:], MARCH)
    assert known(lake) == {bucket_partition(SHARED, APRIL)}
    (rows, *_) = result.get_asset_check_evaluations()
    assert (rows.passed, rows.metadata["failed"].value, rows.metadata["partitions"].value) == (False, 1, 4)
    assert f"tenant={TOGETHER[0]}/month=2024-03/" in str(rows.metadata["object"].value)


def test_a_second_try_of_a_run_does_not_read_again_what_the_first_has_read(
    lake: Lake, clinic: ClinicSource, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "RETRY_SECONDS", 0)
    proved, cut = PostgresSnapshot.require_sound, itertools.count(1)

    def then_cut(snapshot: PostgresSnapshot, tables: Any) -> None:
        proved(snapshot, tables)
        if read[-1] == TOGETHER[1] and next(cut) == 1:
            administer(clinic, f"SELECT pg_terminate_backend({snapshot._connection.info.backend_pid})")

    monkeypatch.setattr(PostgresSnapshot, "require_sound", then_cut)
    result = lake.materialize("pets", bucket_partition(SHARED, MARCH))
    assert result.success
    assert result.retry_attempts_for_node("clinic__pets") == 1
    assert read == [TOGETHER[0], TOGETHER[1], TOGETHER[1]]
    assert lake.partitions() == parts(TOGETHER, MARCH)
    assert len(lake.files()) == 2


# Only what is missing ---------------------------------------------------------------------------------------------


def test_without_the_option_everything_is_read_again(lake: Lake, read: list[str]) -> None:
    for _ in range(2):
        assert lake.materialize("pets", bucket_partition(SHARED, MARCH)).success
    assert read == [*TOGETHER, *TOGETHER]


def test_a_tenant_that_joined_is_all_that_is_read(open_lake: OpenLake, spare: ClinicSource, read: list[str]) -> None:
    lake = open_lake(spare, tenant_buckets=1)
    march = bucket_partition("0-of-1", MARCH)
    assert lake.materialize("pets", march).success
    newcomer = "00000000-0000-4000-8000-000000000099"
    administer(
        spare,
        f"INSERT INTO clinic.clinics SELECT (jsonb_populate_record(c, jsonb_build_object('id', '{newcomer}', "
        f"'slug', 'newcomer'))).* FROM clinic.clinics c LIMIT 1",
    )
    read.clear()
    assert lake.materialize("pets", march, only_missing=True).success
    assert read == [newcomer]
    assert lake.partitions() == parts((*TENANTS, newcomer), MARCH)


def test_a_partition_that_was_read_while_its_period_went_on_is_read_again(lake: Lake, read: list[str]) -> None:
    month = dt.datetime.now(dt.UTC).date().replace(day=1)
    now = bucket_partition(ALONE, month)
    assert lake.materialize("pets", now).success
    assert lake.materialize("pets", now, only_missing=True).success
    assert read == [TENANTS[0], TENANTS[0]]


def test_a_partition_that_the_catalog_describes_otherwise_is_read_again(open_lake: OpenLake, read: list[str]) -> None:
    lake = open_lake(tenant_buckets=BUCKETS)
    march = bucket_partition(ALONE, MARCH)
    assert lake.materialize("pets", march).success
    columns = lake.catalog.tables["pets"].columns
    name = next(name for name, column in columns.items() if column.exported and column.type == "text")
    without = {key: column for key, column in columns.items() if key != name}
    other = open_lake(tenant_buckets=BUCKETS, tables={"pets": {"columns": without}}, home=lake.workshop.settings.home)
    read.clear()
    assert other.materialize("pets", march, only_missing=True).success
    assert read == [TENANTS[0]]


def test_going_over_to_buckets_keeps_the_lake(open_lake: OpenLake, read: list[str]) -> None:
    by_tenant = open_lake()
    for tenant in TOGETHER:
        assert by_tenant.materialize("pets", partition(tenant, MARCH)).success
    before = by_tenant.files()
    lake = open_lake(tenant_buckets=BUCKETS, home=by_tenant.workshop.settings.home)
    read.clear()
    result = lake.materialize("pets", bucket_partition(SHARED, MARCH), only_missing=True)
    assert result.success
    assert read == []
    assert lake.files() == before
    assert reported(result)[bucket_partition(SHARED, MARCH)]["already_present"] == 2
    assert all(
        check.passed and check.metadata["already_present"].value == 2 for check in result.get_asset_check_evaluations()
    )


# Schedules and sensors --------------------------------------------------------------------------------------------


def test_the_monthly_schedule_asks_for_a_run_a_bucket(lake: Lake, instance: DagsterInstance) -> None:
    schedule = closing_schedule(lake.catalog, Grain.MONTH)
    at = dt.datetime(2026, 1, 2, 2, tzinfo=dt.UTC)
    repository = lake.workshop.definitions.get_repository_def()
    context = build_schedule_context(instance=instance, scheduled_execution_time=at, repository_def=repository)
    asked = schedule.evaluate_tick(context).run_requests or []
    assert [request.partition_key for request in asked] == [f"2025-12-01|{bucket}" for bucket in bucket_keys(BUCKETS)]
    assert all("export/tenant" not in request.tags for request in asked)


def test_no_sensor_keeps_tenants_where_there_are_buckets(lake: Lake) -> None:
    sensors = {found.name for found in lake.workshop.definitions.get_repository_def().sensor_defs}
    assert "clinic_tenants_sensor" not in sensors
    assert "export_requests" in sensors


def test_keys_of_partitions_have_the_period_first(lake: Lake) -> None:
    key = bucket_partition(ALONE, MARCH)
    assert isinstance(key, MultiPartitionKey)
    assert str(key) == f"2024-03-01|{ALONE}"
