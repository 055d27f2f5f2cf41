"""``keys`` and ``audit`` at the command line, and the lines that commands leave in the audit log."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.access import Caller, Role
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.audit import AuditEntry, AuditLog
from export_pipelines.stores.audit_chain import verify_chain
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.requests import RequestStore

ME = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
Run = Callable[..., Result]


@pytest.fixture
def run(control_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on an empty control database; the source is never asked."""
    monkeypatch.setenv("EXPORT_CONTROL_URL", control_url)
    monkeypatch.setenv("EXPORT_SOURCE_URL", "postgresql://nobody@127.0.0.1:9/void")
    monkeypatch.setenv("EXPORT_HOME", str(tmp_path))

    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == code, done.output
        return done

    return command


def entries(url: str) -> list[AuditEntry]:
    with closing(ControlDatabase(url)) as control:
        assert verify_chain(control).valid
        return list(AuditLog(control).stream())


def test_a_key_works_until_it_is_revoked_and_the_log_tells_both(run: Run, control_url: str) -> None:
    words = ("--role", "member", "--tenant", "t", "--user", "ann", "--name", "nightly", "--expires-in-days", "90")
    made = json.loads(run("keys", "create", *words, "--json").stdout)
    with closing(ControlDatabase(control_url)) as control:
        caller = Caller(role=Role.MEMBER, tenant_id="t", user_id="ann", credential=f"key:{made['id']}")
        assert ApiKeyStore(control).authenticate(made["key"]) == caller
        run("keys", "revoke", made["id"])
        assert ApiKeyStore(control).authenticate(made["key"]) is None
    assert [(e.action, e.target_id, e.tenant_id, e.user_id, e.credential) for e in entries(control_url)] == [
        ("key.create", made["id"], "t", ME, "cli"),
        ("key.revoke", made["id"], "t", ME, "cli"),
    ]
    reported = json.loads(entries(control_url)[0].detail)
    assert (reported["for_role"], reported["for_user"], reported["name"]) == ("member", "ann", "nightly")
    assert reported["hint"] == made["key"][-4:]
    assert made["key"] not in str(entries(control_url))


def test_only_the_key_goes_to_standard_output(run: Run) -> None:
    done = run("keys", "create", "--role", "operator")
    assert done.stdout.startswith("epk_")
    assert len(done.stdout.split()) == 1
    assert "it is not shown again" in done.stderr


def test_a_list_of_keys_shows_no_key(run: Run) -> None:
    key = run("keys", "create", "--role", "admin", "--tenant", "t").stdout.strip()
    run("keys", "create", "--role", "admin", "--tenant", "u")
    listed = run("keys", "list", "--tenant", "t").stdout
    assert (key[-4:] in listed, key in listed, "active" in listed) == (True, False, True)
    (shown,) = json.loads(run("keys", "list", "--tenant", "t", "--json").stdout)
    assert (shown["tenant_id"], shown["state"], shown["created_by"]) == ("t", "active", ME)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("keys", "create", "--role", "root"), "'root' is not one of"),
        (("keys", "create", "--role", "member", "--tenant", "t"), "user: is needed with the role member"),
        (("keys", "create", "--role", "operator", "--tenant", "t"), "an operator belongs to no tenant"),
        (("keys", "revoke", "7"), "keys list"),
        (("audit", "list", "--from", "yesterday"), "--from: 'yesterday' is no day or instant"),
        (("audit", "verify", "--head", "7"), "--head: must be ID:HASH"),
        (("audit", "head"), "the audit log is empty"),
    ],
)
def test_wrong_input_is_named_and_leaves_no_entry(
    run: Run, control_url: str, words: tuple[str, ...], problem: str
) -> None:
    assert problem in " ".join(run(*words, code=2).stderr.split())
    assert entries(control_url) == []


def test_what_people_do_to_requests_is_in_the_log(run: Run, control_url: str) -> None:
    with closing(ControlDatabase(control_url)) as control:
        request_id = RequestStore(control).insert(tenant_id="t", config={"format": "csv", "tables": ["pets"]})
    run("requests", "cancel", request_id)
    run("requests", "retry", request_id)
    run("requests", "retry", request_id, code=2)
    assert [(e.action, e.target_type, e.target_id, e.tenant_id, e.detail) for e in entries(control_url)] == [
        ("export.cancel", "export", request_id, "t", "{}"),
        ("export.retry", "export", request_id, "t", '{"attempt":2}'),
    ]


def test_what_is_not_in_the_log_did_not_happen(run: Run, control_url: str) -> None:
    """One transaction: where the entry cannot be written, the key is not made."""
    with psycopg.connect(control_url) as connection:
        connection.execute("ALTER TABLE export_control.audit_log ADD CONSTRAINT full_up CHECK (id < 2)")
    run("keys", "create", "--role", "operator")
    run("keys", "create", "--role", "operator", code=2)
    assert len(json.loads(run("keys", "list", "--json").stdout)) == 1


def test_the_chain_is_proved_and_a_noted_head_finds_a_cut_end(run: Run, control_url: str) -> None:
    for _ in range(3):
        run("keys", "create", "--role", "operator")
    head = run("audit", "head").stdout.strip()
    assert run("audit", "verify", "--head", head).stdout == f"valid: 3 entries, head {head}\n"
    with psycopg.connect(control_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM export_control.audit_log WHERE id = 3")
    run("audit", "verify")
    done = run("audit", "verify", "--head", head, code=3)
    assert "NOT VALID: the log ends with entry 2, and had 3 when the head was noted (truncated)" in done.stdout
    reported = json.loads(run("audit", "verify", "--head", head, "--json", code=3).stdout)
    assert (reported["valid"], reported["broken"]["damage"]) == (False, "truncated")


def test_the_log_is_listed_and_handed_out(run: Run) -> None:
    for tenant in ("t", "u"):
        run("keys", "create", "--role", "admin", "--tenant", tenant)
    assert "key.create" in run("audit", "list", "--tenant", "u").stdout
    lines = run("audit", "list", "--format", "ndjson", "--from", "2020-01-01").stdout.splitlines()
    assert [json.loads(line)["tenant_id"] for line in lines] == ["t", "u"]
    assert len(run("audit", "list", "--format", "csv", "--tenant", "t").stdout.splitlines()) == 2
    assert run("audit", "list", "--format", "ndjson", "--to", "2020-01-01").stdout == ""
