"""Run history within bounds: old runs go, and the partitions they made stay materialised, as the UI sees them."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, RunsFilter, job, op
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext

from export_pipelines.orchestration import run_history as history
from export_pipelines.orchestration.run_history import prune_runs, sweep_handovers
from export_pipelines_tests.orchestration.lake import Lake, partition
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:Non-compliant tag keys like \['dagster/partition:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:dagster"),  # its own, where it describes our definitions
]

MARCH, APRIL = dt.date(2024, 3, 1), dt.date(2024, 4, 1)
STATUS = """
query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionStats { numMaterialized numPartitions numFailed }
    assetMaterializations(limit: 1) { runId }
  } }
}
"""


@pytest.fixture
def lake(workshop: Workshop, clinic: ClinicSource, instance: DagsterInstance) -> Lake:
    return Lake(workshop=replace(workshop, instance=instance), admin_url=clinic.admin_url)


def partitions_by_the_ui(instance: DagsterInstance, table: str) -> dict[str, Any]:
    from dagster_graphql.test.utils import execute_dagster_graphql  # takes a second that only these tests need

    target = LoadableTargetOrigin(module_name="export_pipelines.definitions", attribute="defs")
    origin = InProcessCodeLocationOrigin(loadable_target_origin=target, location_name="export_pipelines")
    with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as process:
        asked = execute_dagster_graphql(
            process.create_request_context(), STATUS, variables={"key": {"path": ["clinic", table]}}
        )
    found: dict[str, Any] = asked.data["assetNodeOrError"]
    return found


def tomorrow() -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


def run_ids(instance: DagsterInstance) -> set[str]:
    return set(instance.get_run_ids(RunsFilter()))


def events(instance: DagsterInstance, run_id: str) -> list[str]:
    """Types of what is left of a run."""
    records = instance.get_records_for_run(run_id).records
    return sorted(str(record.event_log_entry.get_dagster_event().event_type_value) for record in records)


def test_pruning_keeps_partitions_materialised_and_takes_everything_else(lake: Lake, instance: DagsterInstance) -> None:
    superseded = lake.materialize("pets", partition(TENANTS[0], MARCH)).run_id
    march = lake.materialize("pets", partition(TENANTS[0], MARCH)).run_id
    april = lake.materialize("pets", partition(TENANTS[0], APRIL)).run_id
    other = lake.materialize("pets", partition(TENANTS[1], MARCH)).run_id
    whole = lake.materialize("clinics", TENANTS[0]).run_id
    workshop = replace(lake.workshop, instance=instance)
    exports = [str(workshop.export_by_job({"tables": ["pets"], "format": "csv"}).run_id) for _ in range(2)]
    before = partitions_by_the_ui(instance, "pets")
    assert before["partitionStats"]["numMaterialized"] == 3

    reported = prune_runs(instance, before=tomorrow(), dry_run=True)
    assert run_ids(instance) == {superseded, march, april, other, whole, *exports}
    pruned = prune_runs(instance, before=tomorrow())
    assert pruned == reported
    assert (pruned.runs, pruned.trimmed) == (2, 5)
    assert run_ids(instance) == {march, april, other, whole, exports[1]}
    assert partitions_by_the_ui(instance, "pets") == before
    assert partitions_by_the_ui(instance, "clinics")["partitionStats"]["numMaterialized"] == 1
    assert instance.get_materialized_partitions(AssetKey(["clinic", "pets"])) == {
        partition(TENANTS[0], MARCH), partition(TENANTS[0], APRIL), partition(TENANTS[1], MARCH)
    }  # fmt: skip
    assert set(events(instance, march)) == {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}
    again = prune_runs(instance, before=tomorrow())
    assert (again.runs, again.trimmed, again.events) == (0, 0, 0)


def test_without_pruning_by_need_dagster_forgets_the_partition(lake: Lake, instance: DagsterInstance) -> None:
    """Why `delete_run` is not enough; when this fails, the rule is needed no more."""
    run_id = lake.materialize("pets", partition(TENANTS[0], MARCH)).run_id
    instance.delete_run(run_id)
    assert partitions_by_the_ui(instance, "pets")["partitionStats"]["numMaterialized"] == 0


@op
def nothing() -> None:
    pass


@job
def small_job() -> None:
    nothing()


def test_young_and_open_runs_stay(instance: DagsterInstance) -> None:
    run_id = small_job.execute_in_process(instance=instance).run_id
    opened = instance.create_run_for_job(small_job).run_id
    assert prune_runs(instance, before=dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).runs == 0
    assert prune_runs(instance, before=tomorrow()).runs == 1
    assert run_ids(instance) == {opened}
    assert run_id != opened


def test_more_runs_than_a_page_are_pruned(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE", 2)
    for _ in range(5):
        small_job.execute_in_process(instance=instance)
    assert prune_runs(instance, before=tomorrow()).runs == 5
    assert run_ids(instance) == set()


def test_what_steps_handed_on_goes_when_the_run_is_over(instance: DagsterInstance) -> None:
    over = small_job.execute_in_process(instance=instance).run_id
    opened = instance.create_run_for_job(small_job).run_id
    unknown = "0f8fad5b-d9cb-469f-a165-70867728950e"
    storage = Path(instance.storage_directory())
    for name in (over, opened, unknown, "export"):
        (storage / name / "plan").mkdir(parents=True, exist_ok=True)
        (storage / name / "plan" / "result").write_bytes(b"plan")
    assert sweep_handovers(instance, before=dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).items == 0
    assert sweep_handovers(instance, before=tomorrow(), dry_run=True).items == 2
    freed = sweep_handovers(instance, before=tomorrow())
    assert (freed.items, freed.size_bytes) == (2, 8)
    assert {path.name for path in storage.iterdir()} == {opened, "export"}
