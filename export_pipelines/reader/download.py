"""Packages behind an address: the archive itself, or the files of a download link, into a folder of the caller's.

Only over https, but from this machine. An answer is streamed to disk and stops at the size that it announces, that the
manifest lists, or that the disk has room for. An address is a credential, so messages name its host alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import quote

from export_pipelines.core.errors import IntegrityViolation, NotFound, RequestRejected, TooMany, Unavailable
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.package_paths import shown
from export_pipelines.packaging.manifest_reading import MAX_BYTES, manifest_content, parse_manifest
from export_pipelines.pipeline.verification.unpacking import DiskGuard

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS, _SILENT_SECONDS = 10, 60
_MAX_REDIRECTS = 5
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_ARCHIVE = "package.zip"  # what it is, its bytes tell


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
        auth=("", link_password) if link_password is not None else None,
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        timeout=httpx.Timeout(_SILENT_SECONDS, connect=_CONNECT_SECONDS),
        event_hooks={"request": [_require_private]},
    ) as client:
        page = url.rstrip("/").removesuffix(f"/{MANIFEST}")
        if page == url.rstrip("/"):
            with _answer(client, url) as response:
                if not _is_page(response):
                    _save(response, folder / _ARCHIVE)
                    return folder / _ARCHIVE
        return _files_of_link(client, page, folder / "package")


def _files_of_link(client: httpx.Client, page: str, folder: Path) -> Path:
    """The manifest, then exactly the files that it lists, each to its size."""
    folder.mkdir()
    with _answer(client, f"{page}/{MANIFEST}") as response:
        if _is_page(response):
            raise RequestRejected(f"{response.url.host} answers with a page that is no package's", field="package")
        _save(response, folder / MANIFEST, most_bytes=MAX_BYTES)
    sizes = parse_manifest(manifest_content(folder / MANIFEST), MANIFEST).sizes
    if sum(sizes.values()) > shutil.disk_usage(folder).free:
        raise _too_large(folder)
    for path, size in sizes.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _answer(client, f"{page}/{quote(path)}") as response:
            saved = _save(response, target, most_bytes=size)
        if saved != size:
            raise IntegrityViolation(f"{shown(path)} came with {saved} bytes, the manifest says {size}; try again")
    return folder


@contextmanager
def _answer(client: httpx.Client, url: str) -> Iterator[httpx.Response]:
    """A response whose body is still to come; the errors of a connection as what to do about them."""
    import httpx

    host = _host(url)
    try:
        with client.stream("GET", url) as response:
            _require_served(response, host, has_password=client.auth is not None)
            yield response
    except httpx.TooManyRedirects as error:
        raise RequestRejected(f"{host} redirects without an end", field="package") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"the download from {host} broke off ({type(error).__name__}); try again") from None
    except httpx.InvalidURL as error:
        raise RequestRejected("is no address", field="package") from error


def _require_served(response: httpx.Response, host: str, *, has_password: bool) -> None:
    status = response.status_code
    match status:
        case HTTPStatus.OK:
            return
        case HTTPStatus.UNAUTHORIZED if "basic" in response.headers.get("WWW-Authenticate", "").lower():
            what = "is not the password of this link" if has_password else "is needed for this link"
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
    if announced.isascii() and announced.isdigit() and int(announced) > shutil.disk_usage(target.parent).free:
        raise _too_large(target.parent)
    with target.open("xb") as file:
        guard, saved = DiskGuard(cast("BinaryIO", file), target.parent), 0
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


def _host(url: str) -> str:
    import httpx

    try:
        return httpx.URL(url).host or "the address"
    except httpx.InvalidURL:
        return "the address"


def _too_large(folder: Path) -> Unavailable:
    return Unavailable(f"the package is larger than {folder} has room for; set TMPDIR to a larger disk")
