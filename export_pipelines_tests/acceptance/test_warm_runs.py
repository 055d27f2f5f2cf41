"""Runs that begin as copies of a warm process end like Dagster's own, whatever is killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from benchmarks.load.service import Scene
from benchmarks.load.suite import Size, together
from export_pipelines.embedded.postgres import EmbeddedPostgres, running_server
from export_pipelines.embedded.services import Services, running_services
from export_pipelines.embedded.workplace import SampleSize, prepared
from export_pipelines.settings import load_settings
from export_pipelines_tests.acceptance.test_stopped_service import terminate
from export_pipelines_tests.lanes import EXHAUSTIVE

# In `make test` warm runs are killed by `test_killed_daemon.py` and stopped by `test_stopped_service.py`.
pytestmark = [pytest.mark.process, EXHAUSTIVE]

TENANT = "00000000-0000-4000-8000-000000000001"
ROWS = 150_000  # an XML of them takes seconds
LONG = '{"tables": ["invoices", "invoice_items", "appointments", "medical_records"], "format": "xml"}'
SHORT = '{"tables": ["pets"], "format": "csv"}'
PATIENCE_SECONDS = 90


@dataclass(frozen=True)
class Service:
    """A running service, asked through its database and its processes."""

    services: Services
    control: psycopg.Connection[tuple[object, ...]]
    control_url: str
    home: Path

    def order(self, config: str) -> str:
        insert = "INSERT INTO export_control.export_requests (tenant_id, config) VALUES (%s, %s) RETURNING id::text"
        return str(self.one(insert, TENANT, config))

    def one(self, query: str, *values: object) -> object:
        row = self.control.execute(query, values).fetchone()
        return None if row is None else row[0]

    def status(self, request_id: str) -> object:
        return self.one("SELECT status::text FROM export_control.export_requests WHERE id = %s", request_id)

    def run_id(self, request_id: str) -> object:
        return self.one("SELECT run_id FROM export_control.export_requests WHERE id = %s", request_id)

    def ended(self, request_id: str) -> object:
        self.eventually(lambda: self.status(request_id) in ("completed", "failed", "cancelled"), request_id)
        return self.status(request_id)

    def at_work(self) -> str:
        """A request whose run reads rows."""
        request_id = self.order(LONG)
        query = "SELECT rows_processed > 0 FROM export_control.export_requests WHERE id = %s AND status = 'processing'"
        self.eventually(lambda: bool(self.one(query, request_id)), "an export at work")
        return request_id

    def eventually(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s"
            self.services.revive()
            time.sleep(0.05)

    def fork_server(self) -> psutil.Process:
        code = self.services.child("code").process
        assert code is not None
        alive = [p for p in psutil.Process(code.pid).children() if p.status() != psutil.STATUS_ZOMBIE]
        found = [p for p in alive if "forkserver" in " ".join(p.cmdline())]
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("warm") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPORT_HOME", str(home))
        patch.delenv("EXPORT_RUN_LAUNCHER", raising=False)  # the default of `up`
        patch.setenv("EXPORT_RATE_LIMIT", "off")
        patch.setenv("EXPORT_STALE_SECONDS", "6")
        patch.setenv("EXPORT_UI_PORT", str(random.randint(11_000, 15_000)))
        patch.setenv("EXPORT_API_PORT", str(random.randint(15_001, 19_000)))
        settings = load_settings()
        try:
            with (
                prepared(settings, sample=SampleSize(tenants=1, rows=ROWS)) as workplace,
                running_services(workplace) as services,
                closing(psycopg.connect(workplace.settings.require_control_url(), autocommit=True)) as control,
            ):
                yield Service(services, control, workplace.settings.require_control_url(), home)
        finally:
            EmbeddedPostgres(home).delete_data()


def test_a_killed_run_is_reported_and_its_request_tried_again(service: Service) -> None:
    request_id = service.at_work()
    first = service.run_id(request_id)
    (run,) = service.fork_server().children()  # a copy of it
    run.kill()
    service.eventually(lambda: service.run_id(request_id) != first, "another attempt")
    assert service.one("SELECT status FROM dagster.runs WHERE run_id = %s", first) == "FAILURE"
    reported = "SELECT string_agg(event, ' ') FROM dagster.event_logs WHERE run_id = %s AND event LIKE %s"
    assert "SIGKILL" in str(service.one(reported, first, "%Run execution process%"))
    service.control.execute("UPDATE export_control.export_requests SET not_before = now() WHERE id = %s", (request_id,))
    assert service.ended(request_id) == "completed"


def test_users_under_load_see_no_error_and_files_with_their_checksum(service: Service) -> None:
    """What `make bench-api` does for minutes, for seconds."""
    server = running_server(service.home)
    assert server is not None
    scene = Scene(services=service.services, control_url=service.control_url, tenants=(TENANT,), postmaster=server.pid)
    run = together(scene, Size(minutes=0.05, users=2, tenants=1))
    assert run.detail["errors"] == {}
    assert run.detail["exports"]["count"] >= 2
    assert run.detail["downloaded_bytes"] > 0
    assert {"order", "status", "events", "download", "history"} == run.detail["calls"].keys()
    assert {"API", "runs", "PostgreSQL", "code server", "daemon", "webserver", "client"} == run.detail["cores"].keys()
    assert all(cores > 0 for cores in run.detail["cores"].values())


def test_a_run_that_is_terminated_in_the_ui_ends_as_cancelled(service: Service) -> None:
    request_id = service.at_work()
    run_id = str(service.run_id(request_id))
    assert terminate(service.services.ui_url, run_id) == "TerminateRunSuccess"
    assert service.ended(request_id) == "cancelled"
    canceled = "SELECT status FROM dagster.runs WHERE run_id = %s"
    service.eventually(lambda: service.one(canceled, run_id) == "CANCELED", "the run has ended")


def test_an_export_whose_fork_server_was_killed_is_published_once(service: Service) -> None:
    """Nobody is told how such a run ends, so it is lost; the kernel interrupts it, and another attempt publishes."""
    request_id, killed = service.at_work(), service.fork_server()
    (run,) = killed.children()
    killed.kill()
    gone, _ = psutil.wait_procs([run], timeout=10)
    assert gone == [run]  # interrupted, where it would work on for nothing and nobody could stop it
    assert service.ended(service.order(SHORT)) == "completed"  # by another one
    assert service.ended(request_id) == "completed"
    assert service.fork_server().pid != killed.pid
    events = "SELECT string_agg(new_status::text, ' ' ORDER BY id) FROM {} WHERE request_id = %s"
    reported = service.one(events.format("export_control.export_request_events"), request_id)
    assert reported == "queued processing queued processing completed"


def test_runs_go_on_and_others_start_after_the_code_server_was_killed(service: Service) -> None:
    code = service.services.child("code").process
    assert code is not None
    request_id, orphaned = service.at_work(), service.fork_server()
    os.kill(code.pid, signal.SIGKILL)
    assert service.ended(service.order(SHORT)) == "completed"
    assert service.ended(request_id) == "completed"
    attempts = "SELECT count(*) FROM export_control.export_request_events WHERE request_id = %s AND new_status = %s"
    assert service.one(attempts, request_id, "processing") == 1
    service.eventually(lambda: not orphaned.is_running(), "the fork server of the killed one has ended")
