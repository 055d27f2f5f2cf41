"""A stored file as an answer: a short presigned URL where the store has them, else its bytes with Range support."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain
from typing import Any, BinaryIO, cast

from anyio import Path as AsyncPath
from fastapi import Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from export_pipelines.api.problems import ResponseCut, answer
from export_pipelines.api.services import ApiServices
from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.core.disposition import attachment
from export_pipelines.core.errors import ExportError
from export_pipelines.core.ports import ObjectStore

File = Mapping[str, Any]  # a row of export_files
_READ_BYTES = 1 << 20
_WIDE_BYTES = 0xF0000000  # from here on an entry could outgrow 4 GiB
_REMOVED = "the file was removed; its export was deleted or has expired"
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-[0-9]{0,18}|-([0-9]{1,18}))", re.IGNORECASE | re.ASCII)


def file_response(
    request: Request,
    file: File,
    services: ApiServices,
    headers: Mapping[str, str] | None = None,
    *,
    resumable: bool = True,
) -> Response:
    """Range, If-Range, ETag, Repr-Digest (RFC 9530) and the file's own name (RFC 6266), never cached."""
    described = {**(headers or {}), **_describing(file, resumable=resumable)}
    filename = file_name(file)
    start = part_begins(request, file) if resumable else None
    if start is not None and start >= file["size_bytes"]:
        headers = {"Content-Range": f"bytes */{file['size_bytes']}"}
        return answer(
            request,
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "the range begins behind the file's end",
            headers=headers,
        )
    url = services.store.presigned_url(file["key"], ttl=services.settings.signed_url_lifetime, filename=filename)
    if url is None:
        with ExitStack() as stack:  # a local store's file outlives its context
            stored = stack.enter_context(services.store.local(file["key"]))
        return _StoredFile(stored, media_type=file["media_type"], headers=described, whole=start is None)
    if request.method == "HEAD":  # a presigned URL is signed for GET only
        described["Content-Length"] = str(file["size_bytes"])
        return Response(headers=described, media_type=file["media_type"])
    return RedirectResponse(url, HTTPStatus.FOUND, headers=dict(headers or {}))


def package_response(request: Request, files: Sequence[File], folder: str, store: ObjectStore) -> Response:
    """All files as one ZIP made on the way, uncompressed: what is in it is compressed already, or was not to be.

    It cannot be resumed; whoever needs that fetches the files one by one. Raises what reading the first file raises; a
    later one that cannot be read cuts the response.
    """
    headers = {"Content-Disposition": attachment(f"{folder}.zip"), "Accept-Ranges": "none"}
    if request.method == "HEAD":  # whose body would be made and thrown away
        return Response(media_type="application/zip", headers=headers)
    pieces = _zipped(files, folder, store)
    begun = chain((next(pieces),), _cut_when_broken(pieces))
    return StreamingResponse(begun, media_type="application/zip", headers=headers)


def file_name(file: File) -> str:
    return str(file["path"]).rsplit("/", 1)[-1]


def part_begins(request: Request, file: File) -> int | None:
    """Where the part begins that a call asks for; None for the whole file.

    What a server may ignore (RFC 9110, 14.2) is ignored: several ranges, other units, what is no range, and a range of
    another version of the file.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if request.method != "GET" or found is None or request.headers.get("if-range", _tag(file)) != _tag(file):
        return None
    start, last = found.groups()
    return int(start) if start else max(file["size_bytes"] - int(last), 0) if int(last) else file["size_bytes"]


class _StoredFile(FileResponse):
    """A file of the local store, ``whole`` where its range was ignored. One that is removed before it is opened, which
    happens after this was made, is not there any more; later it does not matter.
    """

    def __init__(self, *given: Any, whole: bool, **named: Any) -> None:
        super().__init__(*given, **named)
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._whole:
            scope = {**scope, "headers": [(name, text) for name, text in scope["headers"] if name != b"range"]}
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


class _Pieces:
    """A sink that hands on what was written to it."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(data)
        return len(data)

    def taken(self) -> bytes:
        pieces, self._written = b"".join(self._written), []
        return pieces


def _cut_when_broken(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except (ExportError, OSError) as error:
        raise ResponseCut(f"a file of the package cannot be read: {error}") from error


def _zipped(files: Sequence[File], folder: str, store: ObjectStore) -> Iterator[bytes]:
    sink = _Pieces()
    archive = ZipStream(cast("BinaryIO", sink))
    for file in files:
        wide = file["size_bytes"] >= _WIDE_BYTES
        entry = archive.stream(f"{folder}/{file['path']}", deflate=False, wide=wide)
        with store.reading(file["key"]) as source:
            while piece := source.read(_READ_BYTES):
                entry.write(piece)
                yield sink.taken()
        entry.close()
    archive.close()
    yield sink.taken()
