"""Objects in S3 or a compatible service."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import smart_open
from botocore.exceptions import BotoCoreError, ClientError

from export_pipelines.core.errors import IntegrityViolation, Unavailable

PART_BYTES = 16 * 1024 * 1024
_MISSING = {"404", "NoSuchKey", "NotFound"}


class S3Store:
    """Keys below ``prefix`` of one bucket, through a boto3 client. Uploads are multipart, one part in memory."""

    def __init__(self, client: Any, bucket: str, prefix: str = "", *, encryption: dict[str, str] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._encryption = dict(encryption or {})  # ServerSideEncryption, SSEKMSKeyId

    def url(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """A sink; the object appears when the upload completes, and an error aborts it."""
        with self._explained(key):
            sink = smart_open.open(
                self.url(key),
                "wb",
                compression="disable",
                transport_params={
                    "client": self._client,
                    "min_part_size": PART_BYTES,
                    "client_kwargs": {
                        "S3.Client.create_multipart_upload": self._encryption,
                        "S3.Client.put_object": self._encryption,
                    },
                },
            )
        try:
            yield cast("BinaryIO", sink)
        except BaseException:
            sink.terminate()
            raise
        with self._explained(key):
            sink.close()

    @contextmanager
    def reading(self, key: str) -> Iterator[BinaryIO]:
        """A seekable source that fetches ranges."""
        with self._explained(key):
            stream = smart_open.open(
                self.url(key), "rb", compression="disable", transport_params={"client": self._client}
            )
        with stream:
            yield cast("BinaryIO", stream)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A copy on this machine that vanishes with the context."""
        with tempfile.TemporaryDirectory(prefix="export-pipelines-") as folder:
            path = Path(folder) / Path(key).name
            with self._explained(key):
                self._client.download_file(self._bucket, self._prefix + key, str(path))
            yield path

    def move(self, key: str, to: str) -> None:
        """Copy inside the service, then delete; multipart beyond 5 GB."""
        with self._explained(key):
            source = {"Bucket": self._bucket, "Key": self._prefix + key}
            self._client.copy(source, self._bucket, self._prefix + to, ExtraArgs=self._encryption)
            self._client.delete_object(**source)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size in bytes) of an object or of everything below a prefix, sorted."""
        with self._explained(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            found = [(entry["Key"], entry["Size"]) for page in pages for entry in page.get("Contents", ())]
        whole = self._prefix + prefix.rstrip("/")
        return sorted(
            (key.removeprefix(self._prefix), size) for key, size in found if key == whole or key.startswith(f"{whole}/")
        )

    def delete(self, prefix: str) -> int:
        """Remove an object or all below a prefix; the bytes freed."""
        entries = self.list(prefix)
        with self._explained(prefix):
            for key, _ in entries:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
        return sum(size for _, size in entries)

    def exists(self, key: str) -> bool:
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return False
            raise Unavailable(f"{self.url(key)}: {error}") from error
        except BotoCoreError as error:
            raise Unavailable(f"{self.url(key)}: {error}") from error
        return True

    def presigned_url(self, key: str, *, ttl: dt.timedelta, filename: str) -> str | None:
        """A direct link for ``ttl`` that downloads under ``filename``."""
        return cast(
            "str",
            self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._prefix + key,
                    "ResponseContentDisposition": f'attachment; filename="{filename}"',
                },
                ExpiresIn=int(ttl.total_seconds()),
            ),
        )

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING and key:
                raise IntegrityViolation(f"object {self.url(key)} is missing") from error
            raise Unavailable(f"{self.url(key)}: {error}; check bucket, keys and endpoint") from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable(f"{self.url(key)}: {error}; check bucket, keys and endpoint") from error
