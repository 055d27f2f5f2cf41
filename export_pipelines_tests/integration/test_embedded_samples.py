"""Which sample an embedded database gets, keeps, and is worked with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.errors import RequestRejected
from export_pipelines.embedded.workplace import SampleSize, prepared
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.samples.loader import sample_catalog_path, sample_names
from export_pipelines.settings import Settings


def small(name: str | None) -> SampleSize:
    return SampleSize(name=name, tenants=1, rows=20)


def test_a_home_keeps_the_sample_it_was_made_with(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # the server of root's has another account
    settings = Settings(
        EXPORT_HOME=tmp_path / "home", EXPORT_CATALOG=None, EXPORT_SOURCE_URL=None, EXPORT_CONTROL_URL=None
    )
    with prepared(settings, sample=small("outreach")) as made:
        assert made.environment["EXPORT_CATALOG"] == str(sample_catalog_path("outreach"))
    with (
        pytest.raises(RequestRejected, match="already holds sample 'outreach'"),
        prepared(settings, sample=small("goals")),
    ):
        pass
    with prepared(settings) as later:  # as every other command does
        assert open_catalog(later.settings).name == "outreach"


def test_a_sample_is_not_asked_for_beside_a_database_of_ones_own(tmp_path: Path) -> None:
    settings = Settings(EXPORT_HOME=tmp_path / "home", EXPORT_SOURCE_URL="postgresql://app@127.0.0.1:1/app")
    with (
        pytest.raises(RequestRejected, match=r"^EXPORT_SOURCE_URL: .*'goals'"),
        prepared(settings, sample=small("goals")),
    ):
        pass
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("command", ["demo", "up"])
def test_an_unknown_sample_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("EXPORT_HOME", str(tmp_path / "home"))
    answer = CliRunner().invoke(app, [command, "--sample", "zoo"])
    assert answer.exit_code == 2
    assert f"choose from {', '.join(sample_names())}" in answer.output.replace("\n", " ")
    assert not (tmp_path / "home").exists()


def test_samples_are_listed_with_what_they_are_about() -> None:
    lines = CliRunner().invoke(app, ["samples", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == sample_names()
    assert [line for line in lines if line.endswith("(default)")] == [
        line for line in lines if line.startswith("clinic")
    ]
    listed = json.loads(CliRunner().invoke(app, ["samples", "list", "--json"]).stdout)
    assert [
        each["name"] for each in listed if each["title"] and each["description"] and each["tables"]
    ] == sample_names()
