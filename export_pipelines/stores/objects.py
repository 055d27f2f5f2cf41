"""Opens the object store that a URL names: a local folder or S3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.ports import ObjectStore
from export_pipelines.stores.local import LocalStore


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
    """``s3://bucket/prefix``, ``file:///folder`` or a plain folder."""
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return LocalStore(Path(parts.path if parts.scheme else url))
    if parts.scheme != "s3" or not parts.netloc:
        raise RequestRejected(f"{url!r} is neither s3://bucket/prefix nor a folder", field="EXPORT_STORAGE_URL")
    encryption = {"ServerSideEncryption": sse} if sse else {}
    if sse_kms_key_id:
        encryption["SSEKMSKeyId"] = sse_kms_key_id
    return _s3_store(
        parts.netloc, parts.path, endpoint, region, access_key_id, secret_access_key, encryption
    )


def _s3_store(
    bucket: str,
    prefix: str,
    endpoint: str | None,
    region: str | None,
    access_key_id: str | None,
    secret_access_key: str | None,
    encryption: dict[str, str],
) -> ObjectStore:
    import boto3  # a third of a second to import, and only S3 needs it
    from botocore.config import Config

    from export_pipelines.stores.s3 import S3Store

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(
            retries={"max_attempts": 5, "mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            # Compatible services do not know the newer default checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if endpoint else {},
        ),
    )
    return S3Store(client, bucket, prefix, encryption=encryption)
