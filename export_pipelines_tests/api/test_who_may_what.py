"""Every route with every kind of credential: who gets in, and what they may see and do."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from export_pipelines.api.app import create_app
from export_pipelines.core.access import Role
from export_pipelines.core.api_keys import new_key
from export_pipelines.settings import Settings
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines_tests.api.rules import BY_BODY, PUBLIC, RULES, filled, prepared
from export_pipelines_tests.api.site import JOBS, PEOPLE, PETS, Made, Site, problem, reveals
from export_pipelines_tests.servers.issuer import signed

ROUTES = sorted(RULES)
NOBODYS = Made(
    id="0190b6c4-0000-7000-8000-000000000001", link_id="0190b6c4-0000-7000-8000-000000000002", token="", marks=()
)
TOKEN = {"iss": "https://issuer.example", "tenant_id": PEOPLE["ann"].tenant}


@cache
def documented() -> Mapping[str, Any]:
    """The OpenAPI document of the application as it is, without its server."""
    nowhere = SecretStr("postgresql://nobody@127.0.0.1:9/nothing")
    paths: Mapping[str, Any] = create_app(Settings(EXPORT_CONTROL_URL=nowhere)).openapi()["paths"]
    return paths


def test_every_route_has_a_rule() -> None:
    routes = {(method.upper(), path) for path, methods in documented().items() for method in methods}
    heads = {(method, path) for method, path in RULES if method == "HEAD"}  # beside a GET, which documents them
    assert routes == (set(RULES) | PUBLIC) - heads
    assert {("GET", path) for _, path in heads} <= set(RULES)


@pytest.mark.parametrize(("method", "path"), sorted(PUBLIC))
def test_what_is_open_to_all_names_no_tenant(site: Site, method: str, path: str) -> None:
    made = site.publish()
    answer = site.ask(None, method, path)
    assert answer.status_code == 200
    assert reveals(answer, made) == []
    assert PEOPLE["ann"].tenant not in answer.text


# Without a right credential -------------------------------------------------------------------------------------------


def _expired(site: Site) -> str:
    store = ApiKeyStore(site.control)
    made, key = store.create(role=Role.ADMIN, tenant_id=PEOPLE["ann"].tenant, user_id="ann", created_by="test")
    site.control.rows(
        "UPDATE export_control.api_keys SET expires_at = now() - interval '1 second' WHERE id = %(id)s", {"id": made.id}
    )
    return key


def _revoked(site: Site) -> str:
    store = ApiKeyStore(site.control)
    made, key = store.create(role=Role.ADMIN, tenant_id=PEOPLE["ann"].tenant, user_id="ann", created_by="test")
    store.revoke(made.id)
    return key


def _damaged(site: Site) -> str:
    key = site.keys["chief"]
    return key[:-1] + ("a" if key[-1] != "a" else "b")


def _of_a_stranger(_site: Site) -> str:
    return signed(rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256", "k-1", **TOKEN)


def _without_algorithm(_site: Site) -> str:
    claims = {**TOKEN, "sub": "ann", "role": "admin", "aud": "exports", "exp": time.time() + 300}
    return jwt.encode(claims, None, algorithm="none", headers={"kid": "k-1"})


def _public_key_as_secret(site: Site) -> str:
    """What a verifier that takes any algorithm with the issuer's public key would accept."""
    pem = site.private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "k-1"}).encode())
    claims = {**TOKEN, "sub": "ann", "role": "admin", "aud": "exports", "exp": time.time() + 300}
    reported = head + b"." + jwt.utils.base64url_encode(json.dumps(claims).encode())
    return (reported + b"." + jwt.utils.base64url_encode(hmac.digest(pem, reported, "sha256"))).decode()


def _token(**claims: Any) -> Callable[[Site], str]:
    return lambda site: signed(site.private_key, "RS256", "k-1", **{**TOKEN, **claims})


WRONG: dict[str, Callable[[Site], str | None]] = {
    "nothing": lambda _site: None,
    "empty": lambda _site: "",
    "another scheme": lambda site: f"Basic {site.keys['chief']}",
    "no scheme": lambda site: site.keys["chief"],
    "two keys": lambda site: f"Bearer {site.keys['chief']} {site.keys['chief']}",
    "an unknown key": lambda _site: f"Bearer {new_key()}",
    "a damaged key": lambda site: f"Bearer {_damaged(site)}",
    "an expired key": lambda site: f"Bearer {_expired(site)}",
    "a revoked key": lambda site: f"Bearer {_revoked(site)}",
    "no token": lambda _site: "Bearer a.b.c",
    "a token of a stranger": lambda site: f"Bearer {_of_a_stranger(site)}",
    "a token without algorithm": lambda site: f"Bearer {_without_algorithm(site)}",
    "the public key as secret": lambda site: f"Bearer {_public_key_as_secret(site)}",
    "an expired token": lambda site: f"Bearer {_token(exp=time.time() - 120)(site)}",
    "a token for tomorrow": lambda site: f"Bearer {_token(nbf=time.time() + 3600)(site)}",
    "a token of another issuer": lambda site: f"Bearer {_token(iss='https://evil.example')(site)}",
    "a token for another service": lambda site: f"Bearer {_token(aud='invoices')(site)}",
    "a token without tenant": lambda site: f"Bearer {_token(tenant_id=None)(site)}",
    "a token of an unknown role": lambda site: f"Bearer {_token(role='root')(site)}",
    "an operator's token with a tenant": lambda site: f"Bearer {_token(role='operator')(site)}",
    "a token whose tenant is a list": lambda site: f"Bearer {_token(tenant_id=[PEOPLE['ann'].tenant])(site)}",
}


@pytest.fixture(scope="module")
def wrong(site: Site) -> dict[str, dict[str, str]]:
    """Headers that must not let anybody in, by what is wrong with them."""
    made = {name: make(site) for name, make in WRONG.items()}
    return {name: {} if header is None else {"Authorization": header} for name, header in made.items()}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_route_opens_without_a_right_credential(
    site: Site, wrong: dict[str, dict[str, str]], method: str, path: str
) -> None:
    made = site.publish()
    rule, before = RULES[method, path], site.state()
    for name, header in wrong.items():
        with site.client(**header) as client:
            answer = client.request(method, filled(path, made), json=rule.body(made) if rule.body else None)
        assert answer.status_code == 401, name
        assert answer.headers["www-authenticate"].startswith('Bearer realm="export-pipelines"'), name
        assert reveals(answer, made) == [], name
        if method != "HEAD":
            problem(answer, 401)
    assert site.state() == before


def test_the_right_token_gets_in(site: Site) -> None:
    with site.client(Authorization=f"Bearer {_token()(site)}") as client:
        assert client.get(JOBS).status_code == 200


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_who_is_asked_to_say_who_it_is_learns_nothing_about_ids(site: Site, method: str, path: str) -> None:
    """Without a credential a known and an unknown id answer the same."""
    made = site.publish()
    known, unknown = (site.ask(None, method, filled(path, some)) for some in (made, NOBODYS))
    assert [known.status_code, unknown.status_code] == [401, 401]
    if method != "HEAD":
        assert {**known.json(), "request_id": ""} == {**unknown.json(), "request_id": ""}


# With one -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["ann", "chief", "oscar"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_role_may_what_the_table_says_and_nothing_else(site: Site, who: str, method: str, path: str) -> None:
    rule = RULES[method, path]
    made = prepared(site, rule)
    before = site.state()
    answer = site.ask(who, method, filled(path, made), json=rule.body(made) if rule.body else None)
    if PEOPLE[who].role in rule.roles:
        assert answer.status_code == rule.answers, answer.text
        return
    assert answer.status_code == 403
    assert reveals(answer, made) == []
    assert site.state() == before
    if method != "HEAD":
        assert "needs the role" in problem(answer, 403)["detail"]


@pytest.mark.parametrize("stranger", ["bob", "eve", "rival", "oscar"])
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if "_id}" in route[1]])
def test_a_foreign_id_looks_like_an_unknown_one(site: Site, stranger: str, method: str, path: str) -> None:
    rule = RULES[method, path]
    made = prepared(site, rule)
    before, logged = site.state(), site.log.stat().st_size
    body = rule.body(made) if rule.body else None
    answer = site.ask(stranger, method, filled(path, made), json=body)
    unknown = site.ask(stranger, method, filled(path, NOBODYS), json=body)
    assert answer.status_code == unknown.status_code == (404 if PEOPLE[stranger].role in rule.roles else 403)
    assert reveals(answer, made) == []
    assert site.state() == before
    written = site.log.read_bytes()[logged:].decode()
    assert [mark for mark in made.marks if mark in written] == []
    if method != "HEAD":
        assert _faceless(answer, made) == _faceless(unknown, NOBODYS)


def _faceless(answer: httpx.Response, made: Made) -> str:
    """An answer without what every answer has of its own."""
    reported = {**answer.json(), "request_id": ""}
    return json.dumps(reported).replace(made.id, "id").replace(made.link_id, "link")


@pytest.mark.parametrize("stranger", ["bob", "eve", "rival"])
@pytest.mark.parametrize("what", sorted(BY_BODY))
def test_a_foreign_id_in_a_body_looks_like_an_unknown_one(site: Site, stranger: str, what: str) -> None:
    method, path, body = BY_BODY[what]
    made = site.save("template") if what.endswith("template") else site.publish()
    before = site.state()
    answer, unknown = (site.ask(stranger, method, path, json=body(some.id)) for some in (made, NOBODYS))
    assert answer.status_code == unknown.status_code == 404
    assert _faceless(answer, made) == _faceless(unknown, NOBODYS)
    assert reveals(answer, made) == []
    assert site.state() == before


@pytest.mark.parametrize("stranger", ["bob", "eve", "rival"])
def test_lists_hold_nothing_of_others(site: Site, stranger: str) -> None:
    made = site.publish()
    with site.client(stranger) as client:
        pages = [
            client.get(JOBS, params={"limit": 200}),
            client.get(JOBS, params={"user": "ann"}),
            client.get(JOBS, params={"status": "completed", "table": "pets"}),
            client.get("/api/v1/exports/catalog"),
        ]
    for page in pages:
        assert page.status_code == 200
        assert reveals(page, made) == []
        assert made.id not in page.text


def test_a_link_of_one_export_is_not_revoked_through_another(site: Site) -> None:
    foreign, own = site.publish("ann"), site.publish("bob")
    assert site.ask("bob", "DELETE", f"{JOBS}/{own.id}/share/{foreign.link_id}").status_code == 404
    assert site.ask(None, "GET", f"/d/{foreign.token}").status_code == 200


def test_a_cursor_of_somebody_else_opens_nothing(site: Site) -> None:
    made = [site.publish("ann") for _ in range(3)]
    page = site.ask("ann", "GET", JOBS, params={"limit": 1}).json()
    answer = site.ask("eve", "GET", JOBS, params={"cursor": page["next_cursor"], "limit": 200})
    assert answer.status_code == 200
    assert not any(reveals(answer, some) or some.id in answer.text for some in made)


def test_nobody_speaks_for_another_by_headers_or_fields(site: Site) -> None:
    """Tenant, user and role come from the credential; whatever a call adds to it has no meaning or is refused."""
    rival = PEOPLE["rival"].tenant
    headers = {"X-Tenant-Id": rival, "X-User": "rival", "X-Role": "operator", "X-Forwarded-User": "rival"}
    with site.client("ann", **{name: str(text) for name, text in headers.items()}) as client:
        assert problem(client.post(JOBS, json=PETS, params={"tenant_id": rival}), 422)["field"] == "tenant_id"
        made = client.post(JOBS, json=PETS)
        assert client.get("/metrics").status_code == 403
        for name in ("tenant_id", "tenant", "requested_by", "requested_role", "launched_by", "priority", "status"):
            assert problem(client.post(JOBS, json={**PETS, name: "admin"}), 422)["field"] == name
    row = site.publisher.requests.get(made.json()["job_id"])
    assert (row.tenant_id, row.requested_by, row.requested_role) == (PEOPLE["ann"].tenant, "ann", "member")


def test_a_member_does_not_retry_what_was_asked_for_as_an_admin(site: Site) -> None:
    """Whoever was an admin and is one no more: the export would be made with the rights of then."""
    once = site.publisher.requests.insert(
        tenant_id=str(PEOPLE["ann"].tenant), config=PETS, requested_by="ann", requested_role=Role.ADMIN
    )
    site.publisher.requests.request_cancel(once)
    assert problem(site.ask("ann", "POST", f"{JOBS}/{once}/retry"), 403)["field"] == "job_id"
    assert site.publisher.requests.get(once).status == "cancelled"
    assert site.ask("chief", "POST", f"{JOBS}/{once}/retry").status_code == 202


def test_a_kept_reply_does_not_tell_the_address_of_a_link(site: Site) -> None:
    made = site.publish()
    with site.client("ann", **{"Idempotency-Key": f"share-{made.id}"}) as client:
        first, again = (client.post(f"{JOBS}/{made.id}/share", json={}) for _ in range(2))
    assert first.content == again.content
    token = first.json()["url"].rpartition("/")[2]
    rows = site.control.rows("SELECT body::text FROM export_control.api_replies")
    assert rows
    assert not any(token in row["body"] for row in rows)
