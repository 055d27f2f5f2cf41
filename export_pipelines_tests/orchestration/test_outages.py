"""While what exports need does not answer, no run is asked for; afterwards those that waited go on in their order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import DagsterRunStatus, RunRequest, SensorEvaluationContext, SkipReason, build_sensor_context
from structlog.testing import capture_logs

from export_pipelines.object_stores.local import LocalStore
from export_pipelines.orchestration import sensors
from export_pipelines.orchestration.outages import outage
from export_pipelines.orchestration.reconcile import reconcile
from export_pipelines.orchestration.resources import export_resource
from export_pipelines.pipeline.assembly import open_source
from export_pipelines.stores.requests import RequestStore
from export_pipelines.stores.service_state import Need
from export_pipelines_tests.orchestration.test_reconcile import make_run  # noqa: F401 - a fixture
from export_pipelines_tests.workshop import Workshop

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}


@pytest.fixture
def context(workshop: Workshop) -> Iterator[SensorEvaluationContext]:
    resources = {"export": export_resource(workshop.settings)}
    with build_sensor_context(instance=workshop.instance, resources=resources) as made:
        yield made


@pytest.fixture
def requests(workshop: Workshop) -> RequestStore:
    return workshop.services.requests


@pytest.fixture
def objects(workshop: Workshop) -> Path:
    return workshop.settings.home / "objects"


def break_store(objects: Path) -> None:
    shutil.rmtree(objects, ignore_errors=True)
    objects.write_text("a file where the folder should be")


def ticked(context: SensorEvaluationContext) -> tuple[list[str], str]:
    """The requests that a run was asked for, and what was said instead."""
    found = list(sensors.export_requests(context) or ())
    asked = [each.tags["export/request"] for each in found if isinstance(each, RunRequest)]
    said = [str(each.skip_message) for each in found if isinstance(each, SkipReason)]
    return asked, "; ".join(said)


def meets_outage(requests: RequestStore, request_id: str) -> None:
    assert requests.claim(request_id, attempt=1, run_id=f"run-{request_id}")
    assert requests.postpone(
        request_id, attempt=1, run_id=f"run-{request_id}", error_type="unavailable", message="it does not answer"
    )


def test_requests_wait_for_the_store_in_their_order(
    workshop: Workshop, context: SensorEvaluationContext, requests: RequestStore, objects: Path
) -> None:
    first, second, third = (workshop.order(CONFIG) for _ in range(3))
    meets_outage(requests, second)
    meets_outage(requests, first)
    break_store(objects)
    with capture_logs() as lines:
        for _ in range(2):
            asked, said = ticked(context)
            assert asked == []
            assert said.startswith("exports wait for an outage to end: store: the object store takes no objects")
    assert [(line["event"], line["of"]) for line in lines] == [("outage", Need.STORE)]
    objects.unlink()
    with capture_logs() as lines:
        assert ticked(context)[0] == [first, second, third]
    assert [(line["event"], line["of"]) for line in lines] == [("outage_ended", Need.STORE)]


def test_a_request_that_waits_keeps_nobody_from_working_when_all_answers(
    workshop: Workshop, context: SensorEvaluationContext, requests: RequestStore
) -> None:
    waiting, other = workshop.order(CONFIG), workshop.order(CONFIG)
    meets_outage(requests, waiting)
    assert ticked(context)[0] == [other]  # a short outage, which was over before anybody looked
    assert requests.awaiting() == 1


def test_a_source_that_does_not_answer_holds_exports_up_and_no_conversions(
    workshop: Workshop, requests: RequestStore
) -> None:
    waiting = workshop.order(CONFIG)
    meets_outage(requests, waiting)
    nowhere = open_source("postgresql://nobody:secret@127.0.0.1:9/none", workshop.services.catalog, "auto")
    services = workshop.services.having(source=nowhere, store=LocalStore(workshop.settings.home / "other"))
    services.state.look()
    problem = outage(services, conversions=False)
    assert problem is not None
    assert problem.startswith("source: source database 127.0.0.1:9/none does not answer")
    assert "secret" not in problem
    assert outage(services, conversions=True) is None
    state = services.state.read()
    assert state is not None
    assert state.source_down_since is not None
    assert state.store_down_since is None


def test_nothing_is_probed_while_no_request_met_an_outage(
    workshop: Workshop, context: SensorEvaluationContext, objects: Path
) -> None:
    request_id = workshop.order(CONFIG)
    break_store(objects)
    assert ticked(context)[0] == [request_id]


def test_a_run_that_meets_an_outage_leaves_its_attempts(
    workshop: Workshop, requests: RequestStore, objects: Path
) -> None:
    request_id = workshop.order(CONFIG)
    break_store(objects)
    workshop.run_job(request_id)
    request = requests.get(request_id)
    assert (request.status, request.error_type, request.attempt, request.max_attempts) == (
        "queued",
        "unavailable",
        2,
        4,
    )
    assert "this uses up no attempt: the next one is due at" in str(request.error_message)


def test_after_the_deadline_it_fails_and_says_so(workshop: Workshop, requests: RequestStore, objects: Path) -> None:
    request_id = workshop.order(CONFIG)
    with psycopg.connect(workshop.settings.require_control_url()) as connection:
        connection.execute("UPDATE export_control.export_requests SET unavailable_since = now() - interval '5 hours'")
    break_store(objects)
    workshop.run_job(request_id)
    request = requests.get(request_id)
    assert (request.status, request.error_type, request.attempt) == ("failed", "unavailable", 1)
    assert str(request.error_message).endswith("; nothing answered until the deadline for outages")


@pytest.mark.parametrize(("restarted", "left"), [(True, 2), (False, 1)], ids=["with the database", "alone"])
def test_a_run_lost_with_the_database_leaves_its_attempts(
    restarted: bool,
    left: int,
    workshop: Workshop,
    requests: RequestStore,
    make_run: Any,  # noqa: F811
) -> None:
    request_id = workshop.order(CONFIG)
    run = make_run(requests.get(request_id), DagsterRunStatus.STARTED)
    assert requests.claim(request_id, attempt=1, run_id=run.run_id)
    at = "pg_postmaster_start_time() - interval '1 s'" if restarted else "now() - interval '2 s'"
    with psycopg.connect(workshop.settings.require_control_url()) as connection:
        connection.execute(f"UPDATE export_control.export_requests SET heartbeat_at = {at}")
    assert reconcile(requests.get(request_id), workshop.instance, requests) == "queued again"
    request = requests.get(request_id)
    assert request.max_attempts - request.attempt == left


def test_runs_are_left_alone_right_after_the_clock_was_set(
    workshop: Workshop,
    context: SensorEvaluationContext,
    requests: RequestStore,
    make_run: Any,  # noqa: F811
) -> None:
    request_id = workshop.order(CONFIG)
    run = make_run(requests.get(request_id), DagsterRunStatus.STARTED)
    assert requests.claim(request_id, attempt=1, run_id=run.run_id)
    workshop.services.state.look()
    with psycopg.connect(workshop.settings.require_control_url()) as connection:
        connection.execute("UPDATE export_control.export_requests SET heartbeat_at = now() - interval '10 min'")
        connection.execute("UPDATE export_control.service_state SET believed_at = believed_at - interval '10 min'")
    said = sensors.silent_requests(context)
    assert isinstance(said, SkipReason)
    assert str(said.skip_message).startswith("the clock was stepped")
    assert requests.get(request_id).status == "processing"
