"""Streams bytes of unknown length into one S3 object that appears only when complete.

What fits in one part goes as a single PUT: one request instead of three, and never an upload left pending.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from export_pipelines.core.errors import Unavailable

MAX_PARTS = 10_000  # of S3; all parts but the last have the same size, which some services insist on


class Upload(io.BufferedIOBase):
    """A sink for one object; the caller ends it with `complete` or `abort`. ``close`` publishes nothing.

    ``target`` is Bucket and Key, ``encryption`` the server-side encryption parameters, and ``explained`` turns
    errors of the client into ours.
    """

    def __init__(
        self,
        client: Any,
        target: Mapping[str, str],
        *,
        encryption: Mapping[str, str],
        part_bytes: int,
        explained: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._client = client
        self._target = dict(target)
        self._encryption = dict(encryption)
        self._part_bytes = part_bytes
        self._explained = explained
        self._part = bytearray()
        self._etags: list[str] = []
        self._upload_id: str | None = None
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def write(self, data: Any) -> int:
        """Take all of ``data``; full parts are sent at once."""
        if self.closed:
            raise ValueError("write to an upload that has ended")
        view = memoryview(data).cast("B")
        for start in range(0, len(view), self._part_bytes):
            self._part += view[start : start + self._part_bytes]
            if len(self._part) >= self._part_bytes:
                self._send(bytes(self._part[: self._part_bytes]))
                del self._part[: self._part_bytes]
        self._bytes += len(view)
        return len(view)

    def complete(self) -> None:
        """Make the object visible."""
        if self.closed:
            raise ValueError("the sink was closed inside its context; only the context may publish")
        if self._upload_id is None:
            with self._explained():
                self._client.put_object(**self._target, **self._encryption, Body=bytes(self._part))
        else:
            if self._part:
                self._send(bytes(self._part))
            parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(self._etags, start=1)]
            with self._explained():
                self._client.complete_multipart_upload(
                    **self._target, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
                )
            self._upload_id = None
        self.close()

    def abort(self) -> None:
        """Forget everything that was written; harmless after `complete`."""
        self.close()
        if self._upload_id is not None:
            upload_id, self._upload_id = self._upload_id, None
            with self._explained():
                self._client.abort_multipart_upload(**self._target, UploadId=upload_id)

    def _send(self, part: bytes) -> None:
        if len(self._etags) == MAX_PARTS:
            raise Unavailable(
                f"object {self._target['Key']} is larger than {MAX_PARTS * self._part_bytes:,} bytes; split the export"
            )
        with self._explained():
            if self._upload_id is None:
                created = self._client.create_multipart_upload(**self._target, **self._encryption)
                self._upload_id = created["UploadId"]
            sent = self._client.upload_part(
                **self._target, UploadId=self._upload_id, PartNumber=len(self._etags) + 1, Body=part
            )
            self._etags.append(sent["ETag"])
