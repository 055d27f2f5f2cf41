"""`export-pipelines up` as its operator starts it, in a process of its own, with a key for each tenant's user."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from export_pipelines.core.access import Role
from export_pipelines.embedded.postgres import EmbeddedPostgres, running_server
from export_pipelines.embedded.workplace import CONTROL_DATABASE, SOURCE_DATABASE
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase

_START_SECONDS, _STOP_SECONDS = 300, 90
_API = re.compile(r"^API\s+(http://\S+)/api/docs$", re.MULTILINE)
_SETTINGS = {
    "EXPORT_RUN_LAUNCHER": "warm",
    "EXPORT_RATE_LIMIT": "off",
    "EXPORT_UI_PORT": "47000",  # `up` takes the next free ones
    "EXPORT_API_PORT": "47500",
}


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that answers."""

    home: Path
    pid: int  # of `up`
    postmaster_pid: int
    api_url: str
    admin_url: str  # a superuser's, to the control database
    keys: tuple[str, ...]

    def database_bytes(self) -> int:
        """The control database on disk, Dagster's storage included."""
        with psycopg.connect(self.admin_url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0

    def log_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.home / "logs").iterdir())


@contextmanager
def service(home: Path, *, tenants: int, rows: int) -> Iterator[Service]:
    """Started, and stopped as by Ctrl-C; its databases are deleted."""
    home.mkdir(parents=True, exist_ok=True)
    printed = home / "up.log"
    with printed.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "export_pipelines", "up", "--tenants", str(tenants), "--rows", str(rows)],
            env={**_own_environment(), "EXPORT_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield _answering(home, up, printed)
    finally:
        _stop(up)
        EmbeddedPostgres(home).delete_data()


def _own_environment() -> dict[str, str]:
    """Nothing of ours may reach another service's data."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EXPORT_", "DAGSTER_"))}
    return {**kept, **_SETTINGS, "PYTHONUNBUFFERED": "1"}


def _answering(home: Path, up: subprocess.Popen[bytes], printed: Path) -> Service:
    deadline = time.monotonic() + _START_SECONDS
    while not (address := _API.search(printed.read_text("utf-8"))):
        if up.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the service did not start:\n{printed.read_text('utf-8')[-2000:]}")
        time.sleep(0.2)
    server = running_server(home)
    if server is None:
        raise RuntimeError("the soak test's own database is not running")
    admin_url = server.url(CONTROL_DATABASE)
    return Service(
        home=home,
        pid=up.pid,
        postmaster_pid=server.pid,
        api_url=address[1],
        admin_url=admin_url,
        keys=_keys(admin_url, _tenants(server.url(SOURCE_DATABASE))),
    )


def _tenants(source_url: str) -> list[str]:
    """All but the canary, whose exports are refused."""
    query = "SELECT DISTINCT clinic_id::text FROM clinic.pets WHERE NOT starts_with(clinic_id::text, 'caca') ORDER BY 1"
    with psycopg.connect(source_url) as source:
        return [tenant for (tenant,) in source.execute(query)]


def _keys(admin_url: str, tenants: list[str]) -> tuple[str, ...]:
    with closing(ControlDatabase(admin_url)) as control, control.transaction():
        keys = ApiKeyStore(control)
        return tuple(
            keys.create(role=Role.ADMIN, tenant_id=tenant, user_id=f"user-{number}", created_by="bench")[1]
            for number, tenant in enumerate(tenants)
        )


def _stop(up: subprocess.Popen[bytes]) -> None:
    up.send_signal(signal.SIGINT)
    try:
        up.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(up.pid, signal.SIGKILL)
        up.wait()
