"""Calls that cost much: they hold no connection that others need, few are at work at once, and a user has so many."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from export_pipelines.api import links, shares
from export_pipelines.api.concurrency import ConcurrencyLimit
from export_pipelines.api.link_passwords import hash_password
from export_pipelines.api.password_guesses import GUESSES
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.errors import TooMany
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.rate_limits import subject_of_address
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.api.inside import Inside, inside
from export_pipelines_tests.api.site import JOBS, TEMPLATE, TEMPLATES, Site
from export_pipelines_tests.published import Publisher
from export_pipelines_tests.workshop import TENANTS, ClinicSource

PATIENCE_SECONDS = 30
PASSWORD = {"password": "right horse"}
CALLERS = {
    name: Caller(role=Role.ADMIN, tenant_id=tenant, user_id=name, credential="test")
    for name, tenant in (("ann", TENANTS[0]), ("eve", TENANTS[1]))
}


@pytest.fixture
def settings(clinic: ClinicSource, control_url: str, tmp_path: Path) -> Settings:
    return Settings(
        EXPORT_SOURCE_URL=clinic.url,
        EXPORT_CONTROL_URL=control_url,
        EXPORT_HOME=tmp_path,
        EXPORT_LINK_RATE_LIMIT="2/h",
        EXPORT_ESTIMATE_RATE_LIMIT="2/h",
        EXPORT_RATE_LIMIT="1/h",
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Inside]:
    with inside(settings, CALLERS) as made:
        yield made


@pytest.fixture
def publisher(settings: Settings) -> Iterator[Publisher]:
    with contextlib.closing(ControlDatabase(settings.require_control_url())) as control:
        yield Publisher(control=control, store=LocalStore(settings.home / "objects"))


# Nothing waits inside a transaction -----------------------------------------------------------------------------------


class Gate:
    """In place of something that takes long: it begins, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def pass_through(self, *_given: Any, **_named: Any) -> Any:
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        return False  # no right password, no object of that key


def _share(client: Inside, export: str, _token: str) -> httpx.Response:
    return client.ask("ann", "POST", f"{JOBS}/{export}/share", json=PASSWORD)


def _guess(client: Inside, _export: str, token: str) -> httpx.Response:
    return client.ask("nobody", "POST", f"/d/{token}", data={"password": "wrong"})


def _convert(client: Inside, export: str, _token: str) -> httpx.Response:
    return client.ask("ann", "POST", f"{JOBS}/{export}/convert", json={"target_format": "json"})


def _estimate(client: Inside, export: str, _token: str) -> httpx.Response:
    return client.ask("ann", "POST", "/api/v1/exports/estimate", json={"convert": export, "format": "json"})


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [
        (shares, "hash_password", _share),
        (links, "verify_password", _guess),
        (LocalStore, "exists", _convert),
        (LocalStore, "exists", _estimate),
    ],
    ids=["a link's password", "a guess at it", "what a conversion reads", "the estimate of one"],
)
def test_what_takes_long_holds_no_connection(
    client: Inside,
    settings: Settings,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    function: str,
    call: Callable[[Inside, str, str], httpx.Response],
) -> None:
    """With one connection for everybody, somebody else is answered meanwhile."""
    export = publisher.publish(tenant=TENANTS[0], user="ann")
    token = publisher.link(export)
    publisher.control.rows("UPDATE export_control.export_links SET password_hash = 'x'")
    services, pool = client.app.state.services, ControlPool(settings.require_control_url(), connections=1)
    pool.open()
    client.app.state.services = services.having(pool=pool)
    gate = Gate()
    monkeypatch.setattr(module, function, gate.pass_through)
    with ThreadPoolExecutor(1) as threads, contextlib.closing(pool):
        slow = threads.submit(call, client, export, token)
        assert gate.begun.wait(PATIENCE_SECONDS)
        other = client.ask("eve", "GET", JOBS)
        gate.open.set()
        slow.result()
    assert other.status_code == 200


# Few at once ----------------------------------------------------------------------------------------------------------


def test_few_are_at_work_fewer_of_one_subject_and_the_rest_come_back() -> None:
    limit = ConcurrencyLimit("things", at_once=2, waiting=1, per_subject=1, retry_seconds=3)

    def work() -> None:
        with limit.held("c"):
            pass

    with limit.held("a"), limit.held("b"):
        with pytest.raises(TooMany, match="at most 1 of one user") as refused, limit.held("a"):
            pass
        assert refused.value.retry_after_seconds == 3
        waiting = threading.Thread(target=work)
        waiting.start()
        while limit._total < 3:
            pass
        with pytest.raises(TooMany, match="at most 3"), limit.held("d"):
            pass
    waiting.join(PATIENCE_SECONDS)
    assert not waiting.is_alive()
    with limit.held("a"):
        assert dict(limit._held) == {"a": 1}


def test_a_flood_of_links_with_passwords_keeps_nobody_else_waiting(site: Site) -> None:
    """84 of 250 were 503, and another tenant waited nine seconds."""
    made = site.publish("ann")
    with site.client("ann") as ann, site.client("eve") as eve, ThreadPoolExecutor(41) as threads:
        flood = [threads.submit(ann.post, f"{JOBS}/{made.id}/share", json=PASSWORD) for _ in range(40)]
        others = [eve.get(JOBS).status_code for _ in range(3)]
        answers = [answer.result() for answer in flood]
    assert others == [200] * 3
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 429}
    assert statuses[201] >= 2
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 429)


# So many of a user ----------------------------------------------------------------------------------------------------


def test_links_are_limited_and_what_is_refused_is_not_hashed(
    client: Inside, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = publisher.publish(tenant=TENANTS[0], user="ann")
    foreign = publisher.publish(tenant=TENANTS[1], user="eve")
    path = f"{JOBS}/{export}/share"
    first = client.ask("ann", "POST", path, json=PASSWORD, headers={"Idempotency-Key": "k"})
    assert (first.status_code, first.json()["has_password"]) == (201, True)
    assert first.headers["ratelimit-policy"] == '"links";q=2;w=3600'
    hashed: list[str] = []
    monkeypatch.setattr(shares, "hash_password", lambda password: hashed.append(password) or "x")
    repeated = client.ask("ann", "POST", path, json=PASSWORD, headers={"Idempotency-Key": "k"})
    assert (repeated.content, hashed) == (first.content, [])
    assert client.ask("ann", "POST", f"{JOBS}/{foreign}/share", json=PASSWORD).status_code == 404
    assert client.ask("ann", "POST", path, json={}).status_code == 201
    refused = client.ask("ann", "POST", path, json=PASSWORD)
    assert (refused.status_code, refused.headers["ratelimit"].split(";")[1]) == (429, "r=0")
    assert "the limit is 2 links in 1 hour" in refused.json()["detail"]
    again = client.ask("ann", "POST", path, json=PASSWORD, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert hashed == []
    assert client.ask("eve", "POST", f"{JOBS}/{foreign}/share", json={}).status_code == 201


def test_a_turn_that_comes_back_meanwhile_makes_no_link_without_its_password(
    client: Inside, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = publisher.publish(tenant=TENANTS[0], user="ann")
    monkeypatch.setattr(shares, "is_within_rate_limit", lambda *_given: False)
    assert client.ask("ann", "POST", f"{JOBS}/{export}/share", json=PASSWORD).status_code == 429
    assert publisher.control.rows("SELECT id FROM export_control.export_links") == []


def test_estimates_are_limited_and_orders_and_templates_go_on_without(client: Inside) -> None:
    order = {"tables": ["pets"], "format": "csv"}
    answers = [client.ask("ann", "POST", "/api/v1/exports/estimate", json=order) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"estimates";q=2;w=3600'
    assert int(answers[2].headers["retry-after"]) > 0
    saved = client.ask("ann", "POST", TEMPLATES, json=TEMPLATE)
    assert (saved.status_code, saved.json()["estimated_rows"]) == (201, None)
    wrong = {"name": "T", "config": {**order, "tables": ["none"]}}
    assert client.ask("ann", "POST", TEMPLATES, json=wrong).status_code == 422
    assert client.ask("eve", "POST", "/api/v1/exports/estimate", json=order).status_code == 200


def test_an_order_beyond_its_limit_asks_nobody(client: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    order = {"tables": ["pets"], "format": "csv"}
    assert client.ask("ann", "POST", JOBS, json=order).status_code == 202
    asked: list[Any] = []
    monkeypatch.setattr("export_pipelines.api.orders.planned_rows", lambda *given: asked.append(given))
    assert client.ask("ann", "POST", JOBS, json=order).status_code == 429
    assert asked == []


def test_wrong_passwords_of_an_address_count_over_all_links(site: Site) -> None:
    made = site.publish(password_hash=hash_password("right horse"))
    path = f"/d/{made.token}/{made.marks[0]}.csv"
    with site.client() as guessing, site.client() as other:
        assert guessing.get(path, auth=("", "wrong")).status_code == 401
        subject = subject_of_address(guessing.headers["X-Forwarded-For"], GUESSES)
        assert site.control.rows(
            "UPDATE export_control.rate_limits SET tokens = 0 WHERE subject = %(subject)s RETURNING 1",
            {"subject": subject},
        )
        late = guessing.get(path, auth=("", "right horse"))
        assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)
        assert other.get(path, auth=("", "right horse")).status_code == 200


# Uses of links --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "headers", "status", "uses"),
    [
        ("GET", {}, 200, 1),
        ("GET", {"Range": "bytes=1-"}, 206, 1),
        ("GET", {"Range": "bytes=-1"}, 206, 1),
        ("GET", {"Range": "bytes=1000000-"}, 416, 0),
        ("HEAD", {}, 200, 0),
    ],
    ids=["whole", "nearly whole", "the end", "nothing of it", "its head"],
)
def test_a_link_of_any_number_of_uses_counts_what_serves_bytes(
    site: Site, method: str, headers: dict[str, str], status: int, uses: int
) -> None:
    made = site.publish()
    with site.client() as client:
        answer = client.request(method, f"/d/{made.token}/{made.marks[0]}.csv", headers=headers)
    assert answer.status_code == status
    [row] = site.control.rows("SELECT uses FROM export_control.export_links WHERE id = %(id)s", {"id": made.link_id})
    assert row["uses"] == uses


def test_a_file_that_is_not_there_is_no_use(site: Site) -> None:
    files = {"pets.csv": b"id\n1\n", "manifest.json": b"{}\n"}  # the log names an object that is missing
    made = site.publish(files=files, max_uses=1)
    [row] = site.control.rows(
        "SELECT package_prefix FROM export_control.export_requests WHERE id = %(id)s", {"id": made.id}
    )
    site.publisher.store.delete(row["package_prefix"])
    assert site.ask(None, "GET", f"/d/{made.token}/pets.csv").status_code == 410
    [row] = site.control.rows("SELECT uses FROM export_control.export_links WHERE id = %(id)s", {"id": made.link_id})
    assert row["uses"] == 0
