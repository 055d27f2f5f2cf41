"""A schedule that is due becomes a completed export through the real sensors and the real job."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from dagster import RunRequest, SensorEvaluationContext, SkipReason, build_sensor_context

from export_pipelines.core.access import Role
from export_pipelines.core.cron import Cron
from export_pipelines.core.data_windows import DataWindow
from export_pipelines.core.model import TenantScope
from export_pipelines.core.recurrence import CatchUp
from export_pipelines.core.scheduling import ScheduleDraft
from export_pipelines.core.status import RequestStatus
from export_pipelines.orchestration import sensors
from export_pipelines.orchestration.resources import export_resource
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import ExportRequest
from export_pipelines.stores.schedules import Schedule, ScheduleStore
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def context(workshop: Workshop) -> Iterator[SensorEvaluationContext]:
    resources = {"export": export_resource(workshop.settings)}
    with build_sensor_context(instance=workshop.instance, resources=resources) as made:
        yield made


@pytest.fixture
def store(control_url: str) -> Iterator[ScheduleStore]:
    with closing(ControlDatabase(control_url)) as control:
        yield ScheduleStore(control)


def save(store: ScheduleStore, config: dict[str, Any], window: Any, role: Role | None = None) -> Schedule:
    """Due at the beginning of this month, in Berlin; a fire that was missed."""
    cron = Cron(expression="0 0 1 * *", timezone="Europe/Berlin")
    fire = cron.newest(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime.now(dt.UTC))
    assert fire is not None
    draft = ScheduleDraft(
        name="Monthly",
        config=config,
        cron=cron,
        window=DataWindow.model_validate(window),
        catch_up=CatchUp.LATEST,
        jitter_seconds=0,
        keep_days=None,
        pause_after=3,
        next_fire_at=fire,
    )
    return store.create(draft, tenant_id=TENANTS[0], owner="ann", owner_role=role)


def run_what_is_asked_for(workshop: Workshop, context: SensorEvaluationContext) -> ExportRequest:
    """Both sensors, then the run that the second asks for."""
    said = sensors.due_schedules(context)
    assert isinstance(said, SkipReason)
    assert said.skip_message == "1 exports due, 0 missed fires skipped"
    (asked,) = [run for run in sensors.export_requests(context) or () if isinstance(run, RunRequest)]
    workshop.run_job(asked.tags["export/request"])
    return workshop.services.requests.get(asked.tags["export/request"])


def test_a_schedule_that_is_due_becomes_a_completed_export_of_its_window(
    workshop: Workshop, context: SensorEvaluationContext, store: ScheduleStore, clinic: ClinicSource
) -> None:
    window = {"type": "last_3650_days", "whole_tables": ["products"]}
    schedule = save(store, {"tables": ["appointments", "products"], "format": "csv"}, window)
    done = run_what_is_asked_for(workshop, context)
    assert done.status is RequestStatus.COMPLETED, done.error_message
    assert done.schedule_id == schedule.id
    assert done.scheduled_for is not None
    assert done.scheduled_for == schedule.next_fire_at
    table = workshop.catalog.tables["appointments"]
    with psycopg.connect(clinic.admin_url) as connection:
        expected = connection.execute(
            f"SELECT count(*) FROM clinic.appointments WHERE clinic_id = %s AND {table.time_column} >= %s AND "
            f"{table.time_column} < %s" + (f" AND {table.deleted_column} IS NULL" if table.deleted_column else ""),
            (TENANTS[0], (done.scheduled_for.astimezone(BERLIN) - dt.timedelta(days=3650)), done.scheduled_for),
        ).fetchone()
    (path,) = workshop.package(done).rglob("appointments.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert expected is not None
    assert len(rows) == expected[0] > 0
    after = store.get(schedule.id)
    assert (after.last_status, after.late) == (RequestStatus.COMPLETED, False)
    assert after.next_fire_at > dt.datetime.now(dt.UTC)
    assert sensors.due_schedules(context) == SkipReason("0 exports due, 0 missed fires skipped")


@pytest.mark.parametrize(
    ("config", "role", "problem"),
    [
        ({"tables": ["unicorns"], "format": "csv"}, None, "unicorns"),
        ({"tables": ["profiles"], "format": "csv"}, Role.MEMBER, "may be exported by admin only"),
    ],
)
def test_what_became_impossible_since_it_was_saved_is_a_failed_export_that_says_so(
    workshop: Workshop,
    context: SensorEvaluationContext,
    store: ScheduleStore,
    config: dict[str, Any],
    role: Role | None,
    problem: str,
) -> None:
    """The table has left the catalog; the table is no longer for the role of the owner."""
    schedule = save(store, config, "none", role)
    done = run_what_is_asked_for(workshop, context)
    assert (done.status, done.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert problem in str(done.error_message)
    assert store.get(schedule.id).failures == 1


def test_the_sensor_is_among_those_the_service_runs(workshop: Workshop) -> None:
    names = {sensor.name for sensor in workshop.definitions.sensors or ()}
    assert "due_schedules" in names
    assert workshop.scope() == TenantScope(tenant_id=TENANTS[0])


def test_a_schedule_that_is_due_only_by_a_clock_that_jumped_ahead_waits(
    workshop: Workshop, context: SensorEvaluationContext, store: ScheduleStore, control_url: str
) -> None:
    save(store, {"tables": ["pets"], "format": "csv"}, "none")
    workshop.services.state.look()
    with psycopg.connect(control_url) as connection:
        connection.execute("UPDATE export_control.service_state SET believed_at = believed_at - interval '40 days'")
    said = sensors.due_schedules(context)
    assert isinstance(said, SkipReason)
    assert said.skip_message == "0 exports due, 0 missed fires skipped"
    with psycopg.connect(control_url) as connection:
        connection.execute("UPDATE export_control.service_state SET believed_at = now(), ahead_since = NULL")
    run_what_is_asked_for(workshop, context)
