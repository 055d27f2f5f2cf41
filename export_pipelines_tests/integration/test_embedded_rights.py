"""What the logins of the embedded server may do, and who may look into a home."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from export_pipelines.core.errors import RequestRejected
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared, private_home
from export_pipelines.settings import Settings


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
