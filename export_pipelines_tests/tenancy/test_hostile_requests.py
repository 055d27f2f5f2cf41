"""Orders from somebody who wants to harm: none may stop the others, or speak to the operator's terminal."""

from __future__ import annotations

import datetime as dt
import io
import time
import traceback
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import build_sensor_context
from rich.console import Console
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.commands import output
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.model import TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.embedded.workplace import prepared
from export_pipelines.formats.registry import all_formats
from export_pipelines.orchestration.sensors import export_requests
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.progress import RunProgress
from export_pipelines.sources.session import connected
from export_pipelines_tests.workshop import TENANTS, Workshop

PETS = '"tables": ["pets"], "format": "csv"'
UNREADABLE = {
    "an integer of 5,000 digits": f'{{{PETS}, "x": 1e5000}}',
    "a negative one": f'{{{PETS}, "options": {{"csv_profile": -1e5000}}}}',
    "one of 30,000 digits as a list": f'{{{PETS}, "delivery": [1e30000]}}',
}
TERMINAL = "\x1b]0;mine\x07\x1b[2J\x9b31m[/x][bold]\nforged\u202e"
MANY_DOTS = "a@" + "." * 60_000 + " "


def insert(control_url: str, tenant: str, config: str, requested_by: str = "host") -> str:
    with psycopg.connect(control_url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO export_control.export_requests (tenant_id, config, requested_by) VALUES (%s, %s, %s) "
            "RETURNING id::text",
            (tenant, config, requested_by),
        ).fetchone()
    assert row is not None
    return str(row[0])


def asked_for(workshop: Workshop) -> list[str]:
    with build_sensor_context(
        instance=workshop.instance, resources=workshop.definitions.resources, definitions=workshop.definitions
    ) as context:
        ticked = export_requests.evaluate_tick(context)
    return [request.tags["export/request"] for request in ticked.run_requests or ()]


@pytest.mark.parametrize("config", UNREADABLE.values(), ids=UNREADABLE)
def test_a_number_that_python_cannot_read_does_not_stop_the_requests_of_others(
    workshop: Workshop, control_url: str, config: str
) -> None:
    hostile = insert(control_url, TENANTS[1], config)
    honest = workshop.order({"tables": ["pets"], "format": "csv"})
    assert set(asked_for(workshop)) == {hostile, honest}
    workshop.run(hostile)
    assert workshop.services.requests.get(hostile).error_type == "request_rejected"
    workshop.run(honest)
    assert workshop.services.requests.get(honest).status == "completed"


@pytest.mark.parametrize(
    "tenant", ["a\nb", "\x1b[2J", "{{x}}|...", "'; DROP TABLE x; --", "é\u202e", "x" * 200, "../.."]
)
def test_a_hostile_tenant_id_gets_a_run_of_its_own_and_no_rows(
    workshop: Workshop, control_url: str, tenant: str
) -> None:
    hostile = insert(control_url, tenant, f"{{{PETS}}}")
    honest = workshop.order({"tables": ["pets"], "format": "csv"})
    assert set(asked_for(workshop)) == {hostile, honest}
    workshop.run(hostile)
    request = workshop.services.requests.get(hostile)
    assert (request.status, request.error_type) == ("failed", "request_rejected")
    assert workshop.object_keys() == []


@pytest.mark.parametrize(
    "other", [TENANTS[1].replace("-", ""), TENANTS[1].upper() + " ", f"{{{TENANTS[1]}}}", "1", "*"]
)
def test_another_spelling_of_a_tenants_id_is_not_that_tenant(workshop: Workshop, other: str) -> None:
    request = workshop.export({"tables": ["pets"], "format": "csv"}, other)
    assert request.error_type == "request_rejected"
    assert "is not among the tenants" in str(request.error_message)


@pytest.mark.parametrize("command", [["requests", "list"], ["requests", "show"]])
def test_words_of_others_neither_break_nor_steer_the_operators_terminal(
    workshop: Workshop, control_url: str, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    hostile = insert(control_url, TERMINAL, '{"tables": ["[/x]"], "format": "csv", "name": "[/x]"}', TERMINAL)
    workshop.run(hostile)
    monkeypatch.setenv("EXPORT_HOME", str(workshop.settings.home))
    heard = io.StringIO()
    monkeypatch.setattr(output, "out", Console(file=heard, highlight=False, soft_wrap=True, width=240))
    done = CliRunner().invoke(app, [*command, hostile] if command[-1] == "show" else command)
    assert done.exception is None, done.exception
    said = heard.getvalue()
    assert "[/x]" in said
    assert not any(char in said for char in "\x1b\x07\x9b\u202e")
    assert "\nforged" not in said


@pytest.mark.parametrize("text", ["[/x]", "\\[/x]", "[link=http://evil]a[/]", "\x1b]0;x\x07", "a\u202eb"])
def test_an_error_is_said_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=heard, highlight=False, soft_wrap=True, width=240))
    with pytest.raises(BaseException) as ended:  # noqa: PT011 - typer.Exit is a RuntimeError of click's
        output.stop(text, "request_rejected", as_json=False)
    assert getattr(ended.value, "exit_code", None) == output.BAD_REQUEST
    assert heard.getvalue() == f"error {output.plain(text)}\n"
    assert "\x1b" not in heard.getvalue()


def plan(config: dict[str, Any], workshop_catalog: Any) -> None:
    plan_export(
        parse_configuration(config),
        workshop_catalog,
        request_id="x",
        attempt=1,
        scope=TenantScope(tenant_id="1"),
        requested_at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
        formats=all_formats(),
        codecs=CODECS,
        destinations=all_destinations(),
    )


@pytest.mark.parametrize(
    "recipient",
    [
        MANY_DOTS,
        "a@b.c\n",
        "a@b.c\r\nBcc: x@y.z",
        "a@b.c\x00",
        "\x01a@b.c",
        "a@b.c,d@e.f",
        "a@b..c",
        "a@.c",
        "a" * 400 + "@b.c",
    ],
    ids=range(9),
)
def test_what_is_not_one_address_is_refused_at_once(workshop: Workshop, recipient: str) -> None:
    config = {"tables": ["pets"], "format": "csv", "delivery": [{"method": "email", "recipients": [recipient]}]}
    started = time.process_time()
    with pytest.raises(RequestRejected, match="recipients"):
        plan(config, workshop.catalog)
    assert time.process_time() - started < 1


def test_a_link_ends_with_its_package(workshop: Workshop, control_url: str) -> None:
    request = workshop.export({"tables": ["pets"], "format": "csv"})
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=3650)
    token, _ = workshop.services.links.make(request.id, expires_at=later)
    assert workshop.services.links.follow(token) is not None
    with psycopg.connect(control_url, autocommit=True) as connection:
        connection.execute(
            "UPDATE export_control.export_requests SET expires_at = now() - interval '1 second' WHERE id = %s",
            (request.id,),
        )
    assert workshop.services.links.follow(token) is None


def test_a_cancelled_export_publishes_nothing_even_while_its_files_are_read_back(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, reported = RunProgress.advance, []

    def cancelling(progress: RunProgress, *, table: str, rows: int) -> None:
        if progress.step == "validate" and rows and not reported:
            reported.append(table)
            workshop.services.requests.request_cancel(request_id)
            progress.stop = "cancelled on request"
        advance(progress, table=table, rows=rows)

    monkeypatch.setattr(RunProgress, "advance", cancelling)
    request_id = workshop.order({"tables": ["pets"], "format": "csv"})
    workshop.run(request_id)
    request = workshop.services.requests.get(request_id)
    assert (request.status, request.error_type) == ("cancelled", "cancelled")
    assert workshop.object_keys() == []


@pytest.mark.parametrize("url", ["postgres//u:geheim@h/db", "postgresql://u:ge heim@h/db", "host=h password=geheim x"])
def test_a_url_that_cannot_be_parsed_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(RequestRejected) as refused, connected(url):
        pass
    assert "heim" not in "".join(traceback.format_exception(refused.value))


def test_no_other_account_of_the_machine_can_enter_what_holds_rows(workshop: Workshop, tmp_path: Path) -> None:
    home = tmp_path / "other home"
    with prepared(workshop.settings.model_copy(update={"home": home})):
        modes = {name: (home / name).stat().st_mode & 0o777 for name in ("dagster", "objects")}
    assert modes == {"dagster": 0o700, "objects": 0o700}
