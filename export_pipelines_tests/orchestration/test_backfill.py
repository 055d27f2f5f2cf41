"""History into the lake as operators do it: from Dagster's UI through its daemon, and by Dagster's own commands."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest

from export_pipelines.embedded.services import Services, running_services
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared
from export_pipelines.pipeline.lake.partition_checks import KEY, ROWS, SCHEMA, TENANT
from export_pipelines.settings import Settings
from export_pipelines_tests.lanes import EXHAUSTIVE
from export_pipelines_tests.orchestration.lake import without_snapshot
from export_pipelines_tests.orchestration.ui import CHECKED, WAIT_SECONDS, ask, backfill, node, owners_known, until
from export_pipelines_tests.workshop import TENANTS

pytestmark = pytest.mark.process

MONTHS = [f"2024-{month:02d}-01" for month in range(1, 7)]
NEW_TENANT = "00000000-0000-4000-8000-000000000099"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    settings = Settings(
        EXPORT_HOME=tmp_path_factory.mktemp("backfill"),
        EXPORT_UI_PORT=random.randint(12_000, 15_000),
        EXPORT_API_PORT=random.randint(15_001, 18_000),
    )
    with prepared(settings, sample=SampleSize(tenants=3, rows=1_500)) as made:
        yield made


@pytest.fixture(scope="module")
def services(workplace: Workplace) -> Iterator[Services]:
    with running_services(workplace) as running:
        until(lambda: owners_known(running) == set(TENANTS))
        yield running


def rows_in_lake(workplace: Workplace, table: str, tenant: str = "*") -> int:
    pattern = workplace.settings.home / "objects" / "lake" / "clinic" / table / f"tenant={tenant}" / "**" / "*.parquet"
    with duckdb.connect() as session:
        found = session.execute("SELECT count(*) FROM read_parquet($1)", [str(pattern)]).fetchone()
    assert found is not None
    return int(found[0])


def rows_in_source(workplace: Workplace, table: str, condition: str) -> int:
    with psycopg.connect(str(workplace.admin_url)) as connection:
        found = connection.execute(f"SELECT count(*) FROM clinic.{table} WHERE {condition}".encode()).fetchone()
    assert found is not None
    return int(found[0])


def partitions_in_lake(workplace: Workplace, table: str) -> set[str]:
    folder = workplace.settings.home / "objects" / "lake" / "clinic" / table
    return {without_snapshot(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()}


def dagster(workplace: Workplace, *arguments: str) -> str:
    """One of Dagster's own commands in the environment that `export-pipelines up` prepares; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "dagster", *arguments],
        env={**os.environ, **workplace.environment, "PYTHONWARNINGS": "ignore"},
        cwd=workplace.settings.home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(2 * WAIT_SECONDS)
def test_a_backfill_from_the_ui_is_one_run_a_tenant_and_leaves_every_partition(
    workplace: Workplace, services: Services
) -> None:
    wanted = [f"{month}|{tenant}" for month in MONTHS for tenant in TENANTS]
    runs = backfill(services, ["pets", "invoices"], wanted)
    ranges = {(run["dagster/asset_partition_range_start"], run["dagster/asset_partition_range_end"]) for run in runs}
    assert ranges == {(f"{MONTHS[0]}|{tenant}", f"{MONTHS[-1]}|{tenant}") for tenant in TENANTS}
    assert len(runs) == len(TENANTS)
    ours = ", ".join(f"'{tenant}'" for tenant in TENANTS)  # the canary's rows are exported by nobody
    period = f"clinic_id IN ({ours}) AND created_at >= '2024-01-01Z' AND created_at < '2024-07-01Z'"
    for table in ("pets", "invoices"):
        assert partitions_in_lake(workplace, table) == {
            f"tenant={tenant}/month={month[:7]}/part-00000.parquet" for tenant in TENANTS for month in MONTHS
        }
        assert rows_in_lake(workplace, table) == rows_in_source(workplace, table, period) > 0
        assert node(services, table)["partitionStats"]["numMaterialized"] == len(wanted)
        for check in (ROWS, SCHEMA, KEY, TENANT):
            found = ask(services, CHECKED, path=["clinic", table], check=check)
            assert [execution["status"] for execution in found] == ["SUCCEEDED"] * len(runs)
            assert len({execution["runId"] for execution in found}) == len(runs)


@pytest.mark.timeout(2 * WAIT_SECONDS)
@EXHAUSTIVE
def test_the_daemon_makes_a_tenant_that_sql_added_a_partition(workplace: Workplace, services: Services) -> None:
    with psycopg.connect(str(workplace.admin_url), autocommit=True) as connection:
        columns = connection.execute(
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns "
            "WHERE table_schema = 'clinic' AND table_name = 'clinics' AND column_name NOT IN ('id', 'slug')"
        ).fetchone()
        assert columns is not None
        connection.execute(
            f"INSERT INTO clinic.clinics (id, slug, {columns[0]}) "
            f"SELECT '{NEW_TENANT}', 'newcomer', {columns[0]} FROM clinic.clinics LIMIT 1".encode()
        )
        until(lambda: NEW_TENANT in owners_known(services))
        connection.execute(f"DELETE FROM clinic.clinics WHERE id = '{NEW_TENANT}'".encode())
        until(lambda: NEW_TENANT not in owners_known(services))


COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "one partition": (
        ["--select", "clinic/clients", "--partition", f"2023-02-01|{TENANTS[0]}"],
        {f"tenant={TENANTS[0]}/month=2023-02/part-00000.parquet"},
    ),
    "months of one tenant": (
        ["--select", "clinic/lab_results", "--partition-range", f"2023-02-01|{TENANTS[1]}...2023-05-01|{TENANTS[1]}"],
        {f"tenant={TENANTS[1]}/month=2023-0{month}/part-00000.parquet" for month in (2, 3, 4, 5)},
    ),
    "months of several tenants": (
        ["--select", "clinic/appointments", "--partition-range", f"2023-02-01|{TENANTS[0]}...2023-03-01|{TENANTS[2]}"],
        {f"tenant={tenant}/month=2023-0{month}/part-00000.parquet" for tenant in TENANTS for month in (2, 3)},
    ),
    "a table without periods": (
        ["--select", "clinic/products", "--partition", TENANTS[2]],
        {f"tenant={TENANTS[2]}/part-00000.parquet"},
    ),
}  # fmt: skip


@EXHAUSTIVE
@pytest.mark.parametrize("name", list(COMMANDS))
def test_dagsters_command_line_materializes(workplace: Workplace, services: Services, name: str) -> None:
    """In this process, without the daemon; ``services`` has made the tenants known."""
    arguments, expected = COMMANDS[name]
    dagster(workplace, "asset", "materialize", "-m", "export_pipelines.definitions", *arguments)
    assert partitions_in_lake(workplace, arguments[1].removeprefix("clinic/")) == expected


@pytest.mark.timeout(2 * WAIT_SECONDS)
@EXHAUSTIVE
def test_dagsters_job_backfill_runs_through_the_daemon(workplace: Workplace, services: Services) -> None:
    wanted = [f"2024-0{month}-05|{TENANTS[0]}" for month in (2, 3)]
    workspace: Path = workplace.settings.home / "dagster" / "workspace.yaml"
    job = ["-j", "materialize_days", "--partitions", ",".join(wanted), "--noprompt"]
    assert "Launched backfill job" in dagster(workplace, "job", "backfill", "-w", str(workspace), *job)
    days = {f"tenant={TENANTS[0]}/day=2024-0{month}-05/part-00000.parquet" for month in (2, 3)}
    until(lambda: partitions_in_lake(workplace, "payments") == days)
