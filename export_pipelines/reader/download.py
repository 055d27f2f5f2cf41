"""Packages behind an address: the archive itself, or the files of a download link, into a folder of the caller's.

Only over https, but from this machine. An answer is streamed to disk and stops at the size that it announces, that the
manifest lists, or that the disk has room for. An address is a credential, so messages name its host alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote, unquote

from export_pipelines.core.errors import IntegrityViolation, NotFound, RequestRejected, TooMany, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.package_paths import shown
from export_pipelines.packaging.manifest_reading import MAX_BYTES, manifest_content, parse_manifest
from export_pipelines.pipeline.verification import unpacking

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS, _SILENT_SECONDS = 10, 60
_MAX_REDIRECTS = 5
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ARCHIVE, _PAGE = "package.zip", "page.html"  # what an archive is, its bytes tell
_NOT_ITS_OWN = "is not the password of this link"


def download(url: str, folder: Path, *, link_password: str | None = None, api_key: str | None = None) -> Path:
    """The archive, or the folder with the files of a link, below ``folder``.

    Each file that is fetched is one of the link's uses, where these are counted.
    """
    import httpx  # only those who read from an address load it

    headers = {"Accept-Encoding": "identity"}
    if api_key is not None:
        headers["Authorization"] = f"Bearer {api_key}"
    with httpx.Client(
        headers=headers,
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=httpx.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS),
        event_hooks={"request": [_require_private]},
    ) as client:
        page = url.rstrip("/").removesuffix(f"/{MANIFEST}")
        if page == url.rstrip("/"):
            basic = ("", link_password) if link_password is not None else None
            with _answer(client, url, basic) as response:
                if not _is_page(response):
                    _save(response, folder / _ARCHIVE)
                    return folder / _ARCHIVE
        if link_password is not None:
            _unlock(client, page, link_password)
        return _content_of_link(client, page, folder)


def _unlock(client: httpx.Client, page: str, password: str) -> None:
    """Show the password once, for the link's cookie: with each file it would cost the server a slow hash each."""
    with _connected(page) as host:
        response = client.post(page, data={"password": password}, follow_redirects=False)
        if response.status_code == HTTPStatus.FORBIDDEN:
            raise RequestRejected(_NOT_ITS_OWN, field="link_password")
        if response.status_code not in (HTTPStatus.SEE_OTHER, HTTPStatus.METHOD_NOT_ALLOWED):  # 405: it has none
            _require_served(response, host)


def _content_of_link(client: httpx.Client, page: str, folder: Path) -> Path:
    """The archive where the page offers one, with its own manifest inside; else every file of the manifest."""
    with _answer(client, page) as response:
        _save(response, folder / _PAGE, most_bytes=MAX_BYTES)
    offered = _offered(folder / _PAGE, page) - {MANIFEST}
    if len(offered) != 1:
        return _files_of_link(client, page, folder / "package")
    with _answer(client, f"{page}/{quote(offered.pop())}") as response:
        _save(response, folder / _ARCHIVE)
    return folder / _ARCHIVE


def _offered(listing: Path, page: str) -> set[str]:
    """Paths of the files that a link's page leads to; none where it asks for a password."""
    below = f"/{page.rsplit('/', 1)[-1]}/"  # whatever a proxy puts before it
    links = _Links()
    links.feed(listing.read_text(encoding="utf-8", errors="replace"))
    return {unquote(link.partition(below)[2]) for link in links.found if below in link}


class _Links(HTMLParser):
    """The addresses that a page has links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if (tag, name) == ("a", "href") and value]


def _files_of_link(client: httpx.Client, page: str, folder: Path) -> Path:
    """The manifest, then exactly the files that it lists, each to its size."""
    folder.mkdir()
    with _answer(client, f"{page}/{MANIFEST}") as response:
        if _is_page(response):
            raise RequestRejected(f"{response.url.host} answers with a page that is no package's", field="package")
        _save(response, folder / MANIFEST, most_bytes=MAX_BYTES)
    sizes = parse_manifest(manifest_content(folder / MANIFEST), MANIFEST).sizes
    if sum(sizes.values()) > unpacking.free_bytes(folder):
        raise unpacking.too_large(folder)
    for path, size in sizes.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _answer(client, f"{page}/{quote(path)}") as response:
            saved = _save(response, target, most_bytes=size)
        if saved != size:
            raise IntegrityViolation(f"{shown(path)} came with {saved} bytes, the manifest says {size}; try again")
    return folder


@contextmanager
def _answer(client: httpx.Client, url: str, basic: tuple[str, str] | None = None) -> Iterator[httpx.Response]:
    """A response whose body is still to come."""
    with _connected(url) as host, client.stream("GET", url, auth=basic) as response:
        _require_served(response, host, has_password=basic is not None)
        yield response


@contextmanager
def _connected(url: str) -> Iterator[str]:
    """The host's name; the errors of a connection to it as what to do about them."""
    import httpx

    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL:
        raise RequestRejected("is no address", field="package") from None  # its message quotes it
    try:
        yield host
    except httpx.TooManyRedirects:
        raise RequestRejected(f"{host} redirects without an end", field="package") from None
    except httpx.HTTPError as error:
        raise Unavailable(f"the download from {host} broke off ({type(error).__name__}); try again") from None


def _require_served(response: httpx.Response, host: str, *, has_password: bool = False) -> None:
    status = response.status_code
    match status:
        case HTTPStatus.OK:
            return
        case HTTPStatus.UNAUTHORIZED if "basic" in response.headers.get("WWW-Authenticate", "").lower():
            what = _NOT_ITS_OWN if has_password else "is needed for this link"
            raise RequestRejected(what, field="link_password")
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise RequestRejected(f"{host} does not accept it ({status})", field="api_key")
        case HTTPStatus.NOT_FOUND | HTTPStatus.GONE:
            raise NotFound(f"{host} has nothing at this address; the link may have expired or be used up ({status})")
        case HTTPStatus.TOO_MANY_REQUESTS:
            wait = response.headers.get("Retry-After", "")
            seconds = float(wait) if wait.isascii() and wait.isdigit() else 60.0
            raise TooMany(f"{host} asks to wait {seconds:.0f} seconds", retry_after_seconds=seconds)
        case _:
            raise Unavailable(f"{host} answered {status}; try again later")


def _save(response: httpx.Response, target: Path, *, most_bytes: int | None = None) -> int:
    """The body as a new file; its size. `Unavailable` where the disk is too small for it."""
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > unpacking.free_bytes(target.parent):
        raise unpacking.too_large(target.parent)
    with target.open("xb") as file:
        guard, saved = unpacking.DiskGuard(cast("BinaryIO", file), target.parent), 0
        for piece in response.iter_raw():
            saved += len(piece)
            if most_bytes is not None and saved > most_bytes:
                raise IntegrityViolation(
                    f"{target.name} comes with more than the {most_bytes} bytes that it should have"
                )
            guard.write(piece)
    return saved


def _is_page(response: httpx.Response) -> bool:
    media_type: str = response.headers.get("Content-Type", "")
    return media_type.partition(";")[0].strip().lower() == "text/html"


def _require_private(request: httpx.Request) -> None:
    """Of every hop, redirects included: nobody on the way may read the rows or the link."""
    if request.url.scheme != "https" and not (request.url.scheme == "http" and request.url.host in _THIS_MACHINE):
        raise RequestRejected(f"{request.url.host} would send it unencrypted; use an https address", field="package")
