"""How runs start: warm by default, Dagster's own where somebody asks for it or a fork server is not to be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from export_pipelines.core.run_launchers import choose_run_launcher
from export_pipelines.embedded.services import describe
from export_pipelines.embedded.workplace import Workplace
from export_pipelines.settings import Settings

NEW = (3, 11, 7)


@pytest.mark.parametrize(
    ("asked", "platform", "python", "shown"),
    [
        ("warm", "linux", NEW, "copies of a warm process"),
        ("dagster", "linux", NEW, "new interpreters (EXPORT_RUN_LAUNCHER=dagster)"),
        ("warm", "darwin", NEW, "new interpreters (copies of a warm process need Linux, and this is darwin)"),
        (
            "warm",
            "linux",
            (3, 11, 0),
            "new interpreters (copies of a warm process need Python 3.11.1 or newer, and this is 3.11.0)",
        ),
    ],
)
def test_what_cannot_be_had_is_replaced_by_dagsters_own_and_says_why(
    asked: str, platform: str, python: tuple[int, int, int], shown: str
) -> None:
    chosen = choose_run_launcher(asked, platform=platform, python=python)
    assert str(chosen) == shown
    assert chosen.name == ("warm" if shown.startswith("copies") else "dagster")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere runs are Dagster's own")
@pytest.mark.parametrize(
    ("setting", "module"),
    [({}, "export_pipelines.orchestration.code_server"), ({"run_launcher": "dagster"}, "dagster")],
)
def test_up_starts_runs_warm_unless_told_otherwise(tmp_path: Path, setting: dict[str, str], module: str) -> None:
    (tmp_path / "dagster").mkdir()
    url = SecretStr("postgresql://nobody@127.0.0.1/nothing")
    found = Settings(_env_file=None).model_copy(
        update={"home": tmp_path, "source_url": url, "control_url": url, "api_url": url, **setting}
    )
    services = describe(Workplace(settings=found, admin_url=None), tmp_path / "code.sock")
    assert services.child("code").command[2] == module
