"""What Dagster sees: the same house for any catalog, no secret in it, and schedules that ask for the right period."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DefaultScheduleStatus,
    Definitions,
    RunRequest,
    ScheduleDefinition,
    SkipReason,
    build_schedule_context,
)
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value

from export_pipelines.catalog.reflect import reflect
from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.model import TenantScope
from export_pipelines.core.naming import lake_prefix
from export_pipelines.definitions import build_defs
from export_pipelines.embedded.workplace import dagster_url
from export_pipelines.orchestration.jobs import tables_of
from export_pipelines.orchestration.operator_schedules import closing_schedule, nightly_schedule
from export_pipelines.orchestration.partitions import by_owner, tenant_partitions_name
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.lake.partition_checks import check_names
from export_pipelines.settings import Settings
from export_pipelines_tests.lanes import EXHAUSTIVE
from export_pipelines_tests.orchestration.lake import QUIET
from export_pipelines_tests.samples import load_sample
from export_pipelines_tests.workshop import TENANTS, Workshop

# Dagster calls the tags of its own dimensions so.
pytestmark = pytest.mark.filterwarnings(r"ignore:Non-compliant tag keys like \['dagster/partition:DeprecationWarning")

PROJECT = Path(__file__).parents[2]
SECRETS = {
    "EXPORT_SOURCE_URL": "postgresql://login:s3cret-source@127.0.0.1/app",
    "EXPORT_CONTROL_URL": "postgresql://service:s3cret-control@127.0.0.1/control",
    "S3_SECRET_ACCESS_KEY": "s3cret-storage",
    "SMTP_PASSWORD": "s3cret-mail",
}
NIGHTLY = {Grain.MONTH: "read_open_month", Grain.NONE: "read_whole_tables"}
FIRST_OF_2026 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def films(database: Callable[[str], str]) -> Catalog:
    """A catalog nobody has touched, as reflection proposes it."""
    url = database("films")
    load_sample(url, "filmrental")
    with psycopg.connect(url, autocommit=True) as connection:
        return reflect(connection, name="films").catalog


@pytest.fixture(params=["clinic", "films"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    return request.getfixturevalue("films") if request.param == "films" else clinic_catalog()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """A schedule only sees an instance that is on disk."""
    with DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def clinic_catalog() -> Catalog:
    return open_catalog(Settings(EXPORT_HOME=Path("unused")))


def definitions_of(catalog: Catalog) -> Definitions:
    return build_defs(Settings(EXPORT_HOME=Path("unused")), catalog=catalog)


# The house --------------------------------------------------------------------------------------------------------


def test_every_table_is_an_asset_with_its_checks_upstream_of_export(catalog: Catalog) -> None:
    graph = definitions_of(catalog).resolve_asset_graph()
    tables = {AssetKey([catalog.name, name]): table for name, table in catalog.tables.items()}
    assert graph.get_all_asset_keys() == {*tables, AssetKey("export")}
    assert graph.get(AssetKey("export")).parent_keys == set(tables)
    for key, table in tables.items():
        node = graph.get(key)
        assert {check.name for check in node.check_keys} == set(check_names(table))
        assert node.group_name == (table.module or catalog.name)
        assert node.kinds == {"postgres", "parquet"}
        assert node.partitions_def is not None


def test_jobs_schedules_and_sensors_follow_the_grains_in_use(catalog: Catalog) -> None:
    repository = definitions_of(catalog).get_repository_def()
    grains = {grain for grain in Grain if tables_of(catalog, grain)}
    jobs = {Grain.MONTH: "materialize_months", Grain.DAY: "materialize_days", Grain.NONE: "materialize_tenants"}
    assert {name for name in repository.job_names if not name.startswith("__")} == {
        "export_job",
        "convert_job",
        "delivery_job",
        "cleanup_job",
        *(jobs[grain] for grain in grains),
    }
    assert {found.name for found in repository.schedule_defs} == {
        "cleanup",
        *(f"close_last_{grain}" for grain in grains - {Grain.NONE}),
        *(NIGHTLY[grain] for grain in grains - {Grain.DAY}),
    }
    assert {found.name for found in repository.sensor_defs} >= {
        f"{catalog.name}_tenants_sensor", "export_requests", "conversion_requests", "silent_requests", "due_deliveries",
    }  # fmt: skip


def test_a_run_of_exports_loads_no_table_asset() -> None:
    """Inputs of the plan are of type Nothing, and no resource is an IO manager of ours."""
    definitions = definitions_of(clinic_catalog())
    plan = definitions.resolve_job_def("export_job").graph.node_named("export").definition.node_named("plan").definition
    loaded = {name: kind.dagster_type.key for name, kind in plan.input_dict.items()}
    assert set(loaded) == set(clinic_catalog().tables)
    assert set(loaded.values()) == {"Nothing"}
    assert set(definitions.resources or {}) == {"export"}


@pytest.mark.filterwarnings("ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning")  # Dagster's own
def test_no_secret_is_in_what_the_code_server_tells(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    settings = Settings(EXPORT_HOME=tmp_path)
    repository = build_defs(settings).get_repository_def()
    reported = serialize_value(RepositorySnap.from_def(repository))
    assert [secret for secret in SECRETS.values() if secret in reported] == []
    assert "s3cret" not in reported
    assert [name for name in SECRETS if name not in reported] == []


# Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [pytest.param(["-m", "export_pipelines.definitions"], marks=EXHAUSTIVE), ["-w", "workspace.yaml"]]
)
def test_dagster_validates_the_definitions_without_a_warning(
    target: list[str], control_url: str, tmp_path: Path
) -> None:
    url = {"DAGSTER_HOME": str(PROJECT), "DAGSTER_POSTGRES_URL": dagster_url(control_url)}
    environment = {**os.environ, **url, "EXPORT_HOME": str(tmp_path), "PYTHONWARNINGS": "default"}
    command = [sys.executable, "-m", "dagster", "definitions", "validate", *target]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    warnings = [line for line in said.splitlines() if "Warning: " in line]
    assert [line for line in warnings if "definitions_validate_command" not in line] == []  # that one is Dagster's own


# Schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grain", "at", "timezone", "period"),
    [
        (Grain.MONTH, FIRST_OF_2026 + dt.timedelta(days=1, hours=2), "UTC", "2025-12-01"),
        (Grain.MONTH, dt.datetime(2024, 3, 2, 2, tzinfo=dt.UTC), "UTC", "2024-02-01"),
        (Grain.DAY, FIRST_OF_2026 + dt.timedelta(hours=1), "UTC", "2025-12-31"),
        (Grain.DAY, dt.datetime(2024, 3, 1, 1, tzinfo=dt.UTC), "UTC", "2024-02-29"),
        (Grain.DAY, FIRST_OF_2026 + dt.timedelta(hours=6), "America/New_York", "2025-12-31"),
        (Grain.DAY, FIRST_OF_2026 - dt.timedelta(hours=13), "Pacific/Auckland", "2025-12-31"),
    ],
)
def test_a_schedule_asks_for_the_last_closed_period_of_every_tenant(
    instance: DagsterInstance, grain: Grain, at: dt.datetime, timezone: str, period: str
) -> None:
    catalog = clinic_catalog().model_copy(update={"timezone": timezone})
    schedule = closing_schedule(catalog, grain)
    assert schedule.execution_timezone == timezone
    asked = asked_by(schedule, catalog, instance, at)
    assert [request.partition_key for request in asked] == [f"{period}|{tenant}" for tenant in TENANTS]
    assert [request.run_key for request in asked] == [f"{period}-{tenant}" for tenant in TENANTS]
    assert [request.tags["export/tenant"] for request in asked] == list(TENANTS)


@pytest.mark.parametrize(
    ("at", "timezone", "months"),
    [
        (dt.datetime(2026, 1, 15, 0, 30, tzinfo=dt.UTC), "UTC", ["2026-01-01"]),
        (dt.datetime(2026, 1, 1, 0, 30, tzinfo=dt.UTC), "UTC", ["2025-12-01", "2026-01-01"]),
        (dt.datetime(2026, 1, 1, 5, 30, tzinfo=dt.UTC), "America/New_York", ["2025-12-01", "2026-01-01"]),
        (dt.datetime(2025, 12, 31, 11, 30, tzinfo=dt.UTC), "Pacific/Auckland", ["2025-12-01", "2026-01-01"]),
    ],
)
def test_every_night_the_month_that_goes_on_is_read_and_once_more_the_one_that_ended(
    instance: DagsterInstance, at: dt.datetime, timezone: str, months: list[str]
) -> None:
    catalog = clinic_catalog().model_copy(update={"timezone": timezone})
    asked = asked_by(nightly_schedule(catalog, Grain.MONTH), catalog, instance, at)
    assert [request.partition_key for request in asked] == [f"{m}|{tenant}" for tenant in TENANTS for m in months]
    night = at.astimezone(ZoneInfo(timezone)).date()
    assert [request.run_key for request in asked] == [f"{night}-{m}-{tenant}" for tenant in TENANTS for m in months]


def test_every_night_tables_without_periods_are_read_whole(instance: DagsterInstance) -> None:
    catalog = clinic_catalog()
    asked = asked_by(nightly_schedule(catalog, Grain.NONE), catalog, instance, FIRST_OF_2026 + dt.timedelta(minutes=30))
    assert [request.partition_key for request in asked] == list(TENANTS)
    assert [request.run_key for request in asked] == [f"2026-01-01-{tenant}" for tenant in TENANTS]


def test_nightly_schedules_are_off_until_somebody_switches_them_on(catalog: Catalog) -> None:
    schedules = {found.name: found for found in definitions_of(catalog).get_repository_def().schedule_defs}
    states = {name: schedules[name].default_status for name in schedules if name in NIGHTLY.values()}
    assert set(states.values()) == {DefaultScheduleStatus.STOPPED}
    assert schedules["cleanup"].default_status is DefaultScheduleStatus.RUNNING


def asked_by(
    schedule: ScheduleDefinition, catalog: Catalog, instance: DagsterInstance, at: dt.datetime
) -> list[RunRequest]:
    """What a tick at that time asks for, with our tenants known."""
    instance.add_dynamic_partitions(tenant_partitions_name(catalog), list(TENANTS))
    repository = definitions_of(catalog).get_repository_def()
    context = build_schedule_context(instance=instance, scheduled_execution_time=at, repository_def=repository)
    return list(schedule.evaluate_tick(context).run_requests or [])


def test_a_schedule_without_tenants_says_so(instance: DagsterInstance) -> None:
    schedule = closing_schedule(clinic_catalog(), Grain.MONTH)
    (answer,) = schedule(build_schedule_context(instance=instance, scheduled_execution_time=FIRST_OF_2026))
    assert isinstance(answer, SkipReason)


def test_what_the_monthly_schedule_asks_for_runs(workshop: Workshop, instance: DagsterInstance) -> None:
    tenants = tenant_partitions_name(workshop.catalog)
    for known in (instance, workshop.instance):
        known.add_dynamic_partitions(tenants, [TENANTS[1]])
    schedule = closing_schedule(workshop.catalog, Grain.MONTH)
    at = dt.datetime(2025, 1, 2, 2, tzinfo=dt.UTC)
    (request,) = schedule(build_schedule_context(instance=instance, scheduled_execution_time=at))
    assert isinstance(request, RunRequest)
    result = workshop.definitions.resolve_job_def("materialize_months").execute_in_process(
        instance=workshop.instance, partition_key=request.partition_key, run_config=QUIET
    )
    assert result.success
    months = tables_of(workshop.catalog, Grain.MONTH)
    (periods,) = by_owner([event.partition for event in result.get_asset_materialization_events()]).values()
    assert {period for _, period in periods} == {dt.date(2024, 12, 1)}
    assert {key.split("/")[2] for key in workshop.object_keys()} == set(months)
    assert all(f"tenant={TENANTS[1]}/month=2024-12/" in key for key in workshop.object_keys())


def test_the_lake_of_one_tenant_never_lies_in_that_of_another() -> None:
    """Tenant ids become one path segment each, whatever is in them."""
    folders = [
        lake_prefix("clinic", "pets", TenantScope(tenant_id=tenant), Grain.MONTH, dt.date(2024, 3, 1))
        for tenant in ("a", "a/b", "..", "a%2Fb", json.dumps("a"))
    ]
    assert len(set(folders)) == 5
    assert {folder.count("/") for folder in folders} == {4}
