"""What the logins of the embedded server may do, and who may look into a home."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import structlog
from structlog.testing import LogCapture

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared, private_home
from export_pipelines.orchestration import daemon
from export_pipelines.settings import Settings
from export_pipelines.stores.audit import AuditLog
from export_pipelines.stores.blocking_sessions import end_blocking_sessions
from export_pipelines.stores.control import ControlDatabase

_EXPORT = "00000000-0000-0000-0000-000000000001"
_LINE = """
    SELECT export_control.audit('1', NULL, NULL, NULL, 'export.download', 'export', %s, 'ok', NULL, NULL, NULL, '{}')
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder = tmp_path_factory.mktemp("rights")
    folder.chmod(0o755)
    settings = Settings(
        EXPORT_HOME=folder / "home", EXPORT_CATALOG=None, EXPORT_SOURCE_URL=None, EXPORT_CONTROL_URL=None
    )
    with prepared(settings, sample=SampleSize(tenants=1, rows=100)) as made:
        yield made


def refusal(url: str, statement: str) -> str | None:
    """Why the database does not let this login do it; None where it does."""
    try:
        with psycopg.connect(url) as connection:
            connection.execute(statement)
    except psycopg.Error as error:
        return str(error)
    return None


def test_a_login_connects_to_no_database_but_its_own(workplace: Workplace) -> None:
    settings = workplace.settings
    assert settings.api_url is not None
    logins = {"app": settings.require_source_url(), "control": settings.require_control_url()}
    for own, url in [*logins.items(), ("control", settings.api_url.get_secret_value())]:
        assert refusal(url, "SELECT 1") is None
        other = urlsplit(url)._replace(path="/app" if own == "control" else "/control").geturl()
        assert "permission denied for database" in str(refusal(other, "SELECT 1"))


def test_the_api_takes_no_lock_of_the_services(workplace: Workplace) -> None:
    settings = workplace.settings
    assert settings.api_url is not None
    for function in ("pg_advisory_lock(1)", "pg_advisory_xact_lock(1, 2)", "pg_try_advisory_lock_shared(1)"):
        assert "permission denied" in str(refusal(settings.api_url.get_secret_value(), f"SELECT {function}"))
    assert refusal(settings.require_control_url(), "SELECT pg_advisory_lock(1)") is None


def test_sessions_of_the_api_are_few_and_end_when_idle(workplace: Workplace) -> None:
    assert workplace.server is not None
    with psycopg.connect(workplace.server.url("control")) as connection:
        row = connection.execute("SELECT rolconnlimit, rolconfig FROM pg_roles WHERE rolname = 'export_web'").fetchone()
    assert row is not None
    assert row[0] > 0
    assert {setting.partition("=")[0] for setting in row[1]} == {
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    }


def test_nobody_else_lists_a_home(workplace: Workplace) -> None:
    home = workplace.settings.home
    listed = 0o711 if os.geteuid() == 0 else 0o700  # root's server runs as another account, below it
    assert stat.S_IMODE(home.stat().st_mode) == listed
    assert stat.S_IMODE((home / "objects").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "dagster").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_home_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(mode)
    with pytest.raises(RequestRejected, match="chmod go-w") as refused:
        private_home(home)
    assert refused.value.field == "EXPORT_HOME"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_account_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    with pytest.raises(RequestRejected, match="belongs to user id 65534"):
        private_home(home)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """What the daemon logs."""
    lines = LogCapture()
    monkeypatch.setattr(daemon, "_log", structlog.wrap_logger(None, processors=[lines]))
    return lines


@contextmanager
def thief(workplace: Workplace) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The API's login with the lock of the audit log and without time-outs."""
    assert workplace.settings.api_url is not None
    assert workplace.server is not None
    with psycopg.connect(workplace.settings.require_control_url(), autocommit=True) as owner:
        owner.execute(
            "INSERT INTO export_control.export_requests (id, tenant_id, config) VALUES (%s, '1', %s) "
            "ON CONFLICT DO NOTHING",
            [_EXPORT, '{"tables": ["pets"], "format": "csv"}'],
        )
    with closing(psycopg.connect(workplace.settings.api_url.get_secret_value())) as connection:
        connection.execute("SET lock_timeout = 0")
        connection.execute("SET idle_in_transaction_session_timeout = 0")
        connection.execute("SET ROLE export_api")
        connection.execute(_LINE, [_EXPORT])
        yield connection


def appending_to_api(url: str) -> tuple[threading.Thread, list[int]]:
    """A line of the API's own, without a time-out, in a thread that waits for the lock."""
    done: list[int] = []

    def append() -> None:
        with psycopg.connect(url, options="-c lock_timeout=0") as connection:
            connection.execute("SET ROLE export_api")
            connection.execute(_LINE, [_EXPORT])
            done.append(connection.info.backend_pid)

    thread = threading.Thread(target=append)
    thread.start()
    return thread, done


def appending(url: str) -> tuple[threading.Thread, list[int]]:
    """The service's next line of the audit log, in a thread that waits for the lock."""
    done: list[int] = []

    def append() -> None:
        with closing(ControlDatabase(url)) as control:
            done.append(AuditLog(control).append("x", caller=None).id)

    thread = threading.Thread(target=append)
    thread.start()
    return thread, done


def waiting(url: str, sessions: int) -> None:
    """Until so many sessions wait for a lock."""
    with psycopg.connect(url, autocommit=True) as connection:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = connection.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").fetchone()
            if found is not None and found[0] >= sessions:
                return
            time.sleep(0.02)
    raise AssertionError("nobody waits")


def test_who_keeps_the_lock_is_ended_and_who_waits_for_it_goes_on(workplace: Workplace) -> None:
    control = workplace.settings.require_control_url()
    assert workplace.settings.api_url is not None
    with thief(workplace) as connection:
        second, also = appending_to_api(workplace.settings.api_url.get_secret_value())
        waiting(control, 1)
        thread, done = appending(control)
        waiting(control, 2)
        assert end_blocking_sessions(control, patience_seconds=3600) == []
        [ended] = end_blocking_sessions(control, patience_seconds=0)
        assert (ended.pid, ended.login, ended.ended) == (connection.info.backend_pid, "export_web", True)
        thread.join(60)
        second.join(60)
        assert len(done) == len(also) == 1
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_a_login_that_may_not_end_it_says_what_is_missing(
    workplace: Workplace, watched: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = workplace.settings.require_control_url()
    assert workplace.server is not None
    monkeypatch.setattr(daemon, "end_blocking_sessions", lambda url: end_blocking_sessions(url, patience_seconds=0))
    with psycopg.connect(workplace.server.url("postgres"), autocommit=True) as admin, thief(workplace):
        thread, done = appending(control)
        waiting(control, 1)
        admin.execute("REVOKE pg_signal_backend FROM export_service")
        try:
            daemon.watch_sessions(control, pause=once())
        finally:
            admin.execute("GRANT pg_signal_backend TO export_service WITH INHERIT TRUE")
        assert watched.entries[-1]["event"] == "blocking_session_remains"
        daemon.watch_sessions(control, pause=once())
        assert watched.entries[-1]["event"] == "blocking_session_ended"
        thread.join(60)
        assert len(done) == 1


def test_the_watch_outlives_an_outage(watched: LogCapture) -> None:
    gone = "postgresql://nobody@127.0.0.1:1/x"
    with pytest.raises(Unavailable):
        end_blocking_sessions(gone)
    daemon.watch_sessions(gone, pause=once())
    assert watched.entries[-1]["event"] == "sessions_not_checked"


def once() -> Callable[[float], bool]:
    """A pause that ends the watch after its first look."""
    looks = iter([False, True])
    return lambda _seconds: next(looks)
