"""The API from outside: who gets in, how often, and what the audit log says about it afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest

from export_pipelines.core.access import Role
from export_pipelines.core.api_keys import new_key
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.audit import AuditEntry, AuditLog
from export_pipelines.stores.audit_chain import verify_chain
from export_pipelines.stores.control import ControlDatabase
from export_pipelines_tests.control_database import emptied
from export_pipelines_tests.servers.processes import HOST, ServerProcess, accepts, await_ready, ports

JOBS, AUDIT = "/api/v1/exports/jobs", "/api/v1/audit"
PETS = {"tables": ["pets"], "format": "csv"}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("api_access")


@pytest.fixture
def control(migrated: str) -> Iterator[ControlDatabase]:
    with closing(ControlDatabase(emptied(migrated))) as made:
        yield made


@pytest.fixture(scope="module")
def address(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running API with a limit of three exports an hour; no Dagster to launch anything."""
    [port] = ports(1)
    folder = tmp_path_factory.mktemp("api")
    environment = {
        "EXPORT_CONTROL_URL": migrated,
        "EXPORT_HOME": str(folder),
        "EXPORT_DAGSTER_URL": NOWHERE,
        "EXPORT_RATE_LIMIT": "3/h",
        "EXPORT_TRUSTED_PROXIES": "127.0.0.1",
    }
    server = ServerProcess("api", ["-m", "export_pipelines", "api", "--port", str(port)], folder, environment)
    try:
        await_ready(lambda: accepts(port), [server])
        yield f"http://{HOST}:{port}"
    finally:
        server.stop()


@pytest.fixture
def client(address: str, control: ControlDatabase) -> Iterator[httpx.Client]:
    """Somebody behind a proxy on this machine."""
    headers = {"User-Agent": "test/1", "X-Forwarded-For": "192.0.2.7"}
    with httpx.Client(base_url=address, headers=headers, timeout=30) as made:
        yield made


@pytest.fixture
def key(control: ControlDatabase) -> Callable[..., dict[str, str]]:
    """``key(role, tenant, user)`` makes one; its header."""

    def make(role: str = "admin", tenant: str | None = "t", user: str | None = "ann") -> dict[str, str]:
        keys = ApiKeyStore(control)
        made = keys.create(role=Role(role), tenant_id=tenant, user_id=user, created_by="test")[1]
        return {"Authorization": f"Bearer {made}"}

    return make


Key = Callable[..., dict[str, str]]


def lines(control: ControlDatabase) -> list[AuditEntry]:
    assert verify_chain(control).valid
    return list(AuditLog(control).stream())


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        (None, 'Bearer realm="export-pipelines"'),
        ("Basic YTpi", 'Bearer realm="export-pipelines", error="invalid_request"'),
        (f"Bearer {new_key()}", 'Bearer realm="export-pipelines", error="invalid_token"'),
        ("Bearer a.b.c", 'Bearer realm="export-pipelines", error="invalid_token"'),
    ],
    ids=["nothing", "other scheme", "unknown key", "no token"],
)
@pytest.mark.parametrize("path", [JOBS, AUDIT, f"{JOBS}/{uuid4()}/download"], ids=["jobs", "audit", "download"])
def test_nobody_gets_in_without_a_credential(client: httpx.Client, path: str, header: str | None, hint: str) -> None:
    answer = client.get(path, headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, hint)
    assert answer.json()["type"].endswith("not-authenticated")


def test_an_address_that_fails_too_often_is_told_to_wait(client: httpx.Client, key: Key) -> None:
    right = key()
    for _ in range(20):
        assert client.get(JOBS, headers={"Authorization": f"Bearer {new_key()}"}).status_code == 401
    answer = client.get(JOBS, headers={"Authorization": f"Bearer {new_key()}"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert client.get(JOBS, headers=right).status_code == 200


def test_the_limit_is_told_with_every_order_and_ends_in_429(
    client: httpx.Client, control: ControlDatabase, key: Key
) -> None:
    answers = [client.post(JOBS, json=PETS, headers=key()) for _ in range(5)]  # each time with another key of hers
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"exports";q=3;w=3600'}
    assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers[:4]] == [
        '"exports";r=2', '"exports";r=1', '"exports";r=0', '"exports";r=0'
    ]  # fmt: skip
    assert 1190 <= int(answers[4].headers["Retry-After"]) <= 1200
    assert answers[4].json()["detail"] == "the limit is 3 exports in 1 hour; try again in 20 minutes"
    assert client.post(JOBS, json=PETS, headers=key(user="bob")).status_code == 202
    assert len(control.rows("SELECT id FROM export_control.export_requests")) == 4
    assert [entry.outcome for entry in lines(control)] == ["ok"] * 4


def test_an_order_that_is_refused_or_repeated_does_not_count(client: httpx.Client, key: Key) -> None:
    ann = key()
    for _ in range(5):
        assert client.post(JOBS, json={**PETS, "tables": ["petz"]}, headers=ann).status_code == 422
    again = {**ann, "Idempotency-Key": "k-1"}
    for _ in range(5):
        assert client.post(JOBS, json=PETS, headers=again).status_code == 202
    assert client.post(JOBS, json=PETS, headers=ann).headers["RateLimit"].startswith('"exports";r=1;')


def test_what_a_caller_does_is_in_the_log_with_who_and_where_from(
    client: httpx.Client, control: ControlDatabase, key: Key
) -> None:
    ann = key(role="member")
    made = client.post(JOBS, json={**PETS, "name": "hunter2"}, headers={**ann, "X-Request-ID": "r-1"}).json()["job_id"]
    client.get(f"{JOBS}/{made}", headers=ann)
    client.post(f"{JOBS}/{made}/cancel", headers=ann)
    client.post(f"{JOBS}/{made}/cancel", headers=ann)
    client.post(f"{JOBS}/{made}/retry", headers=ann)
    client.get(f"{JOBS}/{made}/download", headers=ann)
    found = lines(control)
    assert [(entry.action, entry.outcome) for entry in found] == [
        ("export.create", "ok"),
        ("export.cancel", "ok"),
        ("export.cancel", "refused"),
        ("export.retry", "ok"),
        ("export.download", "refused"),
    ]
    assert {entry.target_id for entry in found} == {made}
    first = found[0]
    assert (first.tenant_id, first.user_id, first.role, first.ip, first.user_agent, first.http_request_id) == (
        "t", "ann", "member", "192.0.2.7", "test/1", "r-1"
    )  # fmt: skip
    assert str(first.credential).startswith("key:")
    assert json.loads(first.detail) == {"format": "csv"}
    assert json.loads(found[2].detail) == {"error": "Conflict"}


def test_whoever_reaches_for_a_foreign_export_leaves_a_line_of_its_own(
    client: httpx.Client, control: ControlDatabase, key: Key
) -> None:
    made = client.post(JOBS, json=PETS, headers=key()).json()["job_id"]
    eve = key(tenant="u", user="eve")
    assert client.get(f"{JOBS}/{made}/download", headers=eve).status_code == 404
    assert client.post(f"{JOBS}/{made}/cancel", headers=key("operator", None, "oscar")).status_code == 403
    assert [(e.action, e.tenant_id, e.user_id, e.outcome, e.target_id) for e in lines(control)[1:]] == [
        ("export.download", "u", "eve", "refused", made),
        ("export.cancel", None, "oscar", "refused", made),
    ]


def test_an_order_without_its_line_is_not_taken(client: httpx.Client, control: ControlDatabase, key: Key) -> None:
    ann = key()
    control.rows("ALTER TABLE export_control.audit_log ADD CONSTRAINT full_up CHECK (action <> 'export.create')")
    try:
        assert client.post(JOBS, json=PETS, headers=ann).status_code >= 400
    finally:
        control.rows("ALTER TABLE export_control.audit_log DROP CONSTRAINT full_up")
    assert control.rows("SELECT id FROM export_control.export_requests") == []


def test_the_log_is_read_page_by_page_and_the_reading_is_in_it(client: httpx.Client, key: Key) -> None:
    ann = key()
    for _ in range(3):
        client.post(JOBS, json=PETS, headers=ann)
    first = client.get(AUDIT, params={"limit": 2, "action": "export.create"}, headers=ann)
    assert [entry["id"] for entry in first.json()["entries"]] == [3, 2]
    following = httpx.URL(first.links["next"]["url"]).raw_path.decode()
    second = client.get(following, headers=ann).json()
    assert ([entry["id"] for entry in second["entries"]], second["next_cursor"]) == ([1], None)
    seen = client.get(AUDIT, params={"action": "audit.read"}, headers=ann).json()["entries"]
    assert [entry["id"] for entry in seen] == [5, 4]


@pytest.mark.parametrize(
    ("role", "tenant", "tenants"), [("admin", "t", {"t"}), ("admin", "u", {"u"}), ("operator", None, {"t", "u", None})]
)
@pytest.mark.parametrize("form", ["json", "ndjson", "csv"])
def test_the_log_shows_what_the_role_may_see(
    client: httpx.Client, key: Key, role: str, tenant: str | None, tenants: set[Any], form: str
) -> None:
    for number in ("t", "u"):
        client.post(JOBS, json=PETS, headers=key(tenant=number))
    reader = key(role, tenant, "reader")
    client.get(AUDIT, headers=reader)
    answer = client.get(AUDIT, params={"format": form}, headers=reader)
    if form == "json":
        assert {entry["tenant_id"] for entry in answer.json()["entries"]} == tenants
    elif form == "ndjson":
        assert {json.loads(line)["tenant_id"] for line in answer.text.splitlines()} == tenants
    else:
        assert {line.split(",")[2] or None for line in answer.text.splitlines()[1:]} == tenants


def test_members_do_not_see_the_log(client: httpx.Client, key: Key) -> None:
    assert client.get(AUDIT, headers=key("member")).status_code == 403
