"""Stored files as answers: a short presigned URL where the store has them, else bytes of one or of a whole package.

All of them can be asked for in parts, and by the version that a client has already.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain
from typing import Any

from anyio import Path as AsyncPath
from fastapi import Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from export_pipelines.api.conditional_requests import Part, wanted_part
from export_pipelines.api.problems import ResponseCut, answer
from export_pipelines.api.services import ApiServices
from export_pipelines.archives.zip_layout import MemberPart, StoredMember, ZipLayout
from export_pipelines.core.disposition import attachment
from export_pipelines.core.errors import ExportError, IntegrityViolation, ObjectMissing
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import ObjectStore

File = Mapping[str, Any]  # a row of export_files
ZIP = "application/zip"
_READ_BYTES = 1 << 20
_REMOVED = "the file was removed; its export was deleted or has expired"
_REFUSED = {
    HTTPStatus.PRECONDITION_FAILED: "the file is not the version that If-Match names; download it anew",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "the range begins behind the file's end",
}


def file_response(
    request: Request,
    file: File,
    services: ApiServices,
    headers: Mapping[str, str] | None = None,
    *,
    resumable: bool = True,
) -> Response:
    """Range, If-Range, If-Match, If-None-Match, ETag, Repr-Digest (RFC 9530) and the file's own name (RFC 6266).

    `ObjectMissing` when the store does not have it any more. Where the store hands out the bytes, it also decides
    about versions: its tags are others, and a redirect has none (RFC 9110, 13.2.1).
    """
    described = {**(headers or {}), **_describing(file, resumable=resumable)}
    filename = file_name(file)
    wanted = wanted_part(request, _tag(file), file["size_bytes"], resumable=resumable)
    url = services.store.presigned_url(file["key"], ttl=services.settings.signed_url_lifetime, filename=filename)
    if url is not None and request.method == "GET" and wanted is HTTPStatus.PRECONDITION_FAILED:
        wanted = HTTPStatus.OK
    if isinstance(wanted, HTTPStatus) and wanted is not HTTPStatus.OK:
        return _without_bytes(request, wanted, described, file["size_bytes"])
    if url is None:
        with ExitStack() as stack:  # a local store's file outlives its context
            stored = stack.enter_context(services.store.local(file["key"]))
        if stored.stat().st_size != file["size_bytes"]:
            raise IntegrityViolation(f"{stored} is not as long as it was published")
        return _StoredFile(
            stored, media_type=file["media_type"], headers=described, part=wanted if isinstance(wanted, Part) else None
        )
    if not services.store.exists(file["key"]):
        raise ObjectMissing(f"object {services.store.url(file['key'])} is missing")
    if request.method == "HEAD":  # a presigned URL is signed for GET only
        described["Content-Length"] = str(file["size_bytes"])
        return Response(headers=described, media_type=file["media_type"])
    return RedirectResponse(url, HTTPStatus.FOUND, headers=dict(headers or {}))


def package_response(
    request: Request,
    files: Sequence[File],
    folder: str,
    store: ObjectStore,
    headers: Mapping[str, str] | None = None,
    *,
    resumable: bool = True,
) -> Response:
    """All files as one ZIP made on the way, uncompressed: what is in it is compressed already, or was not to be.

    The same files give the same bytes, so it has a length, a tag and parts like a stored file. `ObjectMissing` when one
    of them is not in the store any more; one that goes later cuts the response.
    """
    layout = ZipLayout(
        StoredMember(name=f"{folder}/{file['path']}", size_bytes=file["size_bytes"], crc32=file["crc32"])
        for file in files
    )
    tag = _tag_of_package(layout, files)
    described = {
        **(headers or {}),
        "Content-Disposition": attachment(f"{folder}.zip"),
        "ETag": tag,
        "Accept-Ranges": "bytes" if resumable else "none",
    }
    wanted = wanted_part(request, tag, layout.size_bytes, resumable=resumable)
    if isinstance(wanted, HTTPStatus) and wanted is not HTTPStatus.OK:
        return _without_bytes(request, wanted, described, layout.size_bytes)
    _require_stored(files, store)
    status = HTTPStatus.OK
    if isinstance(wanted, Part):
        status = HTTPStatus.PARTIAL_CONTENT
        described["Content-Range"] = wanted.content_range(layout.size_bytes)
    else:
        wanted = Part(start=0, end=layout.size_bytes)
    described["Content-Length"] = str(wanted.end - wanted.start)
    if request.method == "HEAD":
        return Response(media_type=ZIP, headers=described)
    pieces = _read(layout.part(wanted.start, wanted.end), files, store)
    begun = chain((next(pieces),), _cut_when_broken(pieces))
    return StreamingResponse(begun, status, media_type=ZIP, headers=described)


def archive_of(files: Sequence[File]) -> File | None:
    """The one file that a package is packed into, beside its manifest; None where it is a folder."""
    packed = [file for file in files if file_name(file) != MANIFEST]
    return packed[0] if len(packed) == 1 else None


def file_name(file: File) -> str:
    return str(file["path"]).rsplit("/", 1)[-1]


class _StoredFile(FileResponse):
    """A file of the local store, or the part of it that was decided on. One that is removed before it is opened, which
    happens after this was made, is not there any more; later it does not matter.
    """

    def __init__(self, *given: Any, part: Part | None, **named: Any) -> None:
        super().__init__(*given, **named)
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        own = [(name, text) for name, text in scope["headers"] if name not in (b"range", b"if-range")]
        if self._part is not None:
            own.append((b"range", f"bytes={self._part.start}-{self._part.end - 1}".encode()))
        scope = {**scope, "headers": own}
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await super().__call__(scope, receive, sending)
        except (OSError, RuntimeError) as error:  # the framework's own is a RuntimeError
            if await AsyncPath(self.path).exists():
                raise
            if begun:
                raise ResponseCut("the file was removed when its download began") from error
            await answer(Request(scope), HTTPStatus.NOT_FOUND, _REMOVED)(scope, receive, send)


def _tag(file: File) -> str:
    return f'"{file["sha256"]}"'


def _describing(file: File, *, resumable: bool) -> dict[str, str]:
    """What a client needs to name, resume and check a download."""
    digest = base64.b64encode(bytes.fromhex(file["sha256"])).decode()
    return {
        "Content-Disposition": attachment(file_name(file)),
        "ETag": _tag(file),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes" if resumable else "none",
    }


def _without_bytes(request: Request, status: HTTPStatus, described: dict[str, str], size_bytes: int) -> Response:
    if status is HTTPStatus.NOT_MODIFIED:
        return Response(status_code=status, headers=described)
    headers = {"Content-Range": f"bytes */{size_bytes}"} if status is not HTTPStatus.PRECONDITION_FAILED else {}
    return answer(request, status, _REFUSED[status], headers=headers)


def _tag_of_package(layout: ZipLayout, files: Sequence[File]) -> str:
    """Over all that the archive's bytes follow from: its own, and the sums of its members'."""
    digest = hashlib.sha256()
    for piece in layout.part(0, layout.size_bytes):
        if isinstance(piece, bytes):
            digest.update(piece)
    for file in files:
        digest.update(bytes.fromhex(file["sha256"]))
    return f'"{digest.hexdigest()}"'


def _require_stored(files: Sequence[File], store: ObjectStore) -> None:
    """`ObjectMissing` unless all are there; by one listing, since a package may have thousands."""
    held = dict(store.list(posixpath.commonpath([posixpath.dirname(file["key"]) for file in files])))
    for file in files:
        if file["key"] not in held:
            raise ObjectMissing(f"object {store.url(file['key'])} is missing")
        if held[file["key"]] != file["size_bytes"]:
            raise IntegrityViolation(f"object {store.url(file['key'])} is not as long as it was published")


def _cut_when_broken(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (ExportError, OSError) as error:
        raise ResponseCut(f"a file of the package cannot be read: {error}") from error


def _read(parts: Iterator[bytes | MemberPart], files: Sequence[File], store: ObjectStore) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        key, left = files[part.index]["key"], part.end - part.start
        with store.reading(key) as source:
            if part.start:
                source.seek(part.start)
            while left:
                piece = source.read(min(_READ_BYTES, left))
                if not piece:
                    raise IntegrityViolation(f"object {store.url(key)} is shorter than it was published")
                left -= len(piece)
                yield piece
