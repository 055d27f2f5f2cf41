"""Ticks by the loops of Dagster's daemon, called one at a time in this process; code is evaluated in the code server.

What a tick costs is therefore all that the daemon does for it: its records, the evaluation, changes of partitions, and
runs up to the queue. No daemon takes them from there.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.definitions.timestamp import TimestampWithTimezone
from dagster._core.remote_representation.code_location import CodeLocation
from dagster._core.remote_representation.external import RemoteRepository, RemoteSchedule, RemoteSensor
from dagster._core.scheduler.instigation import InstigatorState, InstigatorTick, TickStatus
from dagster._core.utils import InheritContextThreadPoolExecutor
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.sensor import execute_sensor_iteration
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs

from benchmarks.scale.place import Place

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One tick and what came of it."""

    seconds: float
    status: str
    runs: int  # asked for
    said: str


@dataclass(kw_only=True)
class Daemon:
    """The daemon's view of the service."""

    instance: DagsterInstance
    workspace: WorkspaceProcessContext
    _times: dict[str, ScheduleIterationTimes] = field(default_factory=dict)

    @property
    def location(self) -> CodeLocation:
        return self.workspace.create_request_context().code_locations[0]

    @property
    def repository(self) -> RemoteRepository:
        (found,) = self.location.get_repositories().values()
        return found

    def sensor(self, name: str) -> Tick:
        """One iteration of the sensor daemon in which this sensor alone runs."""
        wanted = self._only_sensor(name)
        began = time.perf_counter()
        with self._making_runs("sensors") as threads:
            errors = [error for error in execute_sensor_iteration(self.workspace, _LOG, None, threads) if error]
        seconds = time.perf_counter() - began
        return self._reported(wanted, seconds, errors)

    def schedule(self, name: str, at: dt.datetime, *, most: int) -> Tick:
        """One iteration of the scheduler at an instant at which this schedule is due; the tick is stopped after so many
        runs, as when the daemon ends. No other schedule runs.
        """
        wanted = self._only_schedule(name)
        for _ in launch_scheduled_runs(self.workspace, _LOG, at - dt.timedelta(minutes=1), self._times):
            pass  # it gets to know the schedule
        before, began = self._queued(), time.perf_counter()
        with self._making_runs("schedules") as threads:
            ticking = launch_scheduled_runs(self.workspace, _LOG, at, self._times, submit_threadpool_executor=threads)
            for step, error in enumerate(ticking):
                if error:
                    raise RuntimeError(f"{wanted.name} did not tick well: {error}")
                if step == most:  # the first step is the evaluation, each other one a run
                    break
            threads.shutdown(cancel_futures=True)
        seconds = time.perf_counter() - began
        return Tick(seconds=seconds, status="stopped", runs=self._queued() - before, said="")

    def _making_runs(self, settings: str) -> InheritContextThreadPoolExecutor:
        """As many threads as the daemon makes runs with, by `dagster.yaml`."""
        return InheritContextThreadPoolExecutor(max_workers=self.instance.get_settings(settings)["num_submit_workers"])

    def _queued(self) -> int:
        return self.instance.get_runs_count(RunsFilter(statuses=[DagsterRunStatus.QUEUED]))

    def evaluation(self, name: str, at: dt.datetime) -> Tick:
        """What the schedule asks for, without any run."""
        wanted = self.repository.get_schedule(name)
        began = time.perf_counter()
        found = self.location.get_schedule_execution_data(
            instance=self.instance,
            repository_handle=wanted.handle.repository_handle,
            schedule_name=name,
            scheduled_execution_time=TimestampWithTimezone(at.timestamp(), "UTC"),
            log_key=None,
        )
        runs = len(found.run_requests or ())
        return Tick(seconds=time.perf_counter() - began, status="evaluated", runs=runs, said=found.skip_message or "")

    def _only_sensor(self, name: str) -> RemoteSensor:
        for each in self.repository.get_sensors():
            self._forget(each)
            if each.name != name:
                self.instance.stop_sensor(each.get_remote_origin_id(), each.selector_id, each)
        return self.repository.get_sensor(name)

    def _only_schedule(self, name: str) -> RemoteSchedule:
        self._times.clear()
        for each in self.repository.get_schedules():
            self._forget(each)
            if each.name != name:
                self.instance.stop_schedule(each.get_remote_origin_id(), each.selector_id, each)
        return self.repository.get_schedule(name)

    def _forget(self, each: RemoteSensor | RemoteSchedule) -> None:
        """So that its least interval is over."""
        if self._state(each) is not None:
            self.instance.delete_instigator_state(each.get_remote_origin_id(), each.selector_id)

    def _state(self, each: RemoteSensor | RemoteSchedule) -> InstigatorState | None:
        return self.instance.get_instigator_state(each.get_remote_origin_id(), each.selector_id)

    def _reported(self, each: RemoteSensor | RemoteSchedule, seconds: float, errors: list[object]) -> Tick:
        ticks: list[InstigatorTick] = list(
            self.instance.get_ticks(each.get_remote_origin_id(), each.selector_id, limit=1)
        )
        if errors or not ticks or ticks[0].status not in (TickStatus.SUCCESS, TickStatus.SKIPPED):
            raise RuntimeError(f"{each.name} did not tick well: {errors or ticks}")
        tick = ticks[0]
        return Tick(seconds=seconds, status=tick.status.value, runs=len(tick.run_ids), said=tick.skip_reason or "")


@contextmanager
def daemon(found: Place) -> Iterator[Daemon]:
    """Connected to the code server that `serving` has started."""
    target = WorkspaceFileTarget([str(found.home / "dagster" / "workspace.yaml")])
    with WorkspaceProcessContext(instance=found.instance, workspace_load_target=target) as workspace:
        yield Daemon(instance=found.instance, workspace=workspace)
