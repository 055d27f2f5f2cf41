"""Requests by SQL while daemon, code server and runs are killed: each is published exactly once."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

from export_pipelines.core.naming import MANIFEST
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.services import Services, running_services
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.maintenance.sweep import sweep
from export_pipelines.pipeline.services import open_services
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.settings import load_settings
from export_pipelines_tests.lanes import EXHAUSTIVE

pytestmark = pytest.mark.process

REQUESTS = int(os.environ.get("EXPORT_TEST_KILLED_REQUESTS", "24")) // 2  # with each way to start runs
ROUNDS = max(1, REQUESTS // 16)  # of kills
ONCE = ["daemon", "worker", "code"]  # is enough for a few requests
VICTIMS = ["daemon", "worker", "daemon", "code", "daemon", "daemon"] * ROUNDS if REQUESTS >= 16 else ONCE
TENANTS = 4
DEADLINE_SECONDS = 1500 * max(1, ROUNDS // 4)
HIT = 5 * ROUNDS  # runs that the kills of a round's worker and code server may hit

ORDER = """
INSERT INTO export_control.export_requests (tenant_id, config, requested_by, idempotency_key)
SELECT format('00000000-0000-4000-8000-%%s', lpad((1 + n %% %(tenants)s)::text, 12, '0')),
       jsonb_build_object(
           'tables', CASE n %% 2 WHEN 0 THEN '["pets"]'::jsonb ELSE '["pets", "appointments"]'::jsonb END,
           'format', (ARRAY['csv', 'json', 'ndjson', 'xml', 'xlsx', 'parquet'])[1 + n %% 6],
           'compression', CASE WHEN n %% 5 = 0 THEN 'zip' ELSE 'none' END),
       'host application', 'order-' || n
FROM generate_series(1, %(requests)s) AS n
"""


@dataclass
class Havoc:
    """Kills one after another, each once enough requests are completed."""

    services: Services
    plan: list[tuple[int, str]]
    done: list[str] = field(default_factory=list)

    def strike(self, completed: int) -> None:
        if self.plan and completed >= self.plan[0][0]:
            victim = self.plan[0][1]
            if self._kill(victim):
                self.plan.pop(0)
                self.done.append(f"{victim} after {completed}")

    def _kill(self, victim: str) -> bool:
        if victim != "worker":
            self.services.child(victim).signal(signal.SIGKILL)  # with everything it started
            return True
        workers = run_workers(self.services)
        with suppress(IndexError, ProcessLookupError):  # none at work, or ended since it was listed
            os.kill(random.choice(workers), signal.SIGKILL)
            return True
        return False


def run_workers(services: Services) -> list[int]:
    """Processes of runs: what the code server spawned, or with EXPORT_RUN_LAUNCHER=warm copies of its fork server."""
    code = services.child("code").process
    assert code is not None
    listed = subprocess.run(
        ["ps", "-axww", "-o", "pid=,ppid=,pgid=,command="], capture_output=True, text=True, check=True
    )
    found = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return [
        int(pid)
        for pid, parent, group, command in found
        if int(group) == code.pid and ("spawn_main" in command or ("forkserver" in command and int(parent) != code.pid))
    ]


@pytest.fixture(params=[pytest.param("dagster", marks=EXHAUSTIVE), "warm"])
def workplace(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A home of its own, with a reconciler that loses patience within seconds; runs in new processes or as copies."""
    for name, value in {
        "EXPORT_RUN_LAUNCHER": request.param,
        "EXPORT_HOME": str(tmp_path / "home"),
        "EXPORT_STALE_SECONDS": "8",
        "EXPORT_UI_PORT": str(random.randint(20_000, 24_000)),
        "EXPORT_API_PORT": str(random.randint(24_001, 28_000)),
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    try:
        with prepared(settings, sample=SampleSize(tenants=TENANTS, rows=1_000)) as made:
            yield made
    finally:
        EmbeddedPostgres(settings.home).delete_data()  # which may lie outside of the home


@pytest.fixture
def control(workplace: Workplace) -> Iterator[psycopg.Connection[dict[str, object]]]:
    url = workplace.settings.require_control_url()
    with closing(psycopg.connect(url, autocommit=True, row_factory=dict_row)) as connection:
        yield connection


def statuses(control: psycopg.Connection[dict[str, object]]) -> Counter[str]:
    rows = control.execute(
        "SELECT status::text, count(*) AS n FROM export_control.export_requests GROUP BY 1"
    ).fetchall()
    return Counter({str(row["status"]): int(str(row["n"])) for row in rows})


def until(
    reached: Callable[[], bool], services: Services, *, seconds: float, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Keep the services alive, as `up` does, until something is so."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        meanwhile()
        services.revive()
        time.sleep(0.5)


@pytest.mark.timeout(DEADLINE_SECONDS + 120)
def test_every_request_is_published_exactly_once_whatever_is_killed(
    workplace: Workplace, control: psycopg.Connection[dict[str, object]]
) -> None:
    moments = sorted(random.sample(range(1, REQUESTS * 3 // 4), len(VICTIMS)))
    started = time.monotonic()
    with running_services(workplace) as services:
        control.execute(ORDER, {"tenants": TENANTS, "requests": REQUESTS})
        havoc = Havoc(services, list(zip(moments, VICTIMS, strict=True)))
        until(
            lambda: statuses(control).total() == REQUESTS and not (statuses(control).keys() & {"queued", "processing"}),
            services,
            seconds=DEADLINE_SECONDS,
            meanwhile=lambda: havoc.strike(statuses(control)["completed"]),
        )
        exported = time.monotonic() - started
        until(lambda: not open_runs(control), services, seconds=120)
    print(f"{REQUESTS} requests in {exported:.0f} s; killed: {', '.join(havoc.done)}")  # noqa: T201 - the figure is for people
    assert len(havoc.done) == len(VICTIMS)
    assert statuses(control) == {"completed": REQUESTS}
    assert_published_once(control)
    swept(workplace)
    assert_only_packages(workplace, control)


def swept(workplace: Workplace) -> None:
    """The nightly sweep of the day after: a run may be killed between its last commit and clearing its stage."""
    with open_services(workplace.settings) as services:
        sweep(services, now=dt.datetime.now(dt.UTC) + 2 * workplace.settings.sweep_after, at_work=lambda _: False)


def open_runs(control: psycopg.Connection[dict[str, object]]) -> list[object]:
    rows = control.execute(
        "SELECT run_id FROM dagster.runs WHERE status NOT IN ('SUCCESS', 'FAILURE', 'CANCELED')"
    ).fetchall()
    return [row["run_id"] for row in rows]


def assert_published_once(control: psycopg.Connection[dict[str, object]]) -> None:
    often = control.execute(
        """
        SELECT request_id, count(*) FROM export_control.export_request_events WHERE new_status = 'completed'
        GROUP BY request_id HAVING count(*) <> 1
        """
    ).fetchall()
    assert often == []


def assert_only_packages(workplace: Workplace, control: psycopg.Connection[dict[str, object]]) -> None:
    """The whole store: the files the table knows, what they were made of, nothing else; every package verifies."""
    objects = workplace.settings.home / "objects"
    known = {str(row["key"]) for row in control.execute("SELECT key FROM export_control.export_files").fetchall()}
    stored = {path.relative_to(objects).as_posix() for path in objects.rglob("*") if path.is_file()}
    assert {key for key in stored if not key.startswith("canonical/")} == known
    kept = len([key for key in stored if key.endswith("/stage.json")])
    assert (
        REQUESTS - HIT <= kept <= REQUESTS
    )  # killed right after it completed, an export keeps no rows for conversions
    assert not (objects / "stage").exists()
    prefixes = control.execute("SELECT package_prefix FROM export_control.export_requests").fetchall()
    assert len({row["package_prefix"] for row in prefixes}) == REQUESTS
    for row in prefixes:
        assert verify_package(objects / str(row["package_prefix"]) / MANIFEST, find_format).problems == []
