"""``schedules`` at the command line, on a real control database; the source is never asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from export_pipelines.cli import app

Run = Callable[..., Result]
PETS = ("create", "--tenant", "t", "--name", "Pets", "--tables", "pets", "--format", "csv")


@pytest.fixture
def run(control_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EXPORT_CONTROL_URL", control_url)
    monkeypatch.setenv("EXPORT_SOURCE_URL", "postgresql://nobody@127.0.0.1:9/void")
    monkeypatch.setenv("EXPORT_HOME", str(tmp_path))

    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, ["schedules", *words])
        assert done.exit_code == code, done.output
        return done

    return command


def test_a_schedule_is_saved_shown_paused_resumed_run_and_deleted(run: Run, control_url: str) -> None:
    words = (*PETS, "--cron", "30 2 * * 1-5", "--timezone", "Europe/Berlin", "--window", "last_7_days", "--json")
    made = json.loads(run(*words).stdout)
    assert (made["cron"], made["timezone"], made["data_window"]) == (
        "30 2 * * 1-5",
        "Europe/Berlin",
        {"type": "last_n_days", "days": 7},
    )
    assert len(made["next_runs"]) == 5
    assert json.loads(run("show", made["id"], "--json").stdout)["name"] == "Pets"
    assert "30 2 * * 1-5" in run("show", made["id"]).stdout
    run("pause", made["id"])
    run("pause", made["id"], code=2)
    assert "paused" in run("list", "--tenant", "t").stdout
    assert run("resume", made["id"]).stdout.startswith("active; fires ")
    request = run("run", made["id"]).stdout.strip()
    with psycopg.connect(control_url) as connection:
        found = connection.execute("SELECT id::text, schedule_id::text FROM export_control.export_requests").fetchall()
        actions = connection.execute("SELECT action, target_id FROM export_control.audit_log ORDER BY id").fetchall()
    assert found == [(request, made["id"])]
    run("delete", made["id"])
    run("show", made["id"], code=2)
    assert json.loads(run("list", "--json").stdout) == []
    assert actions == [(f"schedule.{what}", made["id"]) for what in ("create", "pause", "resume", "run")]


def test_a_schedule_is_changed_in_what_is_given_and_stays_its_owners(run: Run, control_url: str, tmp_path: Any) -> None:
    (tmp_path / "password").write_text("correct horse battery")
    sealed = ("--encrypt", "aes256", "--password-file", str(tmp_path / "password"), "--pause-after", "0")
    fixed = ("--window", "fixed", "--since", "2026-01-01", "--until", "2026-02-01")
    made = json.loads(run(*PETS, "--cron", "30 2 * * *", *fixed, *sealed, "--json").stdout)
    assert made["data_window"] == {"type": "fixed", "start": "2026-01-01", "end": "2026-02-01"}
    assert made["pause_after"] is None
    with psycopg.connect(control_url) as connection:
        connection.execute("UPDATE export_control.export_schedules SET owner = 'ann', owner_role = 'member'")
    changes = ("--frequency", "weekly", "--day", "friday", "--until", "2026-03-01", "--jitter-seconds", "60")
    saved = json.loads(run("update", made["id"], *changes, "--json").stdout)
    changed = {name for name in made if made[name] != saved[name]} - {"updated_at", "next_fire_at", "next_runs"}
    assert changed == {"cron", "data_window", "jitter_seconds", "version", "owner", "owner_role"}
    assert (saved["cron"], saved["data_window"]["end"], saved["owner"]) == ("0 0 * * 5", "2026-03-01", "ann")
    assert saved["config"]["encryption"]["password"] == {"sealed": True}
    back = json.loads(run("update", made["id"], "--window", "previous_day", "--pause-after", "3", "--json").stdout)
    assert (back["data_window"], back["pause_after"]) == ({"type": "previous_day"}, 3)
    assert "cron" in run("update", made["id"], "--cron", "0 0 30 2 *", code=2).stderr
    assert "schedule_id" in run("update", "nobody", "--name", "x", code=2).stderr
    with psycopg.connect(control_url) as connection:
        actions = connection.execute("SELECT action FROM export_control.audit_log ORDER BY id").fetchall()
    assert actions == [("schedule.create",), ("schedule.update",), ("schedule.update",)]


def test_what_a_schedule_exports_is_changed_by_the_options_of_an_export(run: Run, tmp_path: Any) -> None:
    made = json.loads(run(*PETS, "--cron", "30 2 * * *", "--compression", "gzip", "--json").stdout)
    words = ("--format", "xlsx", "--compression", "none", "--email", "ann@example.com")
    other = json.loads(run("update", made["id"], *words, "--json").stdout)
    sources = made["config"]["data_sources"]
    assert (other["config"]["format"], other["config"]["data_sources"]) == ("xlsx", sources)
    assert other["config"]["delivery"] == [{"method": "email", "recipients": ["ann@example.com"]}]
    words = ("--tables", "invoices", "--fields", "invoices:id,status", "--include-deleted")
    selected = json.loads(run("update", made["id"], *words, "--json").stdout)["config"]
    (source,) = selected["data_sources"]
    assert (source["type"], source["fields"], source["filters"]) == (
        "invoices",
        ["id", "status"],
        {"include_deleted": True},
    )
    assert {name: selected[name] for name in selected if name != "data_sources"} == {
        name: other["config"][name] for name in other["config"] if name != "data_sources"
    }
    (tmp_path / "password").write_text("correct horse battery")
    words = ("--encrypt", "aes256", "--password-file", str(tmp_path / "password"))
    sealed = json.loads(run("update", made["id"], *words, "--json").stdout)["config"]
    assert sealed["encryption"] == {"method": "aes256", "recipients": [], "password": {"sealed": True}}
    assert "--tables" in run("update", made["id"], "--fields", "pets:name", code=2).stderr
    assert "format" in run("update", made["id"], "--format", "docx", code=2).stderr


def test_a_private_backup_takes_a_password_from_a_file(run: Run, tmp_path: Any, control_url: str) -> None:
    file = tmp_path / "password"
    file.write_text("correct horse battery\n")
    words = ("create", "--tenant", "t", "--name", "Backup", "--preset", "private_backup", "--encrypt", "aes256")
    made = json.loads(run(*words, "--password-file", str(file), "--json").stdout)
    assert (made["cron"], made["config"]["encryption"]["password"]) == ("0 0 * * *", {"sealed": True})
    assert "pets" in made["config"]["tables"]
    with psycopg.connect(control_url) as connection:
        assert "horse" not in str(
            connection.execute("SELECT s::text FROM export_control.export_schedules s").fetchall()
        )


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--cron", "0 0 30 2 *"), "cron"),
        (("--frequency", "weekly", "--day", "someday"), "day"),
        (("--cron", "0 0 * * *", "--window", "yesterday"), "window"),
        (("--cron", "0 0 * * *", "--window", "since_last_success"), "since_last_success needs a start"),
        (("--cron", "0 0 * * *", "--timezone", "Mars"), "timezone"),
        ((), "cron"),
        (("--cron", "0 0 * * *", "--window", "fixed", "--since", "2026-02-01", "--until", "2026-01-01"), "window.end"),
        (("--cron", "0 0 * * *", "--pause-after", "-1"), "pause_after_failures"),
        (("--cron", "0 0 * * *", "--jitter-seconds", "-1"), "jitter_seconds"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_opened(run: Run, words: tuple[str, ...], problem: str) -> None:
    assert problem in run(*PETS, *words, code=2).stderr


def test_fires_that_follow_too_soon_are_refused_unless_the_operator_allows_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    often, hourly = ("--cron", "*/5 * * * *"), ("--frequency", "hourly")
    assert "cron: '*/5 * * * *' fires again after 5 minutes; leave 15 minutes" in run(*PETS, *often, code=2).stderr
    run(*PETS, *hourly)
    monkeypatch.setenv("EXPORT_SCHEDULE_MIN_SECONDS", "300")
    run(*PETS, *often)
    monkeypatch.setenv("EXPORT_SCHEDULE_MIN_SECONDS", "7201")
    assert "frequency: " in run(*PETS, *hourly, code=2).stderr
