"""How many runs go on at once, decided by Dagster's own queue daemon from the project's `dagster.yaml`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, Definitions, RunsFilter
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from export_pipelines.definitions import build_defs
from export_pipelines.embedded.workplace import DAGSTER_YAML
from export_pipelines.orchestration.runs import SOURCE_POOL
from export_pipelines.pipeline.planning.runs import TENANT_TAG
from export_pipelines.settings import Settings

LIMITS = yaml.safe_load(DAGSTER_YAML.read_text())["concurrency"]
SOURCE_LIMIT, ALL = LIMITS["pools"]["default_limit"], LIMITS["runs"]["max_concurrent_runs"]


CODE = ModuleCodePointer("export_pipelines.definitions", "defs")
HOME = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("export_pipelines"), "__repository__")
PLAN = {"config": {"request_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}}
CONFIGS: dict[str, dict[str, object]] = {
    "export_job": {"ops": {"export": {"ops": {"plan": PLAN}}}},
    "convert_job": {"ops": {"plan_conversion": PLAN}},
}


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return build_defs(Settings(EXPORT_HOME=Path("unused")))


class Queue:
    """Runs as the queue, the launcher and their ends leave them in Dagster's storage."""

    def __init__(self, instance: DagsterInstance, definitions: Definitions) -> None:
        self._instance = instance
        self._definitions = definitions

    def add(self, job: str, tenant: str) -> None:
        definition = self._definitions.resolve_job_def(job)
        run = self._instance.create_run_for_job(
            definition,
            run_config=CONFIGS[job],
            tags={TENANT_TAG: tenant},
            remote_job_origin=RemoteJobOrigin(HOME, job),
            job_code_origin=JobPythonOrigin(job, RepositoryPythonOrigin(sys.executable, CODE)),
        )
        self._report(run.run_id, DagsterEventType.RUN_ENQUEUED)

    def start(self) -> Counter[str]:
        """Start what the daemon would start now; how many of each job."""
        concurrency = self._instance.get_concurrency_config()
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
            found = daemon._get_runs_to_dequeue(self._instance, concurrency, fixed_iteration_time=None)
        for run in found:
            self._report(run.run_id, DagsterEventType.RUN_START)
        return Counter(run.job_name for run in found)

    def end(self, job: str, how: DagsterEventType) -> None:
        """The oldest of the runs at work ends so."""
        at_work = RunsFilter(job_name=job, statuses=[DagsterRunStatus.STARTED])
        self._report(self._instance.get_run_ids(at_work)[-1], how)

    def _report(self, run_id: str, kind: DagsterEventType) -> None:
        job = self._instance.get_runs(RunsFilter(run_ids=[run_id]))[0].job_name
        self._instance.report_dagster_event(DagsterEvent(kind.value, job), run_id=run_id)


@pytest.fixture
def queue(instance: DagsterInstance, definitions: Definitions) -> Queue:
    """Dagster writes a pool's limit down when it first meets the pool, and keeps it from the next tick on."""
    made = Queue(instance, definitions)
    made.add("export_job", "first")
    assert made.start() == {"export_job": 1}
    made.end("export_job", DagsterEventType.RUN_SUCCESS)
    return made


@pytest.mark.parametrize("how", [DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE])
def test_no_more_runs_read_the_source_than_the_pool_has_places(queue: Queue, how: DagsterEventType) -> None:
    """A run that failed has freed its place, whatever killed its process."""
    for number in range(6):
        queue.add("export_job", f"tenant {number}")
    queue.add("convert_job", "somebody else")
    assert queue.start() == {"export_job": SOURCE_LIMIT, "convert_job": ALL - SOURCE_LIMIT}
    assert queue.start() == {}
    queue.end("convert_job", DagsterEventType.RUN_SUCCESS)
    assert queue.start() == {}
    queue.end("export_job", how)
    assert queue.start() == {"export_job": 1}
    assert queue.start() == {}


def test_one_tenant_leaves_places_to_others(queue: Queue) -> None:
    for tenant in ("greedy", "greedy", "greedy", "modest"):
        queue.add("export_job", tenant)
    assert queue.start() == {"export_job": 3}
    queue.end("export_job", DagsterEventType.RUN_SUCCESS)
    assert queue.start() == {"export_job": 1}


def test_every_run_that_reads_the_source_is_in_the_pool_and_no_other(
    instance: DagsterInstance, definitions: Definitions
) -> None:
    pooled = set()
    for name in definitions.get_repository_def().job_names:
        if name.startswith("__"):
            continue
        run = instance.create_run_for_job(definitions.resolve_job_def(name), run_config=CONFIGS.get(name))
        assert run.run_op_concurrency is None or run.run_op_concurrency.all_pools == {SOURCE_POOL}
        if run.run_op_concurrency is not None:
            pooled.add(name)
    assert pooled == {"export_job", "materialize_months", "materialize_days", "materialize_tenants"}
