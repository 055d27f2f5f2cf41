"""Download links through the real application: who may read what, for how long, and what the pages look like."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import http.client
import io
import re
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

from export_pipelines.api.link_passwords import hash_password
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.s3 import S3Store
from export_pipelines.stores.control import ControlDatabase
from export_pipelines_tests.published import FILES, Publisher
from export_pipelines_tests.servers.processes import HOST, ServerProcess, accepts, await_ready, ports
from export_pipelines_tests.servers.s3 import S3Server

HOSTILE = "<img src=x onerror=alert(1)>&\"'.csv"
CONTENT = b"0123456789abcdef"


@pytest.fixture(scope="module")
def control_url(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("pages")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def publisher(control_url: str, home: Path) -> Iterator[Publisher]:
    control = ControlDatabase(control_url)
    yield Publisher(control=control, store=LocalStore(home / "objects"))
    control.close()


@contextmanager
def running_pages(folder: Path, control_url: str, **environment: str) -> Iterator[Any]:
    """A client of the application in a process of its own, which logs into ``pages.log``."""
    [port] = ports(1)
    environment = {"EXPORT_CONTROL_URL": control_url, "EXPORT_HOME": str(folder), **environment}
    command = ["-m", "export_pipelines", "api", "--host", HOST, "--port", str(port)]
    server = ServerProcess("pages", command, folder, environment)
    try:
        await_ready(lambda: accepts(port), [server])
        with httpx.Client(base_url=f"http://{HOST}:{port}", timeout=30) as client:
            yield client
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pages(control_url: str, home: Path) -> Iterator[Any]:
    with running_pages(home, control_url) as client:
        yield client


def links(page: str) -> list[str]:
    """The addresses of the files, one by one."""
    return re.findall(r'<li><a href="([^"]+)"', page)


def whole(page: str) -> str:
    """The address of all of them as one ZIP."""
    [found] = re.findall(r'<a class="all" href="([^"]+)"', page)
    return str(found)


# A real server ----------------------------------------------------------------------------------------------------


def test_the_keys_that_verify_packages_are_there_for_anybody(pages: Any) -> None:
    answer = pages.get("/.well-known/export-pipelines/keys.json")
    assert (answer.status_code, answer.json()) == (200, {"keys": []})


def test_a_person_opens_the_link_and_downloads_every_file(pages: Any, publisher: Publisher, home: Path) -> None:
    token = publisher.link(publisher.publish(name="Pets of März"))
    page = pages.get(f"/d/{token}")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Pets of März" in page.text
    assert sorted(pages.get(link).content for link in links(page.text)) == sorted(FILES.values())
    assert pages.get("/healthz").json() == {"status": "ok"}
    log = (home / "pages.log").read_text()
    assert '"/d/{token}/{path:path}"' in log
    assert token not in log


def test_an_interrupted_download_is_resumed_and_refused_when_the_file_changed(pages: Any, publisher: Publisher) -> None:
    token = publisher.link(publisher.publish({"data.csv": CONTENT}))
    whole = pages.get(f"/d/{token}/data.csv")
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, CONTENT, "bytes")
    tag = whole.headers["etag"]
    assert tag == f'"{hashlib.sha256(CONTENT).hexdigest()}"'

    def part(range_: str, **headers: str) -> Any:
        return pages.get(f"/d/{token}/data.csv", headers={"Range": range_, **headers})

    rest = part("bytes=10-", **{"If-Range": tag})
    assert (rest.status_code, rest.content) == (206, CONTENT[10:])
    assert rest.headers["content-range"] == "bytes 10-15/16"
    assert part("bytes=-3").content == CONTENT[-3:]
    assert part("bytes=10-", **{"If-Range": '"another"'}).content == CONTENT
    assert part("bytes=99-").status_code == 416


@pytest.mark.parametrize(
    "path",
    ["../pets.csv", "../../README.md", "..%2f..%2fpets.csv", "%2e%2e/pets.csv", "/etc/passwd", "%2fetc%2fpasswd",
     "pets.csv/", "./pets.csv", "pets.csv%00", "PETS.CSV", "\\..\\pets.csv"],
)  # fmt: skip
def test_a_path_that_is_not_in_the_package_is_not_found(pages: Any, publisher: Publisher, path: str) -> None:
    token = publisher.link(publisher.publish({"data/pets.csv": CONTENT}))
    publisher.publish()
    connection = http.client.HTTPConnection(HOST, pages.base_url.port)  # sends the path as it stands
    connection.request("GET", f"/d/{token}/{path}")
    answer = connection.getresponse()
    assert answer.status == 404
    assert CONTENT not in answer.read()
    connection.close()


# All at once ------------------------------------------------------------------------------------------------------


def test_a_person_downloads_everything_at_once_and_goes_on_where_it_broke_off(pages: Any, publisher: Publisher) -> None:
    request_id = publisher.publish(name="Pets of März")
    address = whole(pages.get(f"/d/{publisher.link(request_id)}").text)
    got, head = pages.get(address), pages.head(address)
    name = f"pets-of-märz-{request_id[:8]}"
    with zipfile.ZipFile(io.BytesIO(got.content)) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == {
            f"{name}/{path}": content for path, content in FILES.items()
        }
    assert unquote(address).endswith(f"/{name}.zip")
    assert got.headers["content-disposition"].endswith(f"filename*=UTF-8''{quote(name)}.zip")
    own = {"x-request-id": "", "date": ""}
    assert {**head.headers, **own} == {**got.headers, **own}
    size = len(got.content)
    assert got.headers["content-length"] == str(size)
    for start in (0, 1, 40, size // 2, size - 1):
        headers = {"Range": f"bytes={start}-", "If-Range": got.headers["etag"]}
        rest = pages.get(address, headers=headers)
        assert (rest.status_code, rest.content) == (206, got.content[start:])
        assert rest.headers["content-range"] == f"bytes {start}-{size - 1}/{size}"
    assert pages.get(address, headers={"Range": f"bytes={size}-"}).status_code == 416
    assert pages.get(address, headers={"If-None-Match": got.headers["etag"]}).status_code == 304


def test_another_package_of_the_same_size_has_another_tag(pages: Any, publisher: Publisher) -> None:
    tags = set()
    for content in (b"1", b"2"):
        made = publisher.publish({"pets.csv": content, "README.md": b"#", "manifest.json": b"{}"})
        tags.add(pages.head(whole(pages.get(f"/d/{publisher.link(made)}").text)).headers["etag"])
    assert len(tags) == 2


def test_all_at_once_is_one_use_and_needs_the_password_too(pages: Any, publisher: Publisher) -> None:
    token = locked(publisher, max_uses=1)
    known = ("", "opensesame")
    address = whole(pages.get(f"/d/{token}", auth=known).text)
    assert pages.get(address).status_code == 401
    answer = pages.get(address, auth=known, headers={"Range": "bytes=9-"})
    assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "none")
    for path in (address, f"/d/{token}/pets.csv"):
        assert pages.get(path, auth=known).status_code == 410


def test_a_part_of_all_of_it_is_a_use(pages: Any, publisher: Publisher) -> None:
    request_id = publisher.publish()
    address = whole(pages.get(f"/d/{publisher.link(request_id)}").text)
    for uses, headers in enumerate(({}, {"Range": "bytes=9-"}, {"Range": "bytes=-1"}), 1):
        assert pages.get(address, headers=headers).status_code in (200, 206)
        assert publisher.links.of_request(request_id)[0].uses == uses


def test_what_sends_no_bytes_is_no_use(pages: Any, publisher: Publisher) -> None:
    token = publisher.links.make(
        publisher.publish(), expires_at=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1), max_uses=1
    )[0]
    address = whole(pages.get(f"/d/{token}").text)
    tag = pages.head(address).headers["etag"]
    assert pages.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert pages.get(address, headers={"If-Match": '"another"'}).status_code == 412
    assert pages.get(address).status_code == 200


def test_a_package_that_is_an_archive_is_not_packed_again(pages: Any, publisher: Publisher) -> None:
    request_id = publisher.publish({"pets.age": CONTENT, "manifest.json": b"{}\n"})
    token = publisher.link(request_id)
    assert 'class="all"' not in pages.get(f"/d/{token}").text
    assert pages.get(f"/d/{token}/pets-{request_id[:8]}.zip").status_code == 404


# Tokens -----------------------------------------------------------------------------------------------------------


def _expired(publisher: Publisher) -> str:
    return publisher.link(publisher.publish(), hours=-0.01)


def _revoked(publisher: Publisher) -> str:
    request_id = publisher.publish()
    token = publisher.link(request_id)
    publisher.change(
        "UPDATE export_control.export_links SET revoked_at = now() WHERE request_id = %(id)s", id=request_id
    )
    return token


def _package_gone(publisher: Publisher) -> str:
    request_id = publisher.publish()
    token = publisher.link(request_id)
    publisher.change("UPDATE export_control.export_requests SET status = 'expired' WHERE id = %(id)s", id=request_id)
    return token


@pytest.mark.parametrize("file", ["", "/pets.csv", "/no-such-file"])
def test_every_token_that_does_not_work_answers_the_same_bytes(pages: Any, publisher: Publisher, file: str) -> None:
    tokens = [_expired(publisher), _revoked(publisher), _package_gone(publisher), "x" * 43, "%00", "x" * 5000, "ü"]
    answers = [pages.get(f"/d/{token}{file}") for token in tokens]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    own = ("x-request-id", "date")
    headers = [{name: text for name, text in answer.headers.items() if name not in own} for answer in answers]
    assert headers == headers[:1] * len(headers)
    assert "Ask for a new one" in answers[0].text


def test_a_token_opens_only_its_own_package(pages: Any, publisher: Publisher) -> None:
    mine = publisher.link(publisher.publish({"mine.csv": b"m"}))
    other = publisher.publish({"theirs.csv": b"t"}, tenant="clinic-2")
    assert pages.get(f"/d/{mine}/theirs.csv").status_code == 404
    assert pages.get(f"/d/{mine}/pets-{other[:8]}.zip").status_code == 404
    assert pages.get(f"/d/{other}").status_code == 404  # an id is not a token
    assert pages.get(f"/d/{uuid.uuid4()}").status_code == 404


def test_reading_a_link_again_and_again_harms_nothing(pages: Any, publisher: Publisher) -> None:
    request_id = publisher.publish()
    token = publisher.link(request_id)
    for _ in range(20):  # mail scanners, link previews, the person
        assert pages.get(f"/d/{token}").status_code == 200
        assert pages.head(f"/d/{token}/pets.csv").status_code == 200
    assert pages.get(f"/d/{token}/pets.csv").content == FILES["pets.csv"]
    assert publisher.requests.get(request_id).status == "completed"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_link_is_for_reading(pages: Any, publisher: Publisher, method: str) -> None:
    token = publisher.link(publisher.publish())
    for path in (f"/d/{token}", f"/d/{token}/pets.csv"):
        assert pages.request(method, path).status_code == 405
    assert pages.get(f"/d/{token}/pets.csv").status_code == 200


# Headers and pages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/pets.csv", "/nothing"])
def test_nothing_behind_a_link_is_kept_by_caches_or_told_to_others(pages: Any, publisher: Publisher, path: str) -> None:
    token = publisher.link(publisher.publish())
    for answer in (pages.get(f"/d/{token}{path}"), pages.head(f"/d/{token}{path}")):
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-robots-tag"] == "noindex"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "disposition"),
    [
        ("pets.csv", 'attachment; filename="pets.csv"'),
        ("data/pets.csv", 'attachment; filename="pets.csv"'),
        (
            "Haustiere März.csv",
            "attachment; filename=\"Haustiere Marz.csv\"; filename*=UTF-8''Haustiere%20M%C3%A4rz.csv",
        ),
        ("файл.csv", "attachment; filename=\"download.csv\"; filename*=UTF-8''%D1%84%D0%B0%D0%B9%D0%BB.csv"),
        ("100%2F%.csv", "attachment; filename=\"100_2F_.csv\"; filename*=UTF-8''100%252F%25.csv"),
    ],
)
def test_a_file_is_saved_under_its_own_name(pages: Any, publisher: Publisher, path: str, disposition: str) -> None:
    token = publisher.link(publisher.publish({path: CONTENT}))
    answer = pages.get(f"/d/{token}/{quote(path)}")
    assert answer.content == CONTENT
    assert answer.headers["content-disposition"] == disposition


def test_a_head_tells_all_that_a_get_does(pages: Any, publisher: Publisher) -> None:
    token = publisher.link(publisher.publish({"data.csv": CONTENT}))
    head, get = pages.head(f"/d/{token}/data.csv"), pages.get(f"/d/{token}/data.csv")
    assert head.content == b""
    own = {"x-request-id": "", "date": ""}
    assert {**head.headers, **own} == {**get.headers, **own}
    assert head.headers["content-length"] == "16"
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert head.headers["repr-digest"] == f"sha-256=:{digest}:"


def test_names_from_outside_are_text_on_the_page_and_work_as_links(pages: Any, publisher: Publisher) -> None:
    odd = {HOSTILE: b"1", "data/ü 100%.csv": b"2", "javascript:alert(1)": b"3", "a?b#c.csv": b"4"}
    token = publisher.link(publisher.publish(odd, name="<script>alert('name')</script>"))
    page = pages.get(f"/d/{token}").text
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert all(link.startswith(f"/d/{token}/") for link in links(page))
    assert sorted(pages.get(link).content for link in links(page)) == [b"1", b"2", b"3", b"4"]


def test_the_page_tells_sizes_rows_and_until_when(pages: Any, publisher: Publisher) -> None:
    files = {"pets.csv": b"id\n" + b"12345678\n" * 2000, "one.csv": b"id\n1\n", "none.csv": b"id\n"}
    files = {**FILES, **files}
    page = pages.get(f"/d/{publisher.link(publisher.publish(files))}").text
    for text in ("2,000 rows · 18.0 kB", "1 row · 5 bytes", "0 rows · 3 bytes", "start here · 7 bytes", "3 files"):
        assert text in page
    assert re.search(r"until <strong>\d+ \w+ \d{4}, \d\d:\d\d UTC", page)


# Parts that fail --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_that_vanished_from_the_store_is_gone_and_says_nothing_inside(
    pages: Any, publisher: Publisher, home: Path, method: str
) -> None:
    token = publisher.link(publisher.publish(tenant="clinic-9"))
    address = whole(pages.get(f"/d/{token}").text)
    publisher.store.delete("exports/clinic-9")
    for path in (address, f"/d/{token}/pets.csv"):
        answer = pages.request(method, path)
        assert answer.status_code == 410
        assert method == "HEAD" or "no longer where it was stored" in answer.text
        assert str(home) not in answer.text
        assert "clinic-9" not in answer.text


def test_a_control_database_that_is_down_asks_to_come_back(tmp_path: Path) -> None:
    [port] = ports(1)
    with running_pages(tmp_path, f"postgresql://someone:secret-word@{HOST}:{port}/control") as pages:
        answer = pages.get("/d/token")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert "secret-word" not in answer.text + (tmp_path / "pages.log").read_text()
    assert str(port) not in answer.text


def test_many_people_download_at_once(pages: Any, publisher: Publisher) -> None:
    token = publisher.link(publisher.publish({f"{number}.csv": str(number).encode() for number in range(8)}))
    found: dict[int, bytes] = {}

    def fetch(number: int) -> None:
        found[number] = pages.get(f"/d/{token}/{number}.csv").content

    threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number).encode() for number in range(8)}


# S3 ---------------------------------------------------------------------------------------------------------------


def test_a_click_on_s3_goes_to_a_short_link_that_downloads(
    control_url: str, publisher: Publisher, s3_server: S3Server, s3_store: S3Store, tmp_path: Path
) -> None:
    in_s3 = replace(publisher, store=s3_store)
    address = f"/d/{in_s3.link(in_s3.publish({'data/März.csv': CONTENT}))}/data/M%C3%A4rz.csv"
    storage = {
        "EXPORT_STORAGE_URL": s3_store.url(""),
        "S3_ENDPOINT": s3_server.endpoint,
        "S3_ACCESS_KEY_ID": s3_server.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3_server.secret_access_key,
        "EXPORT_SIGNED_URL_TTL": "60",
    }
    with running_pages(tmp_path, control_url, **storage) as pages:
        answers = [pages.get(address) for _ in range(2)]
        head = pages.head(address)
        kept = pages.get(address, headers={"If-None-Match": head.headers["etag"]})
        theirs = pages.get(address, headers={"If-Match": '"tag-of-s3"'})
        downloads = [httpx.get(answer.headers["location"], headers={"Range": "bytes=2-"}) for answer in answers]
        s3_store.delete("exports")
        gone = [pages.request(method, address) for method in ("GET", "HEAD")]
    for answer, download in zip(answers, downloads, strict=True):
        assert (answer.status_code, answer.headers["cache-control"]) == (302, "private, no-store")
        location = answer.headers["location"]
        assert location.startswith(s3_server.endpoint)
        assert "X-Amz-Expires=60" in location
        assert (download.status_code, download.content) == (206, CONTENT[2:])
        assert "filename*=UTF-8''M%C3%A4rz.csv" in download.headers["content-disposition"]
    assert (head.status_code, head.headers["content-length"]) == (200, "16")  # the S3 link is signed for GET only
    for answer in (kept, theirs):  # the tags of S3 are others than ours, so it decides about them
        assert answer.status_code == (304 if answer is kept else 302)
    assert [answer.status_code for answer in gone] == [410, 410]


# Passwords --------------------------------------------------------------------------------------------------------


def locked(publisher: Publisher, **wanted: Any) -> str:
    """The token of a link with the password `opensesame`."""
    expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    made = publisher.links.make(
        publisher.publish(), expires_at=expires_at, password_hash=hash_password("opensesame"), **wanted
    )
    return made[0]


def test_a_link_with_a_password_shows_nothing_before_it_is_given(pages: Any, publisher: Publisher) -> None:
    token = locked(publisher)
    page, file = pages.get(f"/d/{token}"), pages.get(f"/d/{token}/pets.csv")
    assert (page.status_code, file.status_code) == (200, 401)
    for answer in (page, file):
        assert "pets.csv" not in answer.text
        assert 'type="password"' in answer.text
    assert file.headers["www-authenticate"].startswith("Basic")


def test_a_browser_gives_the_password_once(pages: Any, publisher: Publisher) -> None:
    token, other = locked(publisher), locked(publisher)
    wrong = pages.post(f"/d/{token}", data={"password": "opensesam"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    right = pages.post(f"/d/{token}", data={"password": "opensesame"})
    assert (right.status_code, right.headers["location"]) == (303, f"/d/{token}")
    cookie = right.headers["set-cookie"].partition(";")[0]
    for word in ("HttpOnly", "SameSite=lax", f"Path=/d/{token}"):
        assert word in right.headers["set-cookie"]
    pages.cookies.clear()
    assert pages.get(f"/d/{token}/pets.csv", headers={"Cookie": cookie}).content == FILES["pets.csv"]
    assert pages.get(f"/d/{other}/pets.csv", headers={"Cookie": cookie}).status_code == 401  # of one link only


def test_a_program_gives_the_password_by_basic_authentication(pages: Any, publisher: Publisher) -> None:
    token = locked(publisher)
    assert pages.get(f"/d/{token}/pets.csv", auth=("", "opensesame")).content == FILES["pets.csv"]
    assert pages.get(f"/d/{token}/pets.csv", auth=("", "wrong")).status_code == 401


def test_a_password_cannot_be_guessed_by_trying(pages: Any, publisher: Publisher) -> None:
    token = locked(publisher)
    tries = [pages.post(f"/d/{token}", data={"password": f"guess {number}"}).status_code for number in range(12)]
    assert tries == [403] * 10 + [429] * 2
    late = pages.post(f"/d/{token}", data={"password": "opensesame"})
    assert (late.status_code, int(late.headers["retry-after"]) > 0) == (429, True)
    assert pages.get(f"/d/{locked(publisher)}/pets.csv", auth=("", "opensesame")).status_code == 200  # another link


def test_a_link_gives_out_as_many_files_as_its_maker_said(pages: Any, publisher: Publisher) -> None:
    token = locked(publisher, max_uses=2)
    statuses = [pages.get(f"/d/{token}/pets.csv", auth=("", "opensesame")).status_code for _ in range(3)]
    assert statuses == [200, 200, 410]
    assert pages.head(f"/d/{token}/pets.csv", auth=("", "opensesame")).status_code == 200
