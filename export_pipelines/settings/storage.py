"""Where files are: the home folder, the object store, and the key that seals secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from export_pipelines.settings.values import SettingsGroup, variable


class StorageSettings(SettingsGroup):
    """Files and object store"""

    home: Path = Field(
        default=Path(".export-pipelines"),
        validation_alias=variable("EXPORT_HOME"),
        description="Folder of the embedded server, local objects, logs and scratch files.",
    )
    storage_url: str | None = Field(
        default=None,
        validation_alias=variable("EXPORT_STORAGE_URL"),
        description="s3://bucket/prefix, or a folder; default: EXPORT_HOME/objects.",
    )
    s3_endpoint: str | None = Field(
        default=None, validation_alias=variable("S3_ENDPOINT"), description="For S3-compatible stores."
    )
    s3_region: str | None = Field(
        default=None,
        validation_alias=variable("S3_REGION"),
        description="Region of the bucket; with an endpoint `us-east-1` unless set.",
    )
    s3_access_key_id: str | None = Field(
        default=None, validation_alias=variable("S3_ACCESS_KEY_ID"), description="Default: the AWS credential chain."
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias=variable("S3_SECRET_ACCESS_KEY"), description="Goes with `S3_ACCESS_KEY_ID`."
    )
    s3_sse: Literal["AES256", "aws:kms"] | None = Field(
        default=None, validation_alias=variable("S3_SSE"), description="Server-side encryption of every object."
    )
    s3_sse_kms_key_id: str | None = Field(
        default=None,
        validation_alias=variable("S3_SSE_KMS_KEY_ID"),
        description="Key for `S3_SSE=aws:kms`; default: the bucket's.",
    )
    secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=variable("EXPORT_SECRET_KEY"),
        description="32 bytes in base64 that seal passwords of requests and the signing key; default: "
        "EXPORT_HOME/secret.key, made when first needed.",
    )

    @property
    def objects_url(self) -> str:
        """Where objects are, set or not."""
        return self.storage_url or str(self.home.resolve() / "objects")

    @property
    def scratch(self) -> Path:
        """Local folder for sorting and re-reading; emptied by whoever fills it."""
        return self.home.resolve() / "scratch"
