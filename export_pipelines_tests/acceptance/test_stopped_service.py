"""Somebody stops an export, or the service under it: what was asked for happens, and nothing half done is public."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import psycopg
import pytest

from export_pipelines.core.run_launchers import choose_run_launcher
from export_pipelines.embedded.postgres import EmbeddedPostgres, running_server
from export_pipelines_tests.lanes import EXHAUSTIVE

pytestmark = pytest.mark.process

TENANT = "00000000-0000-4000-8000-000000000001"
ROWS = 250_000  # enough to work on for some seconds
ORDER = {
    "name": "Long",
    "tables": ["invoices", "invoice_items", "appointments", "medical_records"],
    "format": "xml",
    "compression": "gzip",
}
COMMAND = [sys.executable, "-m", "export_pipelines"]
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home = tmp_path_factory.mktemp("stopped") / "home"
    yield {
        **os.environ,
        "EXPORT_HOME": str(home),
        "EXPORT_STALE_SECONDS": "10",
        "EXPORT_UI_PORT": str(random.randint(11_000, 15_000)),
        "EXPORT_API_PORT": str(random.randint(15_001, 19_000)),
    }
    EmbeddedPostgres(home).delete_data()


@pytest.fixture(scope="module")
def home(environment: Mapping[str, str]) -> Path:
    return Path(environment["EXPORT_HOME"])


@contextmanager
def up(environment: Mapping[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The whole service, started by its command; the process and the UI's address."""
    service = subprocess.Popen(
        [*COMMAND, "up", "--tenants", "1", "--rows", str(ROWS)],
        env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert service.stdout is not None
    try:
        ui = next(line for line in service.stdout if line.startswith("Dagster UI"))
        launcher = next(line for line in service.stdout if line.startswith("runs start as"))
        assert launcher.endswith(f" {choose_run_launcher('warm')}\n")
        yield service, ui.split()[-1]
    finally:
        stop(service)
        service.stdout.close()


def stop(service: subprocess.Popen[str]) -> None:
    """Ctrl-C, as a terminal sends it."""
    if service.poll() is None:
        os.killpg(service.pid, signal.SIGINT)
        service.wait(60)


def ask(home: Path, query: str, *values: object) -> list[tuple[object, ...]]:
    address = running_server(home)
    assert address is not None
    with psycopg.connect(address.url("control"), autocommit=True) as connection:
        cursor = connection.execute(query, values)
        return cursor.fetchall() if cursor.description else []


def order(home: Path) -> str:
    insert = "INSERT INTO export_control.export_requests (tenant_id, config) VALUES (%s, %s) RETURNING id::text"
    return str(ask(home, insert, TENANT, json.dumps(ORDER))[0][0])


def status_of(home: Path, request_id: str) -> str:
    query = "SELECT status::text FROM export_control.export_requests WHERE id = %s"
    return str(ask(home, query, request_id)[0][0])


def eventually(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.1)


def at_work(home: Path) -> str:
    """A request whose run reads rows."""
    request_id = order(home)
    query = "SELECT rows_processed > 0 FROM export_control.export_requests WHERE id = %s AND status = 'processing'"
    eventually(lambda: ask(home, query, request_id) == [(True,)], "the export is at work")
    return request_id


def published(home: Path) -> list[Path]:
    return [path for path in (home / "objects" / "exports").rglob("*") if path.is_file()]


def terminate(ui_url: str, run_id: str) -> str:
    """As the button in Dagster's UI does."""
    mutation = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
    body = json.dumps({"query": mutation, "variables": {"id": run_id}}).encode()
    call = Request(f"{ui_url}/graphql", body, {"Content-Type": "application/json"})
    with urlopen(call, timeout=30) as answer:
        return str(json.load(answer)["data"]["terminateRun"]["__typename"])


@EXHAUSTIVE
def test_a_stopped_export_ends_as_it_was_meant(environment: Mapping[str, str], home: Path) -> None:
    """One service for three ways to stop an export, since starting it is most of the time."""
    with up(environment) as (_service, ui_url):
        terminate_in_the_ui(home, ui_url)

        cancelled = at_work(home)
        subprocess.run([*COMMAND, "requests", "cancel", cancelled], env=environment, check=True, capture_output=True)
        eventually(lambda: status_of(home, cancelled) == "cancelled", "cancelled by command")

        interrupt_command_line(environment, home)
        time.sleep(1)
        assert published(home) == []
        assert ask(
            home, "SELECT count(*) FROM export_control.export_request_events WHERE new_status = 'completed'"
        ) == [(0,)]


def terminate_in_the_ui(home: Path, ui_url: str) -> None:
    terminated = at_work(home)
    run_id = str(ask(home, "SELECT run_id FROM export_control.export_requests WHERE id = %s", terminated)[0][0])
    assert terminate(ui_url, run_id) == "TerminateRunSuccess"
    eventually(lambda: status_of(home, terminated) == "cancelled", "terminated in Dagster")
    eventually(
        lambda: ask(home, "SELECT status FROM dagster.runs WHERE run_id = %s", run_id) == [("CANCELED",)], "run ended"
    )


def interrupt_command_line(environment: Mapping[str, str], home: Path) -> None:
    arguments = ["export", "--tenant", TENANT, "--tables", ",".join(ORDER["tables"]), "--format", "xml"]
    with subprocess.Popen(
        [*COMMAND, *arguments], env=environment, start_new_session=True, stderr=subprocess.PIPE
    ) as command:
        query = "SELECT id::text FROM export_control.export_requests WHERE launched_by = 'cli' AND rows_processed > 0"
        eventually(lambda: len(ask(home, query)) == 1, "the command is at work")
        os.killpg(command.pid, signal.SIGINT)
        command.communicate(timeout=60)
    assert command.returncode != 0
    assert status_of(home, str(ask(home, query)[0][0])) == "cancelled"


def test_an_export_goes_on_after_the_service_was_stopped(environment: Mapping[str, str], home: Path) -> None:
    with up(environment) as (service, ui_url):
        terminate_in_the_ui(home, ui_url)
        before = set(published(home))
        request_id = at_work(home)
        stop(service)
    with up(environment):
        eventually(lambda: status_of(home, request_id) == "completed", "completed after the next start")
        events = ask(
            home,
            "SELECT new_status::text FROM export_control.export_request_events WHERE request_id = %s ORDER BY id",
            request_id,
        )
        assert [str(event[0]) for event in events] == ["queued", "processing", "queued", "processing", "completed"]
        files = ask(home, "SELECT key FROM export_control.export_files WHERE request_id = %s", request_id)
        assert set(published(home)) - before == {home / "objects" / str(file[0]) for file in files}
