"""Bytes and events as the API hands them out: parts, names, sums, and streams that end or are left."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import statistics
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from export_pipelines.api.events import STREAMS_PER_USER
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines_tests.api.conftest import running_api
from export_pipelines_tests.api.site import JOBS, PEOPLE, PETS, Made, Site, problem
from export_pipelines_tests.workshop import Workshop

CONTENT = b"0123456789abcdef"
DIGEST = hashlib.sha256(CONTENT)
TAG = f'"{DIGEST.hexdigest()}"'
NAME = "Haustiere März 100%.csv"
WATCHERS = 200


@pytest.fixture(scope="module")
def made(site: Site) -> Made:
    return site.publish(files={NAME: CONTENT, "data/файл.csv": b"", "manifest.json": b"{}\n"})


@pytest.fixture(scope="module")
def ann(site: Site) -> Iterator[httpx.Client]:
    with site.client("ann") as client:
        yield client


# Downloads ------------------------------------------------------------------------------------------------------------


def test_a_file_comes_with_its_name_its_sum_and_its_size(ann: httpx.Client, made: Made) -> None:
    got, head = (ann.request(method, f"{JOBS}/{made.id}/download/0") for method in ("GET", "HEAD"))
    own = {"date": "", "x-request-id": ""}
    assert {**got.headers, **own} == {**head.headers, **own}
    assert (got.content, head.content) == (CONTENT, b"")
    assert got.headers["content-length"] == str(len(CONTENT))
    assert got.headers["etag"] == TAG
    assert got.headers["repr-digest"] == f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"
    assert got.headers["cache-control"] == "private, no-store"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-disposition"] == (
        "attachment; filename=\"Haustiere Marz 100_.csv\"; filename*=UTF-8''Haustiere%20M%C3%A4rz%20100%25.csv"
    )


RANGES: list[tuple[dict[str, str], int, bytes]] = [
    ({"Range": "bytes=0-"}, 206, CONTENT),
    ({"Range": "bytes=4-7"}, 206, CONTENT[4:8]),
    ({"Range": "bytes=-3"}, 206, CONTENT[-3:]),
    ({"Range": "bytes=-999"}, 206, CONTENT),
    ({"Range": "bytes=15-999999999999999999"}, 206, CONTENT[15:]),
    ({"Range": "bytes=4-", "If-Range": TAG}, 206, CONTENT[4:]),
    # A part of another version is the whole of this one.
    ({"Range": "bytes=4-", "If-Range": '"another"'}, 200, CONTENT),
    ({"Range": "bytes=4-", "If-Range": f"W/{TAG}"}, 200, CONTENT),
    ({"Range": "bytes=4-", "If-Range": "Wed, 21 Oct 2015 07:28:00 GMT"}, 200, CONTENT),
    # What is no range, or more than one, is ignored.
    *(
        ({"Range": text}, 200, CONTENT)
        for text in (
            "", "bytes", "bytes=", "bytes=-", "bytes=--5", "bytes=a-b", "bytes=1-2,4-5", "bytes=0-,0-,0-", "lines=1-2",
            "bytes=5-2x", "bytes=٣-", "bytes=+1-2", "bytes=1_0-", "bytes=" + "0-1," * 1000, "bytes=" + "9" * 5000 + "-",
            "bytes 0-1", "=", "bytes=0x1-", "bytes=7-4",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "status", "content"), RANGES)
@pytest.mark.parametrize("by", ["key", "link"])
def test_a_part_is_what_was_asked_for_or_the_whole(
    site: Site, ann: httpx.Client, made: Made, by: str, headers: dict[str, str], status: int, content: bytes
) -> None:
    path = f"{JOBS}/{made.id}/download/0" if by == "key" else f"/d/{made.token}/{NAME}".replace("%", "%25")
    sent = {name: text.encode() for name, text in headers.items()}
    answer = ann.get(path, headers=sent)
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers["content-length"] == str(len(content))
    assert ("content-range" in answer.headers) == (status == 206)


ANOTHER = '"another"'
CONDITIONS: list[tuple[dict[str, str], int]] = [
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": f"W/{TAG}"}, 304),
    ({"If-None-Match": f"{ANOTHER}, {TAG}"}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": TAG, "Range": "bytes=4-"}, 304),
    ({"If-None-Match": ANOTHER}, 200),
    ({"If-None-Match": TAG.strip('"')}, 200),  # a tag has quotes
    ({"If-None-Match": ANOTHER, "Range": "bytes=4-"}, 206),
    ({"If-Match": TAG}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": f"{ANOTHER}, {TAG}", "Range": "bytes=4-"}, 206),
    ({"If-Match": ANOTHER}, 412),
    ({"If-Match": f"W/{TAG}"}, 412),  # compared strongly
    ({"If-Match": ANOTHER, "If-None-Match": TAG}, 412),  # the order of RFC 9110, 13.2.2
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_version_that_a_client_has_decides(
    ann: httpx.Client, made: Made, method: str, headers: dict[str, str], status: int
) -> None:
    answer = ann.request(method, f"{JOBS}/{made.id}/download/0", headers=headers)
    if method == "HEAD" and status == 206:
        status = 200
    assert answer.status_code == status
    if status == 304:
        assert (answer.content, answer.headers["etag"]) == (b"", TAG)
        assert answer.headers["cache-control"] == "private, no-store"
    if status == 412 and method == "GET":
        assert "If-Match" in problem(answer, 412)["detail"]


def test_an_empty_file_is_whole_whatever_part_is_asked_for(ann: httpx.Client, made: Made) -> None:
    for text in ("bytes=0-", "bytes=-5", "bytes=3-"):
        answer = ann.get(f"{JOBS}/{made.id}/download/1", headers={"Range": text})
        assert (answer.status_code, answer.headers["content-length"]) == (200, "0")


@pytest.mark.parametrize("text", ["bytes=16-", "bytes=999999999-", "bytes=-0"])
def test_a_part_behind_the_end_is_refused_with_the_size(ann: httpx.Client, made: Made, text: str) -> None:
    answer = ann.get(f"{JOBS}/{made.id}/download/0", headers={"Range": text})
    assert problem(answer, 416)["detail"].startswith("the range begins behind")
    assert answer.headers["content-range"] == "bytes */16"


def test_the_head_of_a_part_is_that_of_the_whole(ann: httpx.Client, made: Made) -> None:
    answer = ann.head(f"{JOBS}/{made.id}/download/0", headers={"Range": "bytes=4-"})
    assert (answer.status_code, answer.headers["content-length"]) == (200, "16")


def test_a_package_is_one_zip_of_all_its_files(ann: httpx.Client, made: Made) -> None:
    answer = ann.get(f"{JOBS}/{made.id}/download")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        held = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert held == {NAME: CONTENT, "data/файл.csv": b"", "manifest.json": b"{}\n"}


def test_a_package_is_resumed_as_a_file_is(ann: httpx.Client, made: Made) -> None:
    path = f"{JOBS}/{made.id}/download"
    got, head = ann.get(path), ann.head(path)
    own = {"date": "", "x-request-id": ""}
    assert {**got.headers, **own} == {**head.headers, **own}
    assert (int(got.headers["content-length"]), got.headers["accept-ranges"]) == (len(got.content), "bytes")
    tag = got.headers["etag"]
    for headers, status, content in (
        ({"Range": "bytes=50-", "If-Range": tag}, 206, got.content[50:]),
        ({"Range": "bytes=50-60"}, 206, got.content[50:61]),
        ({"Range": "bytes=-22"}, 206, got.content[-22:]),
        ({"Range": "bytes=50-", "If-Range": TAG}, 200, got.content),
        ({"Range": "bytes=60-50"}, 200, got.content),
        ({"If-None-Match": tag}, 304, b""),
    ):
        answer = ann.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (status, content)
    assert problem(ann.get(path, headers={"If-Match": TAG}), 412)
    behind = ann.get(path, headers={"Range": f"bytes={len(got.content)}-"})
    assert problem(behind, 416)
    assert behind.headers["content-range"] == f"bytes */{len(got.content)}"


@pytest.mark.parametrize("what", ["download", "download/0", "download/1"])
def test_what_is_no_longer_in_the_store_is_gone_and_not_a_length(site: Site, what: str) -> None:
    made = site.publish("ann", {"a.csv": b"1", "b.csv": b"2", "manifest.json": b"{}\n"})
    prefix = site.publisher.requests.get(made.id).package_prefix
    for name in ("a.csv", "b.csv"):
        site.publisher.store.delete(f"{prefix}/{name}")
    answer = site.ask("ann", "GET", f"{JOBS}/{made.id}/{what}")
    document = problem(answer, 410)
    assert document["detail"].startswith("a file of this export is no longer in the object store")
    assert str(prefix) not in answer.text
    assert site.ask("ann", "HEAD", f"{JOBS}/{made.id}/{what}").status_code == 410
    for stranger in ("eve", "bob"):
        assert site.ask(stranger, "GET", f"{JOBS}/{made.id}/{what}").status_code == 404


def test_a_file_of_another_length_than_published_is_not_handed_out(site: Site) -> None:
    made = site.publish("ann", {"a.csv": b"1234", "b.csv": b"2", "manifest.json": b"{}\n"})
    prefix = site.publisher.requests.get(made.id).package_prefix
    with site.publisher.store.writing(f"{prefix}/a.csv") as sink:
        sink.write(b"12")
    for what in ("download", "download/0"):
        for method in ("GET", "HEAD"):
            assert site.ask("ann", method, f"{JOBS}/{made.id}/{what}").status_code == 500


@pytest.mark.parametrize("index", ["3", "999999", "1000001", "-1", "0x0", "0/../../x", "%30%2e"])
def test_a_file_that_is_not_there_is_not_found(ann: httpx.Client, made: Made, index: str) -> None:
    assert ann.get(f"{JOBS}/{made.id}/download/{index}").status_code in (404, 422)


# Events ---------------------------------------------------------------------------------------------------------------


def statuses(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The bodies of `status` events."""
    for line in lines:
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


@contextmanager
def beside(workshop: Workshop, site: Site, who: str) -> Iterator[httpx.Client]:
    """Another API, on the workshop's databases and folder."""
    settings = workshop.settings
    environment = {
        **site.environment,
        "EXPORT_API_URL": settings.require_control_url(),
        "EXPORT_HOME": str(settings.home),
    }
    person = PEOPLE[who]
    with closing(ControlDatabase(settings.require_control_url())) as control:
        key = ApiKeyStore(control).create(role=person.role, tenant_id=person.tenant, user_id=who, created_by="test")[1]
    with (
        running_api(settings.home, environment) as address,
        httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=60, verify=False) as client,
    ):
        yield client


def test_the_progress_of_a_real_export_is_seen_to_its_end_and_its_bytes_are_the_packages(
    site: Site, workshop: Workshop
) -> None:
    with beside(workshop, site, "ann") as client:
        job = client.post(JOBS, json={**PETS, "compression": "gzip"}).json()["job_id"]
        runner = threading.Thread(target=workshop.run, args=(job,))
        runner.start()
        with client.stream("GET", f"{JOBS}/{job}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            seen = list(statuses(stream.iter_lines()))
        runner.join()
        percentages = [status["progress"]["percentage"] for status in seen]
        assert seen[-1]["status"] == "completed"
        assert percentages == sorted(percentages)
        assert percentages[-1] == 100
        for file in seen[-1]["files"]:
            answer = client.get(urlsplit(file["download_url"]).path)
            assert (len(answer.content), hashlib.sha256(answer.content).hexdigest()) == (
                file["size_bytes"],
                file["checksum"],
            )


def test_the_stream_of_an_export_that_is_deleted_ends(site: Site) -> None:
    failed = site.queue()
    with site.client("ann") as client, client.stream("GET", f"{JOBS}/{failed}/events") as stream:
        events = statuses(stream.iter_lines())
        assert next(events)["status"] == "queued"
        site.control.rows(
            """
            UPDATE export_control.export_requests SET status = 'cancelled', deleted_at = now() WHERE id = %(id)s
            """,
            {"id": failed},
        )
        assert list(events) == []


def server_of(site: Site) -> psutil.Process:
    port = urlsplit(site.address).port
    for process in psutil.Process().children(recursive=True):
        if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp")):
            return process
    raise AssertionError("the server is no child of this process")


def open_sockets(server: psutil.Process, port: int | None) -> int:
    return sum(c.status != psutil.CONN_LISTEN and c.laddr.port == port for c in server.net_connections("tcp"))


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_two_hundred_who_watch_do_not_keep_the_others_waiting_and_leave_nothing_behind(site: Site) -> None:
    waiting, port = site.queue(), urlsplit(site.address).port
    server = server_of(site)
    limits = httpx.Limits(max_connections=WATCHERS + 10)
    with site.client("ann") as other:
        other.get("/healthz")
        before = open_sockets(server, port)
        with (
            httpx.Client(base_url=site.address, timeout=60, limits=limits, verify=False) as client,
            ExitStack() as streams,
        ):
            for number in range(WATCHERS):
                headers = {**site.client("ann" if number < STREAMS_PER_USER else "chief").headers}
                stream = streams.enter_context(client.stream("GET", f"{JOBS}/{waiting}/events", headers=headers))
                assert stream.status_code == 200
            refused = other.get(f"{JOBS}/{waiting}/events")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
            took: list[float] = []
            while sum(took) < 2:  # each watcher has had several turns meanwhile
                started = time.monotonic()
                assert other.get(f"{JOBS}/{waiting}/status").status_code == 200
                took.append(time.monotonic() - started)
            site.publisher.requests.request_cancel(waiting)
            assert list(statuses(stream.iter_lines()))[-1]["status"] == "cancelled"
        assert statistics.quantiles(took, n=20)[-1] < 0.5
        assert soon(lambda: open_sockets(server, port) <= before)
        assert server.num_threads() < 60
