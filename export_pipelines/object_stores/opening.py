"""Opens the object store that a URL names: a local folder or S3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import ObjectStore
from export_pipelines.object_stores.local import LocalStore


def open_store(
    url: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    sse: str | None = None,
    sse_kms_key_id: str | None = None,
) -> ObjectStore:
    """``s3://bucket/prefix``, ``file:///folder`` or a plain folder. Connects to nothing."""
    scheme, named, rest = url.partition("://")
    if not named:
        return LocalStore(Path(url))
    if scheme == "file":
        return LocalStore(Path(unquote(urlsplit(url).path)))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise RequestRejected(f"{url!r} is neither s3://bucket/prefix nor a folder", field="EXPORT_STORAGE_URL")
    if sse_kms_key_id and sse != "aws:kms":
        raise RequestRejected("a KMS key goes with S3_SSE=aws:kms", field="S3_SSE_KMS_KEY_ID")
    encryption = {"ServerSideEncryption": sse, "SSEKMSKeyId": sse_kms_key_id}

    from export_pipelines.object_stores.s3 import (  # a third of a second to import, and only S3 needs it
        S3Store,
        s3_client,
    )

    client = s3_client(
        endpoint=endpoint, region=region, access_key_id=access_key_id, secret_access_key=secret_access_key
    )
    return S3Store(client, bucket, prefix, encryption={name: value for name, value in encryption.items() if value})
