"""What the server wrote down, after an evening of attacks: lines for programs, and nothing worth stealing."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from export_pipelines.core.api_keys import new_key
from export_pipelines_tests.api.conftest import PASSWORD, running_api
from export_pipelines_tests.api.site import JOBS, PEOPLE, PETS, Made, Site
from export_pipelines_tests.servers.issuer import signed

SECRET_WORDS = ("hunter-two-hunter", "correct horse", "Pepper the row value")


@pytest.fixture(scope="module")
def attacked(site: Site) -> Made:
    """Everything that carries a secret, once rightly and once wrongly."""
    made = site.publish(files={"pets.csv": f"id,name\n1,{SECRET_WORDS[2]}\n".encode(), "manifest.json": b"{}\n"})
    encryption = {"method": "AES256", "password": SECRET_WORDS[0]}
    with site.client("ann") as client:
        client.post(JOBS, json={**PETS, "encryption": encryption})
        client.post(JOBS, json={**PETS, "encryption": {**encryption, "nonsense": SECRET_WORDS[0]}})
        client.post(JOBS, content=json.dumps({"password": SECRET_WORDS[0]})[:-1].encode())
        client.post(f"{JOBS}/{made.id}/retry", json={"password": SECRET_WORDS[0]})
        link = client.post(f"{JOBS}/{made.id}/share", json={"password": SECRET_WORDS[1]}).json()["url"]
        client.get(f"{JOBS}/{made.id}/download/0")
        client.get(f"{JOBS}/{made.id}", params={"token": SECRET_WORDS[0]}, headers={"User-Agent": SECRET_WORDS[0]})
    path = urlsplit(link).path
    site.secrets.append(path.removeprefix("/d/"))
    token = signed(site.private_key, "RS256", "k-1", iss="https://issuer.example", exp=1)
    wrong = new_key()
    site.secrets.extend((token, wrong, "a.secret.token"))
    with site.client() as client:
        client.get(f"{path}/pets.csv", auth=("", SECRET_WORDS[1]))
        client.get(f"{path}/pets.csv", auth=("", SECRET_WORDS[0]))
        client.post(path, data={"password": SECRET_WORDS[1]})
        client.get(f"/d/{made.token}x")
        for credential in (wrong, token, "a.secret.token"):
            client.get(JOBS, headers={"Authorization": f"Bearer {credential}"})
    for key, _ in list(site.publisher.store.list(f"exports/{PEOPLE['ann'].tenant}/{made.id}")):
        with site.publisher.store.local(key) as path:
            path.write_bytes(b"")  # another length than what was published
    assert site.ask("ann", "GET", f"{JOBS}/{made.id}/download/0").status_code == 500
    return made


def lines(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in site.log.read_text().splitlines()]


def test_every_line_is_json_and_every_call_has_its_id_and_its_tenant(site: Site, attacked: Made) -> None:
    found = lines(site)
    assert {line["event"] for line in found} >= {"call", "authentication_failed", "call_failed"}
    for line in found:
        assert {"event", "level", "timestamp"} <= set(line)
    calls = [line for line in found if line["event"] == "call"]
    assert all(line["http_request"] and line["status"] for line in calls)
    own = [line for line in calls if "{job_id}" in str(line["route"]) and line["status"] < 400]
    assert {line["tenant"] for line in own} <= {person.tenant for person in PEOPLE.values()}
    assert any(
        line["route"] == "/d/{token}/{path:path}" and line.get("tenant") == PEOPLE["ann"].tenant for line in calls
    )


def test_a_failure_is_found_by_the_id_that_its_caller_was_told(site: Site, attacked: Made) -> None:
    with site.client("ann", **{"X-Request-ID": "r-of-a-failure"}) as client:
        answer = client.get(f"{JOBS}/{attacked.id}/download/0")
    assert (answer.status_code, answer.json()["request_id"], answer.headers["x-request-id"]) == (
        500, "r-of-a-failure", "r-of-a-failure"
    )  # fmt: skip
    assert str(site.home) not in answer.text
    [failed] = [
        line for line in lines(site) if line.get("http_request") == "r-of-a-failure" and line["level"] == "error"
    ]
    assert (failed["event"], failed["error_type"]) == ("call_failed", "IntegrityViolation")


def test_the_log_holds_no_key_no_token_no_password_and_no_row(site: Site, attacked: Made) -> None:
    log = site.log.read_text()
    secrets = {*site.keys.values(), *site.secrets, *SECRET_WORDS, PASSWORD, attacked.token}
    assert [secret for secret in secrets if secret in log] == []
    assert not re.search(r"epk_[A-Za-z0-9_-]{20}|eyJ[A-Za-z0-9_-]{20}|\$argon2|-----BEGIN|postgresql://", log)


def test_neither_does_the_audit_log(site: Site, attacked: Made) -> None:
    log = site.ask("oscar", "GET", "/api/v1/audit", params={"format": "ndjson"}).text
    secrets = {*site.keys.values(), *site.secrets, SECRET_WORDS[1], SECRET_WORDS[2], PASSWORD, attacked.token}
    assert [secret for secret in secrets if secret in log] == []


def test_what_nobody_foresaw_is_one_line_too_and_tells_the_caller_nothing(site: Site, tmp_path: Any) -> None:
    """A table that another program broke: no error of ours."""
    with running_api(tmp_path, site.environment) as address:
        parts = urlsplit(address)
        with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
        site.control.rows("ALTER FUNCTION export_control.authenticate(text) RENAME TO gone")
        site.control.rows(
            """
            CREATE FUNCTION export_control.authenticate(of_token text)
            RETURNS TABLE (id uuid, role text, tenant_id text, user_id text) LANGUAGE sql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp
            AS $$ SELECT gen_random_uuid(), 'emperor', 't', 'u' $$
            """
        )
        site.control.rows("GRANT EXECUTE ON FUNCTION export_control.authenticate(text) TO export_api")
        try:
            with site.client("ann") as client:
                answer = client.get(f"{address}{JOBS}", headers={"X-Request-ID": "r-unforeseen"})
        finally:
            site.control.rows("DROP FUNCTION export_control.authenticate(text)")
            site.control.rows("ALTER FUNCTION export_control.gone(text) RENAME TO authenticate")
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "r-unforeseen")
    assert "emperor" not in answer.text
    reported = [json.loads(line) for line in (tmp_path / "api.log").read_text().splitlines()]
    [broke] = [line for line in reported if line["event"] == "call_broke"]
    assert (broke["http_request"], broke["error_type"]) == ("r-unforeseen", "ValueError")
    assert "Traceback" in broke["exception"]
    [call] = [line for line in reported if line.get("http_request") == "r-unforeseen" and line["event"] == "call"]
    assert call["status"] == 500
