"""``destinations`` and ``--deliver`` at the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.commands.ordering import DeliveryOptions
from export_pipelines.core.errors import RequestRejected
from export_pipelines.destinations.registry import all_destinations
from export_pipelines_tests.servers.smtp import SmtpServer

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line with a folder that is there."""
    (tmp_path / "nas").mkdir()
    monkeypatch.setenv("EXPORT_FOLDERS", f"nas={tmp_path / 'nas'}")

    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return done

    return command


def test_the_list_says_what_there_is_and_what_is_set_up(run: Run) -> None:
    listed = json.loads(run("destinations", "list", "--json").stdout)
    assert [row["method"] for row in listed] == list(all_destinations())
    assert {row["method"]: row["set_up"] for row in listed} == {"download": True, "email": False, "folder": True}
    lines = run("destinations", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(all_destinations())


def test_a_test_takes_every_step_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    said = run("destinations", "test", "folder").stdout.splitlines()
    assert said[0] == "ok     nas: exists"
    assert all(line.startswith("ok ") for line in said)
    assert list((tmp_path / "nas").iterdir()) == []


def test_a_test_that_fails_says_where_and_how_to_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "nas").rmdir()
    done = run("destinations", "test", "folder", code=4)
    assert "failed nas: exists" in done.output
    assert "is its drive mounted?" in done.output


def test_a_mail_server_is_asked_and_gets_no_mail(
    run: Run, smtp: Callable[..., SmtpServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "SMTP_HOST" in run("destinations", "test", "email", code=4).output
    server = smtp()
    monkeypatch.setenv("SMTP_HOST", server.host)
    monkeypatch.setenv("SMTP_PORT", str(server.port))
    monkeypatch.setenv("SMTP_SECURITY", "none")
    assert run("destinations", "test", "email").stdout.startswith("ok     Connect to ")
    assert server.received() == []


@pytest.mark.parametrize(("method", "problem"), [("fax", "choose from download"), ("download", "nothing to test")])
def test_what_cannot_be_tested_is_refused(run: Run, method: str, problem: str) -> None:
    assert problem in run("destinations", "test", method, code=2).output


def test_entries_come_from_both_options() -> None:
    entry = {"method": "folder", "folder": "nas"}
    assert DeliveryOptions(email=["ann@example.com"], deliver=[json.dumps(entry)]).given()["delivery"] == [
        {"method": "email", "recipients": ["ann@example.com"]},
        entry,
    ]
    assert DeliveryOptions().given() == {}


@pytest.mark.parametrize("text", ["folder", "[]", '"folder"', "{"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(RequestRejected, match=r"^--deliver: "):
        DeliveryOptions(deliver=[text]).given()
