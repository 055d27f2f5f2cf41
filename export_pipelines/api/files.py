"""A stored file as an answer: a short presigned URL where the store has them, else its bytes with Range support."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any, BinaryIO, cast

from fastapi import Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from export_pipelines.api.services import ApiServices
from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.core.disposition import attachment
from export_pipelines.core.ports import ObjectStore

File = Mapping[str, Any]  # a row of export_files
_RESUMING = re.compile(r"bytes=[1-9][0-9]*-[0-9]*")  # any other range may hold the first byte
_READ_BYTES = 1 << 20
_WIDE_BYTES = 0xF0000000  # from here on an entry could outgrow 4 GiB


def file_response(
    request: Request, file: File, services: ApiServices, headers: Mapping[str, str] | None = None
) -> Response:
    """Range, If-Range, ETag, Repr-Digest (RFC 9530) and the file's own name (RFC 6266), never cached."""
    described = {**(headers or {}), **_describing(file)}
    filename = file_name(file)
    url = services.store.presigned_url(file["key"], ttl=services.settings.signed_url_lifetime, filename=filename)
    if url is None:
        with ExitStack() as stack:  # a local store's file outlives its context
            stored = stack.enter_context(services.store.local(file["key"]))
        return FileResponse(stored, media_type=file["media_type"], headers=described)
    if request.method == "HEAD":  # a presigned URL is signed for GET only
        described["Content-Length"] = str(file["size_bytes"])
        return Response(headers=described, media_type=file["media_type"])
    return RedirectResponse(url, HTTPStatus.FOUND, headers=dict(headers or {}))


def package_response(files: Sequence[File], folder: str, store: ObjectStore) -> Response:
    """All files as one ZIP made on the way, uncompressed: what is in it is compressed already, or was not to be.

    It cannot be resumed; whoever needs that fetches the files one by one.
    """
    headers = {"Content-Disposition": attachment(f"{folder}.zip"), "Accept-Ranges": "none"}
    return StreamingResponse(_zipped(files, folder, store), media_type="application/zip", headers=headers)


def file_name(file: File) -> str:
    return str(file["path"]).rsplit("/", 1)[-1]


def begins(request: Request) -> bool:
    """Whether a download begins here, rather than goes on where an earlier one broke off."""
    return request.method == "GET" and _RESUMING.fullmatch(request.headers.get("range", "")) is None


def _describing(file: File) -> dict[str, str]:
    """What a client needs to name, resume and check a download."""
    digest = base64.b64encode(bytes.fromhex(file["sha256"])).decode()
    return {
        "Content-Disposition": attachment(file_name(file)),
        "ETag": f'"{file["sha256"]}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
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
