"""Many at once: what happens once happens once, what is limited is limited exactly, and no half file looks whole."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest
from fastapi import Request
from fastapi.responses import StreamingResponse

from export_pipelines.api.files import file_response, package_response
from export_pipelines.api.launching import AT_ONCE
from export_pipelines.api.link_passwords import hash_password
from export_pipelines.api.password_guesses import AT_LINK_IN_A_DAY, GUESSES, OF_LINK_IN_A_DAY
from export_pipelines.api.problems import ResponseCut
from export_pipelines.core.access import Role
from export_pipelines.core.errors import Conflict, IntegrityViolation, Unavailable
from export_pipelines.core.ports import ObjectStore
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.s3 import S3Store
from export_pipelines.pipeline.publish.removal import remove_unremoved
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.rate_limits import RateLimits, subject_of_address_at_link, subject_of_link
from export_pipelines.stores.retention import RetentionStore
from export_pipelines_tests.api.conftest import running_api
from export_pipelines_tests.api.site import JOBS, PEOPLE, PETS, Site, problem
from export_pipelines_tests.workshop import TENANTS, Workshop

MANY = 20
GET = Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []})
LARGE_BYTES = 64 * 1024 * 1024  # more than all buffers between two processes hold


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """All of them, begun together."""
    together = threading.Barrier(len(calls))

    def begin(call: Callable[[], Any]) -> Any:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


@pytest.fixture
def clients(site: Site) -> Iterator[list[httpx.Client]]:
    made = [site.client("ann") for _ in range(MANY)]
    yield made
    for client in made:
        client.close()


def orders(site: Site) -> int:
    return int(site.control.rows("SELECT count(*) AS n FROM export_control.export_requests")[0]["n"])


# Idempotency ----------------------------------------------------------------------------------------------------------


def test_one_key_sent_twenty_times_at_once_makes_one_export(site: Site, clients: list[httpx.Client]) -> None:
    before, key = orders(site), {"Idempotency-Key": uuid4().hex}
    answers = at_once([lambda c=client: c.post(JOBS, json=PETS, headers=key) for client in clients])
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotency-replayed") for answer in answers) == {None: 1, "true": MANY - 1}
    assert orders(site) == before + 1


def test_one_key_with_many_bodies_at_once_is_for_one_of_them(site: Site, clients: list[httpx.Client]) -> None:
    before, key = orders(site), {"Idempotency-Key": uuid4().hex}
    answers = at_once(
        [
            lambda c=client, n=number: c.post(JOBS, json={**PETS, "name": f"n{n}"}, headers=key)
            for number, client in enumerate(clients)
        ]
    )
    assert Counter(answer.status_code for answer in answers) == {202: 1, 422: MANY - 1}
    assert {problem(answer, 422)["field"] for answer in answers if answer.status_code == 422} == {"Idempotency-Key"}
    assert orders(site) == before + 1


def test_a_key_belongs_to_its_user(site: Site) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    made = set()
    for who in ("ann", "bob", "eve"):
        with site.client(who, **key) as client:
            made.add(client.post(JOBS, json=PETS).json()["job_id"])
    assert len(made) == 3


def test_a_repeated_retry_asks_for_no_second_run(site: Site) -> None:
    failed = site.queue()
    site.publisher.requests.fail(failed, attempt=1, run_id=None, error_type="internal", message="broke")
    with site.client("ann", **{"Idempotency-Key": uuid4().hex}) as client:
        first = client.post(f"{JOBS}/{failed}/retry")
        assert site.publisher.requests.claim(failed, attempt=2, run_id="r")
        assert site.publisher.requests.fail(failed, attempt=2, run_id="r", error_type="internal", message="broke")
        again = client.post(f"{JOBS}/{failed}/retry")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert site.publisher.requests.get(failed).attempt == 2


# Limits ---------------------------------------------------------------------------------------------------------------


def test_twenty_orders_at_once_get_exactly_what_the_limit_allows(site: Site, tmp_path: Path) -> None:
    with running_api(tmp_path, site.environment | {"EXPORT_RATE_LIMIT": "5/h"}) as address:
        headers = {"Authorization": f"Bearer {site.keys['bob']}"}
        with httpx.Client(base_url=address, headers=headers, timeout=60, verify=False) as client:
            answers = at_once([lambda: client.post(JOBS, json=PETS)] * MANY)
    assert Counter(answer.status_code for answer in answers) == {202: 5, 429: MANY - 5}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 429)


def asking(port: int) -> int:
    """How many connections our servers have open to that port."""
    found = (process.net_connections("tcp") for process in psutil.Process().children(recursive=True))
    return sum(bool(c.raddr) and c.raddr.port == port for connections in found for c in connections)


def test_a_dagster_that_does_not_answer_keeps_nobody_waiting(site: Site, tmp_path: Path) -> None:
    """It takes connections and says nothing; more orders than the server has threads wait for it."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        environment = {**site.environment, "EXPORT_DAGSTER_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        with (
            running_api(tmp_path, environment) as address,
            httpx.Client(base_url=address, headers=site.client("bob").headers, timeout=30, verify=False) as client,
        ):
            answers = at_once([lambda: [client.post(JOBS, json=PETS) for _ in range(2)]] * (MANY + 5))
            assert client.get("/healthz").status_code == 200
            assert asking(silent.getsockname()[1]) <= AT_ONCE
    assert {answer.status_code for made in answers for answer in made} == {202}


def test_a_link_for_one_download_gives_one(site: Site) -> None:
    made = site.publish(max_uses=1)
    with site.client() as client:
        answers = at_once([lambda: client.get(f"/d/{made.token}/{made.marks[0]}.csv")] * MANY)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: MANY - 1}


@pytest.mark.parametrize(
    "headers",
    [{"Range": text} for text in ("bytes=1-", "bytes=-1000000", "bytes=00-", "BYTES=0-", "bytes=1-,0-0", "bytes=2-3")]
    + [{"Range": "bytes=1-", "If-Range": '"another"'}],
)
def test_a_link_that_is_used_up_gives_no_part_either(site: Site, headers: dict[str, str]) -> None:
    made = site.publish(max_uses=1)
    path = f"/d/{made.token}/{made.marks[0]}.csv"
    first = site.ask(None, "GET", path, headers=headers)
    assert (first.status_code, first.headers["accept-ranges"]) == (200, "none")
    assert site.ask(None, "GET", path, headers=headers).status_code == 410
    assert site.ask(None, "GET", path).status_code == 410


def test_a_password_of_a_link_cannot_be_guessed_quickly_and_who_knows_it_gets_in(site: Site) -> None:
    made = site.publish(password_hash=hash_password("right horse"))
    site.secrets.append("right horse")
    path, right = f"/d/{made.token}/{made.marks[0]}.csv", ("", "right horse")
    with site.client() as client:
        assert client.get(path, auth=right).status_code == 200
        guesses = [client.get(path, auth=("", f"guess {number}")) for number in range(11)]
        assert [guess.status_code for guess in guesses] == [401] * 10 + [429]
        late = client.get(path, auth=right)  # nobody learns whether a guess would have been right
        assert (late.status_code, 0 < int(late.headers["retry-after"]) <= 90) == (429, True)
        assert client.post(f"/d/{made.token}", data={"password": "right horse"}).status_code == 429
    assert site.ask(None, "GET", path, auth=right).status_code == 200
    with site.client() as mistyping:  # while the link is guessed at, an address has one wrong one at a time
        statuses = [mistyping.get(path, auth=("", "right hose")).status_code for _ in range(2)]
        assert statuses == [401, 429]
    assert site.ask(None, "GET", path, auth=right).status_code == 200


def test_a_password_cannot_be_guessed_from_many_addresses_for_ever(site: Site) -> None:
    made = site.publish(password_hash=hash_password("right horse"))
    path, right = f"/d/{made.token}/{made.marks[0]}.csv", ("", "right horse")
    limits, subject = RateLimits(site.control), subject_of_link(made.link_id, f"{GUESSES} in a day")
    taken = [limits.take(subject, OF_LINK_IN_A_DAY).allowed for _ in range(OF_LINK_IN_A_DAY.capacity + 1)]
    assert taken.count(True) == OF_LINK_IN_A_DAY.capacity
    refused = site.ask(None, "GET", path, auth=right)
    assert (refused.status_code, 0 < int(refused.headers["retry-after"]) <= 44) == (429, True)
    site.control.rows(
        "UPDATE export_control.rate_limits SET tokens = 1 WHERE subject = %(subject)s RETURNING 1", {"subject": subject}
    )
    assert site.ask(None, "GET", path, auth=right).status_code == 200


def test_an_address_that_was_wrong_all_day_waits_longer(site: Site) -> None:
    made = site.publish(password_hash=hash_password("right horse"))
    path = f"/d/{made.token}/{made.marks[0]}.csv"
    limits = RateLimits(site.control)
    with site.client() as client:
        subject = subject_of_address_at_link(client.headers["X-Forwarded-For"], made.link_id, f"{GUESSES} in a day")
        for _ in range(AT_LINK_IN_A_DAY.capacity):
            limits.take(subject, AT_LINK_IN_A_DAY)
        refused = client.get(path, auth=("", "right horse"))
    assert (refused.status_code, 90 < int(refused.headers["retry-after"]) <= 2160) == (429, True)
    assert site.ask(None, "GET", path, auth=("", "right horse")).status_code == 200


# Cancelling and deleting ----------------------------------------------------------------------------------------------


def test_a_cancellation_that_is_accepted_is_never_followed_by_a_package(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when all files are in their public place and only the request's row is still to change."""
    request_id = workshop.order(PETS)
    complete = workshop.services.requests.complete.__func__
    reported: list[str] = []

    def cancelled_first(store: Any, completing: str, **named: Any) -> bool:
        reported.append(workshop.services.requests.request_cancel(completing))
        return bool(complete(store, completing, **named))

    monkeypatch.setattr(type(workshop.services.requests), "complete", cancelled_first)
    workshop.run(request_id)
    request = workshop.services.requests.get(request_id)
    assert (reported, request.status) == (["processing"], "cancelled")
    assert [key for key in workshop.object_keys() if key.startswith("exports/")] == []


def test_a_cancellation_after_the_package_is_told_that_it_is_late(workshop: Workshop) -> None:
    request = workshop.export(PETS)
    with pytest.raises(Conflict, match="already completed"):
        workshop.services.requests.request_cancel(request.id)
    assert workshop.services.requests.get(request.id).status == "completed"


def test_cancelling_while_it_runs_ends_cancelled_or_comes_too_late(workshop: Workshop) -> None:
    """At whatever moment: somebody who was told that it is cancelled never finds a package."""
    for delay in (0.05, 0.3, 0.6, 0.9):
        request_id = workshop.order(PETS, launched_by="cli")
        cancelled: list[bool] = []

        def cancel(wanted: str = request_id, said: list[bool] = cancelled) -> None:
            control = ControlDatabase(workshop.settings.require_control_url())
            try:
                type(workshop.services.requests)(control).request_cancel(wanted)
                said.append(True)
            except Conflict:
                said.append(False)
            finally:
                control.close()

        timer = threading.Timer(delay, cancel)
        timer.start()
        workshop.run(request_id)
        timer.join()
        request = workshop.services.requests.get(request_id)
        assert (cancelled, request.status) in (([True], "cancelled"), ([False], "completed"))
        assert bool(request.package_prefix) == (request.status == "completed")


def test_deleting_and_retrying_at_once_leaves_one_of_both(site: Site) -> None:
    for _ in range(5):
        failed = site.queue()
        site.publisher.requests.fail(failed, attempt=1, run_id=None, error_type="internal", message="broke")
        with site.client("ann") as one, site.client("chief") as other:
            retried, deleted = at_once(
                [
                    lambda c=one, f=failed: c.post(f"{JOBS}/{f}/retry"),
                    lambda c=other, f=failed: c.delete(f"{JOBS}/{f}"),
                ]
            )
        row = site.control.rows(
            "SELECT status::text, deleted_at FROM export_control.export_requests WHERE id = %(id)s", {"id": failed}
        )[0]
        found = (retried.status_code, deleted.status_code, row["status"], row["deleted_at"] is not None)
        assert found in {(202, 409, "queued", False), (404, 200, "failed", True), (409, 200, "failed", True)}


@pytest.mark.parametrize("what", ["download/0", "download"], ids=["file", "package"])
def test_a_download_whose_export_is_deleted_ends_whole_or_broken(site: Site, what: str) -> None:
    """Never a half file that a client takes for the whole."""
    content = bytes(range(256)) * (LARGE_BYTES // 256)
    logged = site.log.stat().st_size
    made = site.publish("ann", {"large.csv": content, "notes.txt": b"x" * 100_000, "manifest.json": b"{}\n"})
    parts = urlsplit(site.address)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    connection.request("GET", f"{JOBS}/{made.id}/{what}", headers={"Authorization": f"Bearer {site.keys['ann']}"})
    answer = connection.getresponse()
    assert answer.status == 200
    begun = answer.read(1024)
    assert site.ask("ann", "DELETE", f"{JOBS}/{made.id}").status_code == 200
    try:
        rest = answer.read()
    except http.client.IncompleteRead:
        assert what == "download"  # the ZIP's later files were gone; the client saw it
    else:
        assert begun + rest == content
    connection.close()
    assert problem(site.ask("ann", "GET", f"{JOBS}/{made.id}/{what}"), 404)
    assert site.ask(None, "GET", f"/d/{made.token}/large.csv").status_code == 404
    assert "Traceback" not in site.log.read_text()[logged:]


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore(tmp_path / "objects")
    return S3Store(request.getfixturevalue("s3_api"), request.getfixturevalue("s3_bucket"))


def _stored(store: ObjectStore, name: str, content: bytes) -> dict[str, Any]:
    with store.writing(name) as sink:
        sink.write(content)
    digest = hashlib.sha256(content).hexdigest()
    return {
        "key": name,
        "path": name,
        "media_type": "text/csv",
        "size_bytes": len(content),
        "sha256": digest,
        "crc32": zlib.crc32(content),
    }


def test_a_package_whose_files_go_is_cut_or_never_begun(store: ObjectStore) -> None:
    files = [_stored(store, name, b"0123456789") for name in ("a.csv", "b.csv")]
    response = package_response(GET, files, "folder", store)
    assert isinstance(response, StreamingResponse)
    store.delete("a.csv")
    store.delete("b.csv")

    async def read() -> list[Any]:
        return [piece async for piece in response.body_iterator]

    with pytest.raises(ResponseCut):
        asyncio.run(read())
    with pytest.raises((IntegrityViolation, Unavailable)):
        package_response(GET, files, "folder", store)


@pytest.mark.parametrize("begins", [True, False], ids=["before it is opened", "when it is opened"])
def test_a_file_that_goes_before_its_first_byte_is_not_found_or_cut(tmp_path: Path, begins: bool) -> None:
    """Between the look at the store and the opening of the file, on either side of the response's beginning."""
    store = LocalStore(tmp_path)
    file = _stored(store, "a.csv", b"0123456789")
    services: Any = SimpleNamespace(store=store, settings=SimpleNamespace(signed_url_lifetime=None))
    response = file_response(GET, file, services)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        store.delete("a.csv")  # it begins before it opens the file

    if begins:
        store.delete("a.csv")
        asyncio.run(response(GET.scope, GET.receive, send))
        assert [message.get("status") for message in sent] == [404, None]
    else:
        with pytest.raises(ResponseCut):
            asyncio.run(response(GET.scope, GET.receive, send))
        assert [message.get("status") for message in sent] == [200]


def test_what_an_admins_conversion_reads_outlasts_its_deletion_by_a_member(site: Site) -> None:
    """Members do not see the conversions of others."""
    made, requests = site.publish("ann"), site.publisher.requests
    tenant = requests.get(made.id).tenant_id
    converting = requests.insert(
        tenant_id=tenant,
        config={"convert": made.id, "format": "json"},
        requested_by=PEOPLE["chief"].name,
        requested_role=Role.ADMIN,
    )
    deleted = site.ask("ann", "DELETE", f"{JOBS}/{made.id}")
    assert (deleted.status_code, deleted.json()["files_removed"]) == (200, 0)
    prefix = str(requests.get(made.id).package_prefix)
    assert site.publisher.store.list(prefix)
    assert site.ask("ann", "GET", f"{JOBS}/{made.id}").status_code == 404
    requests.request_cancel(converting)
    remove_unremoved(RetentionStore(site.control), requests, site.publisher.store)
    assert not site.publisher.store.list(prefix)


def test_a_link_revoked_while_many_download_gives_whole_files_or_nothing(site: Site) -> None:
    made = site.publish(files={"f.csv": b"0123456789" * 100_000, "manifest.json": b"{}\n"})
    with site.client() as client, site.client("ann") as owner:
        answers = at_once(
            [lambda: client.get(f"/d/{made.token}/f.csv")] * 10
            + [lambda: owner.delete(f"{JOBS}/{made.id}/share/{made.link_id}")]
        )
        after = client.get(f"/d/{made.token}/f.csv")
    *downloads, revoked = answers
    assert (revoked.status_code, after.status_code) == (200, 404)
    for answer in downloads:
        assert answer.status_code in (200, 404, 410)
        assert answer.status_code != 200 or answer.content == b"0123456789" * 100_000


def test_a_revoked_key_opens_nothing_from_the_next_call_on(site: Site) -> None:
    keys = ApiKeyStore(site.control)
    made, key = keys.create(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="brief", created_by="test")
    with site.client(Authorization=f"Bearer {key}") as client:
        assert client.get(JOBS).status_code == 200
        keys.revoke(made.id)
        assert client.get(JOBS).status_code == 401
