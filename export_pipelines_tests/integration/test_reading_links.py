"""Packages read from an address: the service's own links and downloads, and servers that one should not believe."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import export_pipelines
from export_pipelines.api.link_passwords import hash_password
from export_pipelines.core.access import Role
from export_pipelines.core.errors import IntegrityViolation, NotFound, RequestRejected, Unavailable
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.pipeline.verification import unpacking
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.links import LinkStore
from export_pipelines_tests.integration.test_download_pages import running_pages
from export_pipelines_tests.workshop import TENANTS, FinishedExports

PASSWORD = "Tr0ub4dor & 3 staples"
CSV: dict[str, Any] = {"name": "Pets of ours", "tables": ["pets", "invoices"], "format": "csv"}
FORMS: dict[str, dict[str, Any]] = {
    "files": {"compression": "gzip"},
    "archive": {"compression": "zip"},
    "encrypted": {"encryption": {"method": "AES256", "password": PASSWORD}},
}


@dataclass(frozen=True)
class Service:
    """The real application over exports that were really made."""

    address: str
    finished: FinishedExports
    control: ControlDatabase

    def link(self, order: dict[str, Any], **options: Any) -> str:
        """The address of a new link to the export of that configuration."""
        expires_at = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
        request = self.finished.request(order)
        return f"{self.address}/d/{LinkStore(self.control).make(request.id, expires_at=expires_at, **options)[0]}"


@pytest.fixture(scope="module")
def service(finished: FinishedExports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = finished.workshop.settings
    url = settings.require_control_url()
    with running_pages(
        settings.home, url, EXPORT_CATALOG="", EXPORT_SOURCE_URL=settings.require_source_url()
    ) as client:
        control = ControlDatabase(url)
        yield Service(str(client.base_url).rstrip("/"), finished, control)
        control.close()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where downloads go; nothing stays there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


# The service ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_link_leads_to_the_same_rows_as_the_package(service: Service, form: str) -> None:
    order = {**CSV, **FORMS[form]}
    password = PASSWORD if form == "encrypted" else None
    link = service.link(order)
    folder = service.finished.workshop.package(service.finished.request(order))
    keys = key_set(service.finished.workshop.services.signing.published())
    with export_pipelines.read(folder, password) as there:
        for address in (link, f"{link}/manifest.json"):
            with export_pipelines.read(address, password, keys) as package:
                assert package.trusted
                assert package.to_arrow("pets").equals(there.to_arrow("pets"))


def test_the_archive_behind_a_link_is_read_by_itself(service: Service) -> None:
    order = {**CSV, "compression": "zip"}
    [archive] = service.finished.workshop.package(service.finished.request(order)).glob("*.zip")
    with export_pipelines.read(f"{service.link(order)}/{archive.name}") as package:
        assert package.id == service.finished.request(order).id


def test_a_link_with_a_password_asks_for_it(service: Service) -> None:
    link = service.link(CSV, password_hash=hash_password("open sesame"))
    with pytest.raises(RequestRejected, match="link_password: is needed"):
        export_pipelines.read(link)
    with pytest.raises(RequestRejected, match="link_password: is not the password"):
        export_pipelines.read(link, link_password="open barley")
    for address in (link, f"{link}/manifest.json"):
        with export_pipelines.read(address, link_password="open sesame") as package:
            assert list(package.tables) == CSV["tables"]
    with pytest.raises(RequestRejected, match="link_password: is not the password"):
        export_pipelines.read(f"{link}/data/pets.csv", link_password="open barley")
    with export_pipelines.read(service.link(CSV), link_password="for nothing") as package:
        assert list(package.tables) == CSV["tables"]


def test_a_link_that_is_gone_or_used_up_is_said_without_its_token(service: Service) -> None:
    unknown = f"{service.address}/d/no-such-token"
    for link in (unknown, service.link(CSV, max_uses=2)):
        with pytest.raises(NotFound, match="may have expired or be used up") as found:
            export_pipelines.read(link)
        assert link.rsplit("/", 1)[1] not in str(found.value)


def test_the_download_of_the_api_is_read_with_an_api_key(service: Service) -> None:
    export = service.finished.request(CSV)
    address = f"{service.address}/api/v1/exports/jobs/{export.id}/download"
    with pytest.raises(RequestRejected, match=r"api_key: .* does not accept it"):
        export_pipelines.read(address)
    key = ApiKeyStore(service.control).create(role=Role.ADMIN, tenant_id=TENANTS[0], created_by="test")[1]
    with export_pipelines.read(address, api_key=key) as package:
        assert (package.id, package.to_arrow("pets").num_rows) == (export.id, package.tables["pets"].rows)


# Servers that one should not believe ------------------------------------------------------------------------------


@dataclass
class Server:
    """Answers each path with what a test put there: status, headers, body."""

    address: str = ""
    answers: dict[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)  # path, Authorization


@contextmanager
def serving() -> Iterator[Server]:
    made = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append((self.path, self.headers.get("Authorization")))
            status, headers, body = made.answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # whoever has heard enough hangs up
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Tests look at ``seen``."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


Answers = dict[str, tuple[int, Mapping[str, str], bytes]]
PAGE: Answers = {"/d/t": (200, {"Content-Type": "text/html; charset=utf-8"}, b"<p>Files</p>")}


def listing(*files: tuple[str, int]) -> Answers:
    """A link whose manifest lists these files."""
    column = {"name": "a", "type": "integer", "kind": "integer", "nullable": True}
    table = {"name": "t", "rows": 0, "columns": [column], "aggregates": {"a": {"non_null": 0}}}
    manifest = {
        "manifest_version": 1,
        "export": {"id": "e"},
        "format": {"name": "csv"},
        "tables": [table],
        "files": [{"path": path, "size_bytes": size, "sha256": "0" * 64, "parts": []} for path, size in files],
    }
    return {**PAGE, "/d/t/manifest.json": (200, {}, json.dumps(manifest).encode())}


CASES: dict[str, tuple[Answers, type[Exception], str]] = {
    "links that lead away": (
        {"/d/t": (200, PAGE["/d/t"][1], b'<a href="https://127.0.0.2/t/a.zip">a</a>')},
        NotFound,
        "nothing at this address",
    ),
    "a page that is no link": (PAGE, NotFound, "nothing at this address"),
    "pages all over": (PAGE | {"/d/t/manifest.json": PAGE["/d/t"]}, RequestRejected, "a page that is no package's"),
    "no package": ({"/d/t": (200, {}, b"hello")}, RequestRejected, "is not a package"),
    "an error of the server": ({"/d/t": (503, {}, b"")}, Unavailable, "answered 503"),
    "a limit": ({"/d/t": (429, {"Retry-After": "7"}, b"")}, RequestRejected, "asks to wait 7 seconds"),
    "less than announced": ({"/d/t": (200, {"Content-Length": "9"}, b"PK")}, Unavailable, "broke off"),
    "more than any disk": ({"/d/t": (200, {"Content-Length": f"{10**16}"}, b"PK")}, Unavailable, "has room for"),
    "a circle": ({"/d/t": (302, {"Location": "/d/t"}, b"")}, RequestRejected, "redirects without an end"),
    "an open road": ({"/d/t": (302, {"Location": "http://127.0.0.2:1/"}, b"")}, RequestRejected, "unencrypted"),
    "a larger file": (
        listing(("a.csv", 3)) | {"/d/t/a.csv": (200, {}, b"abcd")},
        IntegrityViolation,
        r"a\.csv comes with more than the 3 bytes",
    ),
    "a smaller file": (
        listing(("a.csv", 3)) | {"/d/t/a.csv": (200, {}, b"ab")},
        IntegrityViolation,
        r"a\.csv came with 2 bytes",
    ),
    "another file": (
        listing(("a.csv", 3)) | {"/d/t/a.csv": (200, {}, b"abc")},
        IntegrityViolation,
        r"the package is damaged: a\.csv has another SHA-256",
    ),
    "a path that leads out": (listing(("../../a.csv", 3)), IntegrityViolation, "do not read alike"),
    "files beyond any disk": (listing(("a.csv", 10**16)), Unavailable, "has room for"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_server_may_not_do(server: Server, case: str) -> None:
    answers, error, message = CASES[case]
    server.answers.update(answers)
    with pytest.raises(error, match=message):
        export_pipelines.read(f"{server.address}/d/t")


def test_an_answer_without_an_end_stops_before_the_disk_is_full(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers["/d/t"] = (
        200,
        {"Transfer-Encoding": "chunked", "Content-Length": ""},
        b"fffff\r\n" + b"P" * 0xFFFFF,
    )
    monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: 100_000)
    with pytest.raises(Unavailable, match="has room for"):
        export_pipelines.read(f"{server.address}/d/t")


def test_a_key_goes_to_no_other_server(server: Server) -> None:
    with serving() as other:
        server.answers["/d/t"] = (302, {"Location": f"{other.address}/stored"}, b"")
        other.answers["/stored"] = (200, {}, b"no package")
        for credential in ({"api_key": "secret"}, {"link_password": "secret"}):
            with pytest.raises(RequestRejected, match="is not a package") as found:
                export_pipelines.read(f"{server.address}/d/t", **credential)
            assert "secret" not in str(found.value)
        assert [path for path, shown in server.seen if shown] == ["/d/t", "/d/t"]
        assert other.seen == [("/stored", None), ("/stored", None)]


@pytest.mark.parametrize("address", ["http://exports.example.com/d/t", "ftp://exports.example.com/d/t"])
def test_an_address_that_others_could_read_along_is_refused(address: str) -> None:
    with pytest.raises(RequestRejected, match=r"package: .*https"):
        export_pipelines.read(address)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"the download from 127\.0\.0\.1 broke off"):
        export_pipelines.read("https://127.0.0.1:1/d/token")
