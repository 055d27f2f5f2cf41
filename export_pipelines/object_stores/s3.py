"""Objects in S3 or a compatible service."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from export_pipelines.core.disposition import attachment
from export_pipelines.core.errors import IntegrityViolation, ObjectMissing, Unavailable
from export_pipelines.core.ports import Freed, StoredObject
from export_pipelines.object_stores.keys import checked_key, checked_prefix
from export_pipelines.object_stores.s3_source import Source
from export_pipelines.object_stores.s3_upload import Upload

PART_BYTES = 16 * 1024 * 1024
COPY_PART_BYTES = 256 * 1024 * 1024  # the service copies; larger parts only risk its time limit
_MISSING = {"404", "NoSuchKey", "NotFound"}
_CANNOT_LIST_UPLOADS = {"AccessDenied", "MethodNotAllowed", "NotImplemented"}


def s3_client(
    *,
    endpoint: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    attempts: int = 5,
) -> Any:
    """A boto3 client; without keys the AWS credential chain decides, without an endpoint it is AWS itself."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or ("us-east-1" if endpoint else None),
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            # Links would else be signed the old way in some regions, which KMS and newer services refuse.
            signature_version="s3v4",
            # Compatible services do not know the newer default checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if endpoint else {},
        ),
    )


class S3Store:
    """Keys below ``prefix`` of one bucket, through a boto3 client. A write holds one part in memory."""

    def __init__(
        self,
        client: Any,
        bucket: str,
        prefix: str = "",
        *,
        encryption: dict[str, str] | None = None,
        part_bytes: int = PART_BYTES,
        copy_part_bytes: int = COPY_PART_BYTES,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._encryption = dict(encryption or {})  # ServerSideEncryption, SSEKMSKeyId
        self._part_bytes = part_bytes
        self._copying = TransferConfig(
            multipart_threshold=copy_part_bytes, multipart_chunksize=copy_part_bytes, max_concurrency=4
        )

    def close(self) -> None:
        """Let go of the connections that the client keeps open."""
        self._client.close()

    def url(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    @contextmanager
    def writing(self, key: str) -> Iterator[BinaryIO]:
        """A sink; the object appears when the context ends, and an error aborts the upload."""
        upload = Upload(
            self._client,
            self._target(key),
            encryption=self._encryption,
            part_bytes=self._part_bytes,
            explained=partial(self._explained, key),
        )
        try:
            yield cast("BinaryIO", upload)
            upload.complete()
        except BaseException:
            with suppress(Unavailable, IntegrityViolation):  # the first error is the one to tell; `delete` cleans up
                upload.abort()
            raise

    @contextmanager
    def reading(self, key: str) -> Iterator[BinaryIO]:
        """A seekable source that fetches ranges."""
        target = self._target(key)
        with Source(self._client, target["Bucket"], target["Key"], partial(self._explained, key)) as source:
            yield cast("BinaryIO", source)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A copy on this machine that vanishes with the context."""
        target = self._target(key)
        with tempfile.TemporaryDirectory(prefix="export-pipelines-") as folder:
            path = Path(folder) / Path(key).name
            with self._explained(key):
                self._client.download_file(target["Bucket"], target["Key"], str(path))
            yield path

    def move(self, key: str, to: str) -> None:
        """Copy inside the service, then delete."""
        source, target = self._target(key), self._target(to)
        if source == target:
            return
        with self._explained(key):
            self._client.copy(source, **target, ExtraArgs=self._encryption, Config=self._copying)
            self._client.delete_object(**source)

    def move_all(self, moves: Iterable[tuple[str, str]]) -> None:
        """One after the other."""
        for key, to in moves:
            self.move(key, to)

    def list(self, prefix: str) -> list[tuple[str, int]]:
        """(key, size in bytes) of an object or of everything below a prefix, sorted."""
        return sorted((found.key, found.size_bytes) for found in self.scan(prefix))

    def scan(self, prefix: str) -> Iterator[StoredObject]:
        """Everything below a prefix, a thousand at a time, in the order of the keys."""
        whole = self._prefix + checked_prefix(prefix)
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=whole))
        while True:
            with self._explained(prefix):
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                if _within(entry["Key"], whole):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield StoredObject(key=key, size_bytes=entry["Size"], modified_at=entry["LastModified"])

    def drop_unfinished(self, prefix: str, *, before: dt.datetime, dry_run: bool = False) -> Freed:
        """Abort uploads that began before an instant; how many bytes they hold the service does not list."""
        whole = self._prefix + checked_key(checked_prefix(prefix))
        freed = Freed()
        with self._explained(prefix):
            for upload, begun_at in self._pending_uploads(whole):
                if begun_at < before:
                    freed += Freed(items=1)
                    if not dry_run:
                        self._abort(upload)
        return freed

    def delete(self, prefix: str) -> int:
        """Remove an object or all below a prefix, and what killed writers left there; the bytes freed."""
        whole = self._prefix + checked_key(checked_prefix(prefix))
        entries = self.list(prefix)
        with self._explained(prefix):
            for key, _ in entries:
                self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)
            for upload, _ in self._pending_uploads(whole):
                self._abort(upload)
        return sum(size for _, size in entries)

    def exists(self, key: str) -> bool:
        try:
            with self._explained(key):
                self._client.head_object(**self._target(key))
        except IntegrityViolation as error:
            if isinstance(error.__cause__, ClientError):
                return False
            raise
        return True

    def presigned_url(self, key: str, *, ttl: dt.timedelta, filename: str) -> str | None:
        """A direct link for ``ttl`` that downloads under ``filename``."""
        parameters = {**self._target(key), "ResponseContentDisposition": attachment(filename)}
        with self._explained(key):
            url = self._client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=max(1, int(ttl.total_seconds()))
            )
        return cast("str", url)

    def _target(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_key(key)}

    def _abort(self, upload: dict[str, str]) -> None:
        """Somebody else may have done so already."""
        try:
            self._client.abort_multipart_upload(Bucket=self._bucket, **upload)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise

    def _pending_uploads(self, whole: str) -> Iterator[tuple[dict[str, str], dt.datetime]]:
        """Multipart uploads that are not completed, and when they began."""
        try:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=whole)
            found = [upload for page in pages for upload in page.get("Uploads", ())]
        except ClientError as error:
            if error.response["Error"]["Code"] in _CANNOT_LIST_UPLOADS:
                return  # a bucket lifecycle rule must do it then
            raise
        for upload in found:
            if _within(upload["Key"], whole):
                yield {"Key": upload["Key"], "UploadId": upload["UploadId"]}, upload["Initiated"]

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Errors of the client, and those that smart_open wraps, as ours. Never shows a credential."""
        try:
            yield
        except (BotoCoreError, ClientError, OSError) as error:
            cause = getattr(error, "backend_error", error)
            code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
            if code in _MISSING:
                raise ObjectMissing(f"object {self.url(key)} is missing") from cause
            endpoint = self._client.meta.endpoint_url
            raise Unavailable(
                f"{self.url(key)} at {endpoint}: {cause}; check bucket, keys and endpoint, then retry"
            ) from error


def _within(key: str, whole: str) -> bool:
    """Whether a full key is ``whole`` or lies below it."""
    return key == whole or not whole or key.startswith(whole if whole.endswith("/") else f"{whole}/")
