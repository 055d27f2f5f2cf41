"""The sensors on real instances and databases: what they ask for, and what asking costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from dagster import (
    DagsterRunStatus,
    RunRequest,
    SensorEvaluationContext,
    SkipReason,
    build_run_status_sensor_context,
    build_sensor_context,
)
from dagster._core.test_utils import create_run_for_test
from psycopg.types.json import Jsonb

from export_pipelines.orchestration import sensors
from export_pipelines.orchestration.partitions import tenant_partitions_name
from export_pipelines.orchestration.resources import export_resource
from export_pipelines.pipeline.planning.runs import EXPORT_JOB, run_tags
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.deliveries import DeliveryStore
from export_pipelines.stores.requests import RequestStore
from export_pipelines_tests.workshop import TENANTS, Workshop

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
HISTORY_ROWS = 100_000


@pytest.fixture
def context(workshop: Workshop) -> Iterator[SensorEvaluationContext]:
    """A tick on the workshop's instance, with the real resource."""
    resources = {"export": export_resource(workshop.settings)}
    with build_sensor_context(instance=workshop.instance, resources=resources) as made:
        yield made


def tick(context: SensorEvaluationContext) -> list[RunRequest]:
    """What the request sensor asks for in one tick."""
    return [asked for asked in sensors.export_requests(context) or () if isinstance(asked, RunRequest)]


def test_each_request_is_asked_for_as_the_job_whose_work_it_is(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    finished = workshop.export(CONFIG)
    export, conversion = workshop.order(CONFIG), workshop.order({"convert": finished.id, "format": "json"})
    asked = {
        sensor.job_name: [run.tags["export/request"] for run in sensor(context) or () if isinstance(run, RunRequest)]
        for sensor in (sensors.export_requests, sensors.conversion_requests)
    }
    assert asked == {"export_job": [export], "convert_job": [conversion]}


def run_for(workshop: Workshop, request_id: str, status: DagsterRunStatus) -> None:
    request = workshop.services.requests.get(request_id)
    create_run_for_test(workshop.instance, job_name=EXPORT_JOB, status=status, tags=run_tags(request))


def an_hour_later(workshop: Workshop) -> None:
    with psycopg.connect(workshop.settings.require_control_url()) as connection:
        connection.execute(
            """
            UPDATE export_control.export_requests
            SET asked_at = asked_at - interval '1 h', not_before = not_before - interval '1 h',
                heartbeat_at = heartbeat_at - interval '1 h'
            """
        )


# Requests into runs -----------------------------------------------------------------------------------------------


def test_a_request_is_asked_for_with_the_same_key_until_its_run_exists(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    request_id = workshop.order(CONFIG)
    (first,) = tick(context)
    assert tick(context) == []  # just asked
    an_hour_later(workshop)  # and the daemon died before it made the run
    (second,) = tick(context)
    assert first.run_key == second.run_key == f"req-{request_id}-1"
    assert first.run_config == second.run_config
    assert first.tags["export/tenant"] == TENANTS[0]
    run_for(workshop, request_id, DagsterRunStatus.STARTING)
    an_hour_later(workshop)
    assert tick(context) == []
    assert workshop.services.requests.get(request_id).status == "queued"  # asking never claims


def test_a_run_that_was_made_but_never_submitted_is_asked_for_again(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    """Dagster submits the run it finds under the key instead of making a second one."""
    request_id = workshop.order(CONFIG)
    tick(context)
    run_for(workshop, request_id, DagsterRunStatus.NOT_STARTED)
    an_hour_later(workshop)
    assert [asked.run_key for asked in tick(context)] == [f"req-{request_id}-1"]


def test_a_new_attempt_has_a_key_of_its_own(workshop: Workshop, context: SensorEvaluationContext) -> None:
    request_id = workshop.order(CONFIG)
    tick(context)
    workshop.services.requests.requeue(request_id, attempt=1, run_id=None, error_type="lost", message="m")
    assert tick(context) == []  # it waits
    an_hour_later(workshop)
    assert [asked.run_key for asked in tick(context)] == [f"req-{request_id}-2"]


def test_requests_behind_a_hundred_that_wait_for_their_runs_are_asked_for(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    ordered = [workshop.order(CONFIG, tenant=f"t{number % 6}") for number in range(120)]
    asked = [request.run_key for _ in range(2) for request in tick(context)]
    assert len(asked) == len(set(asked)) == 120
    assert set(asked) == {f"req-{request_id}-1" for request_id in ordered}


def test_a_run_that_ended_before_it_took_its_request_is_noticed_when_it_is_asked_for(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    request_id = workshop.order(CONFIG)
    tick(context)
    run_for(workshop, request_id, DagsterRunStatus.FAILURE)
    an_hour_later(workshop)
    assert tick(context) == []
    request = workshop.services.requests.get(request_id)
    assert (request.status, request.attempt) == ("queued", 2)


# Runs back into requests ------------------------------------------------------------------------------------------


def test_a_failed_run_tells_its_request_and_leaves_no_stage_behind(workshop: Workshop) -> None:
    request_id = workshop.order(CONFIG)
    tags = run_tags(workshop.services.requests.get(request_id))
    run = create_run_for_test(workshop.instance, job_name=EXPORT_JOB, status=DagsterRunStatus.STARTING, tags=tags)
    workshop.services.requests.claim(request_id, attempt=1, run_id=run.run_id)
    with workshop.services.store.writing(f"stage/{request_id}/1/canonical/pets.parquet") as sink:
        sink.write(b"half")
    event = workshop.instance.report_run_failed(run)
    failed = workshop.instance.get_run_by_id(run.run_id)
    assert failed is not None
    with build_run_status_sensor_context(
        "export_run_failure", event, workshop.instance, failed, resources={"export": export_resource(workshop.settings)}
    ) as ended:
        reported = sensors.ended_sensor(DagsterRunStatus.FAILURE)(ended)
    assert isinstance(reported, SkipReason)
    assert reported.skip_message == "queued again"
    assert workshop.object_keys() == []


def test_a_run_of_somebody_else_is_ignored(workshop: Workshop) -> None:
    run = create_run_for_test(workshop.instance, job_name="materialize_months", status=DagsterRunStatus.STARTING)
    event = workshop.instance.report_run_failed(run)
    with build_run_status_sensor_context(
        "export_run_failure", event, workshop.instance, run, resources={"export": export_resource(workshop.settings)}
    ) as ended:
        reported = sensors.ended_sensor(DagsterRunStatus.FAILURE)(ended)
    assert isinstance(reported, SkipReason)
    assert reported.skip_message == "not an export"


def test_the_reconciler_repairs_what_went_silent_and_only_that(
    workshop: Workshop, context: SensorEvaluationContext
) -> None:
    requests = workshop.services.requests
    silent, alive, waiting = (workshop.order(CONFIG) for _ in range(3))
    requests.claim(silent, attempt=1, run_id="5d1b0d3e-0000-4000-8000-000000000001")
    an_hour_later(workshop)
    requests.claim(alive, attempt=1, run_id="5d1b0d3e-0000-4000-8000-000000000002")
    outcome = sensors.silent_requests(context)
    assert isinstance(outcome, SkipReason)
    assert outcome.skip_message == f"{silent}: queued again"
    assert [requests.get(request_id).attempt for request_id in (silent, alive, waiting)] == [2, 1, 1]


# Tenants into partitions ------------------------------------------------------------------------------------------


@pytest.fixture
def sync(workshop: Workshop, context: SensorEvaluationContext) -> Callable[[], Any]:
    return lambda: sensors.tenants_sensor(workshop.catalog)(context)


@pytest.fixture
def known(workshop: Workshop) -> Callable[[], list[str]]:
    """The tenants that Dagster has partitions for."""
    return lambda: sorted(workshop.instance.get_dynamic_partitions(tenant_partitions_name(workshop.catalog)))


def test_tenants_of_the_source_become_partitions(sync: Callable[[], Any], known: Callable[[], list[str]]) -> None:
    assert sync().skip_message == "3 tenants added, 0 removed, 0 known"
    assert known() == list(TENANTS)
    assert sync().skip_message == "0 tenants added, 0 removed, 3 known"


def test_a_tenant_that_left_loses_its_partition(
    workshop: Workshop, sync: Callable[[], Any], known: Callable[[], list[str]]
) -> None:
    workshop.instance.add_dynamic_partitions(tenant_partitions_name(workshop.catalog), [*TENANTS, "left"])
    assert sync().skip_message == "0 tenants added, 1 removed, 3 known"
    assert known() == list(TENANTS)


def test_an_empty_answer_deletes_no_partition(
    workshop: Workshop, sync: Callable[[], Any], known: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop.instance.add_dynamic_partitions(tenant_partitions_name(workshop.catalog), list(TENANTS))
    monkeypatch.setattr(PostgresSource, "tenants", lambda _source: [])
    assert sync().skip_message == "the source lists no tenant; partitions are left as they are"
    assert known() == list(TENANTS)


def test_a_tenant_that_cannot_be_a_partition_key_keeps_the_others(
    sync: Callable[[], Any], known: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresSource, "tenants", lambda _source: ["a", "b|c"])
    sync()
    assert known() == ["a"]


# Cost -------------------------------------------------------------------------------------------------------------


class Explained(ControlDatabase):
    """Keeps the plan of every statement it runs."""

    plans: list[str]

    def rows(self, query: Any, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        with self.transaction() as connection:
            plan = connection.execute(f"EXPLAIN {query}", values).fetchall()
        self.plans.append("\n".join(line["QUERY PLAN"] for line in plan))
        return super().rows(query, values)


@pytest.fixture
def long_history(control_url: str) -> Iterator[Explained]:
    """A service that has worked for years: completed exports, delivered mails, and little to do."""
    with psycopg.connect(control_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            """
            INSERT INTO export_control.export_requests
                (tenant_id, config, status, run_id, package_prefix, heartbeat_at, created_at)
            SELECT 't' || n %% 50, %s, 'completed', 'r' || n, 'p', now(), now() - n * interval '1 min'
            FROM generate_series(1, %s) AS n
            """,
            [Jsonb(CONFIG), HISTORY_ROWS],
        )
        connection.execute(
            """
            INSERT INTO export_control.export_deliveries (request_id, tenant_id, method, recipient, status)
            SELECT id, tenant_id, 'email', 'a@example.com', 'delivered' FROM export_control.export_requests
            """
        )
    with psycopg.connect(control_url, autocommit=True) as connection:
        connection.execute("ANALYZE export_control.export_requests, export_control.export_deliveries")
    control = Explained(control_url)
    control.plans = []
    yield control
    control.close()


def test_no_sensor_reads_the_history(long_history: Explained, workshop: Workshop) -> None:
    requests, deliveries = RequestStore(long_history), DeliveryStore(long_history)
    for _ in range(3):
        requests.claim(workshop.order(CONFIG), attempt=1, run_id="r")
        workshop.order(CONFIG)
    requests.asked(requests.launchable())
    requests.silent(older_than=workshop.settings.keep)
    requests.list(limit=20)
    requests.list(tenant_id="t7", limit=20)
    deliveries.any_due()
    deliveries.take_due()
    assert len(long_history.plans) >= 10
    assert [plan for plan in long_history.plans if "Seq Scan" in plan] == []
