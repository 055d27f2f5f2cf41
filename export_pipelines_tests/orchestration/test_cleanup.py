"""The nightly cleanup as Dagster runs it: on by default, each step for itself, and it says what it removed."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

import psycopg
import pytest
from dagster import DefaultScheduleStatus, build_schedule_context

from export_pipelines.core.errors import Unavailable
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.orchestration.cleanup import CLEANUP_JOB
from export_pipelines.orchestration.operator_schedules import cleanup_schedule
from export_pipelines_tests.orchestration.lake import QUIET
from export_pipelines_tests.workshop import Workshop

ORDER: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
LEFT = "stage/0f8fad5b-d9cb-469f-a165-70867728950e/1/canonical/pets.parquet"
STEPS = ("remove_expired", "sweep_leftovers", "prune_history")


@pytest.fixture
def over(workshop: Workshop, control_url: str) -> str:
    """An export past its time, beside what a killed process left days ago and a request that is still good."""
    request = workshop.export(ORDER)
    assert request.status == "completed", request.error_message
    workshop.export(ORDER)
    with psycopg.connect(control_url) as owner:
        owner.execute(
            "UPDATE export_control.export_requests SET expires_at = now() - interval '1 s' WHERE id = %s", (request.id,)
        )
    with workshop.services.store.writing(LEFT) as sink:
        sink.write(b"123")
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).timestamp()
    os.utime(workshop.objects / LEFT, (long_ago, long_ago))
    return request.id


def clean(workshop: Workshop, *, dry_run: bool = False) -> tuple[bool, dict[str, dict[str, Any]]]:
    """Whether the job succeeded, and what its steps said."""
    done = workshop.definitions.resolve_job_def(CLEANUP_JOB).execute_in_process(
        instance=workshop.instance,
        run_config={**QUIET, "ops": {step: {"config": {"dry_run": dry_run}} for step in STEPS}},
        raise_on_error=False,
    )
    said = {
        event.step_key: {name: value.value for name, value in event.step_output_data.metadata.items()}
        for event in done.all_node_events
        if event.is_successful_output and event.step_key is not None
    }
    return done.success, said


def test_the_cleanup_removes_what_is_over_and_says_so(workshop: Workshop, over: str) -> None:
    assert LEFT in workshop.object_keys()
    before = workshop.object_keys()
    succeeded, reported = clean(workshop, dry_run=True)
    assert succeeded
    assert workshop.object_keys() == before
    assert reported["remove_expired"]["expired"] == 1

    succeeded, said = clean(workshop)
    assert succeeded
    gone = set(before) - set(workshop.object_keys())
    assert gone == {key for key in before if over in key} | {LEFT}
    assert (said["remove_expired"]["expired"], said["remove_expired"]["files"]) == (1, len(gone) - 1)
    assert said["sweep_leftovers"]["size_bytes"] == reported["sweep_leftovers"]["size_bytes"] == 3
    assert set(said) == set(STEPS)
    assert clean(workshop)[1]["remove_expired"]["expired"] == 0


def test_one_step_that_fails_keeps_no_other_from_its_work(
    workshop: Workshop, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    delete = LocalStore.delete

    def failing(self: LocalStore, prefix: str) -> int:
        if over in prefix:
            raise Unavailable("not now")
        return delete(self, prefix)

    monkeypatch.setattr(LocalStore, "delete", failing)
    succeeded, said = clean(workshop)
    assert not succeeded
    assert set(said) == {"sweep_leftovers", "prune_history"}
    assert LEFT not in workshop.object_keys()


def test_nothing_is_removed_by_a_clock_that_jumped_ahead(workshop: Workshop, over: str, control_url: str) -> None:
    before = workshop.object_keys()
    workshop.services.state.look()
    with psycopg.connect(control_url) as owner:
        owner.execute("UPDATE export_control.service_state SET believed_at = believed_at - interval '1 day'")
    succeeded, said = clean(workshop)
    assert succeeded
    assert said == {key: {"skipped": "the clock is ahead"} for key in STEPS}
    assert workshop.object_keys() == before
    assert workshop.services.requests.get(over).status == "completed"


def test_the_cleanup_is_on_and_runs_once_a_night() -> None:
    schedule = cleanup_schedule(4, "Europe/Berlin")
    assert schedule.default_status is DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("30 4 * * *", "Europe/Berlin")
    at = dt.datetime(2026, 3, 1, 3, 30, tzinfo=dt.UTC)
    asked = schedule.evaluate_tick(build_schedule_context(scheduled_execution_time=at)).run_requests
    assert len(asked or ()) == 1
