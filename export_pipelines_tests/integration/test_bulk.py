"""Bulk orders through the API and the command line: who may, what they become, how far they are."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from export_pipelines.cli import app as program
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.status import RequestStatus, status_of_all
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.stores.audit import AuditFilter, AuditLog
from export_pipelines.stores.batches import BatchStore
from export_pipelines_tests.api.inside import inside
from export_pipelines_tests.workshop import TENANTS, Workshop

CALLERS = {
    "member": Caller(role=Role.MEMBER, tenant_id=TENANTS[0], user_id="ann", credential="key"),
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
    "stranger": Caller(role=Role.ADMIN, tenant_id=TENANTS[1], user_id="eve", credential="key"),
    "operator": Caller(role=Role.OPERATOR, credential="key"),
}
BACKUP = {"export_type": "full_backup", "format": ["csv", "parquet"], "partitioning": {"parallel_jobs": 2}}
BULK = "/api/v1/exports/bulk"
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(workshop: Workshop) -> Iterator[Ask]:
    """``ask(who, method, path, **options)``."""
    with inside(workshop.settings, CALLERS) as made:
        yield made.ask


def test_a_bulk_order_is_a_request_for_each_format_and_tells_how_far_they_are(workshop: Workshop, ask: Ask) -> None:
    answer = ask("admin", "POST", BULK, json=BACKUP, headers={"Idempotency-Key": "once"})
    assert answer.status_code == 202, answer.text
    reported = answer.json()
    assert reported["total_tables"] == len(workshop.catalog.tables)
    assert reported["estimated_total_size_gb"] > 0
    assert ask("admin", "POST", BULK, json=BACKUP, headers={"Idempotency-Key": "once"}).json() == reported
    assert len(workshop.services.requests.list()) == 2
    url = answer.headers["Location"].removeprefix("http://127.0.0.1:3001")
    path = url[url.index("/api") :]
    before = ask("admin", "GET", path).json()
    assert (before["status"], before["progress"]["percentage"]) == ("queued", 0)
    for number, job in enumerate(reported["job_ids"]):
        workshop.run(job)
        halfway = ask("admin", "GET", path).json()
        assert halfway["status"] == ("processing", "completed")[number]
    assert halfway["progress"]["percentage"] == 100
    assert {job["format"] for job in halfway["jobs"]} == {"csv", "parquet"}
    assert len({job["rows"] for job in halfway["jobs"]}) == 1
    replayed, entry = AuditLog(workshop.services.measures.control).list(AuditFilter(action="batch.create"))
    assert json.loads(replayed.detail) == {"replayed": True}
    assert (entry.action, entry.target_type, entry.target_id) == ("batch.create", "batch", reported["batch_id"])
    assert json.loads(entry.detail)["jobs"] == reported["job_ids"]


@pytest.mark.parametrize(
    ("who", "order", "status"),
    [
        ("member", BACKUP, 403),
        ("operator", BACKUP, 403),
        ("admin", {**BACKUP, "tables": ["no_such"]}, 422),
        ("admin", {**BACKUP, "format": []}, 202),
        ("admin", {**BACKUP, "partitioning": {"parallel_jobs": 9}}, 422),
        ("admin", {**BACKUP, "point_in_time": "2026-01-01T00:00:00Z"}, 422),
        ("admin", {"export_type": "migration", "format": "xml"}, 422),
        ("admin", {"export_type": "audit", "tables": ["pets"]}, 422),
        ("admin", {"export_type": "selective", "tables": ["pets"]}, 422),
    ],
)
def test_orders_are_for_admins_and_checked_before_anything_is_made(
    workshop: Workshop, ask: Ask, who: str, order: dict[str, Any], status: int
) -> None:
    answer = ask(who, "POST", BULK, json=order)
    assert answer.status_code == status, answer.text
    assert len(workshop.services.requests.list()) == (1 if status == 202 else 0)


def test_a_member_gets_no_backup_through_the_door_for_single_exports(workshop: Workshop, ask: Ask) -> None:
    answer = ask("member", "POST", "/api/v1/exports/jobs", json={"export_type": "full_backup", "format": "csv"})
    assert answer.status_code == 403, answer.text


@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("jobs", lambda config: config),
        ("estimate", lambda config: config),
        ("templates", lambda config: {"name": "Of the past", "config": config}),
    ],
)
def test_a_point_in_time_before_the_first_snapshot_is_refused_at_every_door(
    workshop: Workshop, ask: Ask, path: str, around: Callable[[Any], Any]
) -> None:
    config = {"export_type": "full_backup", "format": "csv", "point_in_time": "2000-01-01T00:00:00Z"}
    answer = ask("admin", "POST", f"/api/v1/exports/{path}", json=around(config))
    assert (answer.status_code, answer.json()["field"]) == (422, "point_in_time"), answer.text
    assert "no snapshot at or before 2000-01-01" in answer.json()["detail"]
    assert workshop.services.requests.list() == []


def test_a_batch_is_seen_by_its_tenants_admins_alone(workshop: Workshop, ask: Ask) -> None:
    batch = ask("admin", "POST", BULK, json=BACKUP).json()["batch_id"]
    path = f"/api/v1/exports/batches/{batch}"
    assert ask("admin", "GET", path).status_code == 200
    assert ask("stranger", "GET", path).status_code == 404
    assert ask("admin", "GET", f"/api/v1/exports/batches/{uuid4()}").status_code == 404
    assert ask("member", "GET", path).status_code == ask("operator", "GET", path).status_code == 403


def test_no_request_joins_the_batch_of_another_tenant(workshop: Workshop, control_url: str) -> None:
    batch = BatchStore(workshop.services.measures.control).insert(
        tenant_id=TENANTS[1], requested_by=None, export_type="audit", total_tables=5
    )
    with psycopg.connect(control_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(
            "INSERT INTO export_control.export_requests (tenant_id, config, batch_id) VALUES (%s, %s, %s)",
            (TENANTS[0], json.dumps({"tables": ["pets"], "format": "csv"}), batch),
        )


def test_a_password_of_a_bulk_order_is_sealed(workshop: Workshop, ask: Ask, control_url: str) -> None:
    password = "correct horse battery staple"
    order = {**BACKUP, "format": "csv", "encryption": {"method": "AES256", "password": password}}
    (job,) = ask("admin", "POST", BULK, json=order).json()["job_ids"]
    assert workshop.services.requests.password_of(job).get_secret_value() == password
    with psycopg.connect(control_url) as connection:
        kept = connection.execute("SELECT config::text FROM export_control.export_requests").fetchall()
    assert password not in str(kept)


S = RequestStatus


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ([S.QUEUED, S.QUEUED], S.QUEUED),
        ([S.QUEUED, S.COMPLETED], S.PROCESSING),
        ([S.FAILED, S.PROCESSING], S.PROCESSING),
        ([S.COMPLETED, S.FAILED, S.CANCELLED], S.FAILED),
        ([S.COMPLETED, S.CANCELLED], S.CANCELLED),
        ([S.COMPLETED, S.EXPIRED], S.EXPIRED),
        ([S.COMPLETED, S.COMPLETED], S.COMPLETED),
    ],
)
def test_a_batch_is_what_its_requests_are_together(statuses: list[RequestStatus], together: RequestStatus) -> None:
    assert status_of_all(statuses) is together


# Audit packages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["ndjson", "csv"])
def test_an_audit_package_tells_what_the_service_did_for_one_tenant(
    workshop: Workshop, ask: Ask, control_url: str, format_: str
) -> None:
    ask("stranger", "POST", "/api/v1/exports/jobs", json={"tables": ["pets"], "format": "csv", "name": "THEIRS"})
    ours = ask("member", "POST", "/api/v1/exports/jobs", json={"tables": ["pets"], "format": "csv"}).json()["job_id"]
    workshop.run(ours)
    paused, _ = (_paused(control_url, tenant) for tenant in TENANTS[:2])
    (job,) = ask("admin", "POST", BULK, json={"export_type": "audit", "format": format_}).json()["job_ids"]
    workshop.run(job)
    done = workshop.services.requests.get(job)
    assert (done.status, done.error_message) == ("completed", None)
    folder = workshop.package(done)
    found = verify_package(folder, find_format)
    assert found.valid, found.problems
    assert found.signature.key_id
    assert all(b"THEIRS" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    rows = {path.name.partition(".")[0]: _rows(path.read_text(), format_) for path in (folder / "data").iterdir()}
    assert set(rows) == {"exports", "export_events", "export_files", "export_deliveries", "audit_log"}
    assert {row["id"] for row in rows["exports"]} == {ours, job}
    assert {row["request_id"] for row in rows["export_files"]} == {ours}
    assert [row["schedule_id"] for row in rows["export_deliveries"]] == [paused]
    with psycopg.connect(control_url) as connection:
        logged = connection.execute(
            "SELECT id, encode(hash, 'hex') FROM export_control.audit_log WHERE tenant_id = %s ORDER BY id",
            (TENANTS[0],),
        ).fetchall()
    assert sorted((int(row["id"]), row["hash"].removeprefix("\\x")) for row in rows["audit_log"]) == logged != []
    states = [row["new_status"] for row in rows["export_events"] if row["request_id"] == ours]
    assert states == ["queued", "processing", "completed"]


def _paused(control_url: str, tenant: str) -> str:
    """The id of a schedule that the service paused, of which there is a notice and no request."""
    with psycopg.connect(control_url) as connection:
        (made,) = connection.execute(
            """
            INSERT INTO export_control.export_schedules (tenant_id, owner, name, config, cron, timezone, next_fire_at)
            VALUES (%s, 'ann@example.com', 'Nightly', '{}', '0 3 * * *', 'Mars/Olympus', now()) RETURNING id::text
            """,
            (tenant,),
        ).fetchall()
        connection.execute("SELECT export_control.pause_schedule(%s, 'no such timezone', '{}')", made)
        return str(made[0])


def _rows(text: str, format_: str) -> list[dict[str, Any]]:
    if format_ == "csv":
        return list(csv.DictReader(io.StringIO(text)))
    return [json.loads(line) for line in text.splitlines()]


# Command line -----------------------------------------------------------------------------------------------------


def test_the_command_line_backs_up_and_shows_the_batch(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, control_url: str
) -> None:
    for name, value in {
        "EXPORT_SOURCE_URL": workshop.settings.require_source_url(),
        "EXPORT_CONTROL_URL": control_url,
        "EXPORT_HOME": str(workshop.settings.home),
    }.items():
        monkeypatch.setenv(name, value)
    workshop.export({"export_type": "full_backup", "tables": ["pets"], "format": "csv"})
    batch = BatchStore(workshop.services.measures.control).insert(
        tenant_id=TENANTS[0], requested_by="cli", export_type="full_backup", total_tables=1
    )
    shown = CliRunner().invoke(program, ["batches", "show", batch])
    assert shown.exit_code == 0, shown.output
    assert "full_backup of 1 tables" in shown.output
    refused = CliRunner().invoke(program, ["bulk", "--type", "migration", "--tenant", "x", "--format", "xlsx"])
    assert (refused.exit_code, "cannot be loaded" in refused.output) == (2, True)


@pytest.mark.parametrize("option", [("--no-include-deleted",), ("--parallel-jobs", "4"), ("--tables", "pets")])
def test_the_command_line_refuses_for_an_audit_what_the_api_does(option: tuple[str, ...]) -> None:
    """Rather than leave out in silence what somebody has asked for."""
    refused = CliRunner().invoke(program, ["bulk", "--type", "audit", "--tenant", "x", *option])
    assert (refused.exit_code, "leave tables out" in refused.output or "go with full_backup" in refused.output) == (
        2, True
    )  # fmt: skip
