"""History of buckets, chosen in Dagster's UI and read by its daemon's runs."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from export_pipelines.catalog.load import dump_catalog
from export_pipelines.core.buckets import bucket_keys, bucket_of
from export_pipelines.embedded.services import Services, running_services
from export_pipelines.embedded.workplace import Workplace, prepared
from export_pipelines.orchestration.partitions import BUCKET
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.settings import Settings
from export_pipelines_tests.lanes import EXHAUSTIVE
from export_pipelines_tests.orchestration.lake import without_snapshot
from export_pipelines_tests.orchestration.ui import WAIT_SECONDS, backfill, node, owners_known, until
from export_pipelines_tests.workshop import TENANTS, ClinicSource

pytestmark = [pytest.mark.process, EXHAUSTIVE]

BUCKETS = 17
SHARED = bucket_of(TENANTS[1], BUCKETS)
MONTHS = ("2024-02-01", "2024-03-01", "2024-04-01")


@pytest.fixture(scope="module")
def workplace(
    clinic: ClinicSource, database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """The clinic as somebody's own database, with a catalog that has buckets."""
    home = tmp_path_factory.mktemp("buckets")
    catalog = open_catalog(Settings(EXPORT_HOME=home)).model_copy(update={"tenant_buckets": BUCKETS})
    path = home / "catalog.yaml"
    path.write_text(dump_catalog(catalog), encoding="utf-8")
    settings = Settings(
        EXPORT_HOME=home,
        EXPORT_CATALOG=path,
        EXPORT_SOURCE_URL=clinic.url,
        EXPORT_CONTROL_URL=database("buckets"),
        EXPORT_UI_PORT=random.randint(12_000, 15_000),
        EXPORT_API_PORT=random.randint(15_001, 18_000),
    )
    with pytest.MonkeyPatch.context() as patch, prepared(settings) as made:
        patch.setenv("EXPORT_CATALOG", str(path))  # as a person who starts `export-pipelines up` has it
        yield made


@pytest.fixture(scope="module")
def services(workplace: Workplace) -> Iterator[Services]:
    with running_services(workplace) as running:
        until(lambda: owners_known(running, BUCKET) == set(bucket_keys(BUCKETS)))
        yield running


@pytest.fixture(scope="module")
def first_runs(services: Services) -> list[dict[str, str]]:
    """Tags of the runs of a backfill over `MONTHS` of `SHARED`."""
    return backfill(services, ["pets", "invoices"], [f"{month}|{SHARED}" for month in MONTHS])


def test_nobody_but_this_account_can_reach_the_code_server(workplace: Workplace, services: Services) -> None:
    """It runs what it is told to and asks for no password; on a port, another service's daemon could get there."""
    workspace = yaml.safe_load((workplace.settings.home / "dagster" / "workspace.yaml").read_text())
    (location,) = workspace["load_from"]
    path = Path(location["grpc_server"]["socket"])
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert listening_ports(group=services.child("code").process.pid) == set()
    assert listening_ports(group=services.child("webserver").process.pid) != set()


def listening_ports(group: int) -> set[int]:
    """TCP ports on which the processes of a group listen, as the kernel tells."""
    processes = [process for process in Path("/proc").glob("[0-9]*") if _group(process) == group]
    sockets = {found for process in processes for found in map(_opened, (process / "fd").iterdir())}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [line for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]
    return {int(line[1].rpartition(":")[2], 16) for line in listening}


def _opened(descriptor: Path) -> str | None:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:
        return None  # closed since


def _group(process: Path) -> int | None:
    try:
        return os.getpgid(int(process.name))
    except ProcessLookupError:
        return None


@pytest.mark.timeout(2 * WAIT_SECONDS)
def test_chosen_months_of_a_bucket_come_into_the_lake_for_all_its_tenants(
    workplace: Workplace, services: Services, first_runs: list[dict[str, str]]
) -> None:
    held = [tenant for tenant in TENANTS if bucket_of(tenant, BUCKETS) == SHARED]
    assert len(held) == 2
    (run,) = first_runs
    assert (run["dagster/asset_partition_range_start"], run["dagster/asset_partition_range_end"]) == (
        f"{MONTHS[0]}|{SHARED}",
        f"{MONTHS[-1]}|{SHARED}",
    )
    for table in ("pets", "invoices"):
        assert partitions(workplace, table) == {
            f"tenant={tenant}/month={month[:7]}/part-00000.parquet" for tenant in held for month in MONTHS
        }
        assert node(services, table)["partitionStats"]["numMaterialized"] == len(MONTHS)


@pytest.mark.timeout(2 * WAIT_SECONDS)
@pytest.mark.usefixtures("first_runs")
def test_a_backfill_of_only_what_is_missing_reads_nothing_twice(workplace: Workplace, services: Services) -> None:
    """With the run config that the UI's launchpad has for a backfill."""
    before = set(lake_of(workplace, "invoices").rglob("*.parquet"))
    config = {"ops": {"clinic__invoices": {"config": {"only_missing": True}}}}
    wanted = [f"{month}|{SHARED}" for month in (MONTHS[0], "2024-05-01")]
    backfill(services, ["invoices"], wanted, run_config=config)
    added = set(lake_of(workplace, "invoices").rglob("*.parquet")) - before
    assert sorted(path.parts[-3] for path in added) == ["month=2024-05", "month=2024-05"]


def lake_of(workplace: Workplace, table: str) -> Path:
    return workplace.settings.home / "objects" / "lake" / "clinic" / table


def partitions(workplace: Workplace, table: str) -> set[str]:
    folder = lake_of(workplace, table)
    return {without_snapshot(path.relative_to(folder).as_posix()) for path in folder.rglob("*.parquet")}
