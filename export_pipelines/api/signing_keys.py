"""The public keys that manifests are signed with, for anybody who verifies packages without this service."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from export_pipelines.api.request_context import require_known_parameters, services_of
from export_pipelines.api.services import ApiServices
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.stores.signing_keys import SigningKeyStore

PATH = "/.well-known/export-pipelines/keys.json"
_MAX_AGE_SECONDS = 300  # a revoked key is believed for no longer by whoever asks again
router = APIRouter(tags=["operations"], dependencies=[Depends(require_known_parameters)])


class PublicKeyEntry(BaseModel):
    """An Ed25519 key as RFC 8037 writes it, and what became of it."""

    kty: str
    crv: str
    alg: str
    use: str
    kid: str
    x: str = Field(description="The key, base64url.")
    created_at: dt.datetime
    retired_at: dt.datetime | None = None
    revoked_at: dt.datetime | None = Field(default=None, description="Trust nothing that it has signed.")


class PublicKeySet(BaseModel):
    keys: list[PublicKeyEntry]


@router.get(
    PATH,
    summary="Get the public signing keys",
    response_model=PublicKeySet,
    response_model_exclude_none=True,
)
def published(services: Annotated[ApiServices, Depends(services_of)], response: Response) -> PublicKeySet:
    """Anybody may ask. Retired keys stay valid, revoked ones stay listed as such."""
    with services.pool.tenant_session(None) as control:
        keys = key_set(SigningKeyStore(control).published())
    response.headers["Cache-Control"] = f"public, max-age={_MAX_AGE_SECONDS}"
    return PublicKeySet.model_validate(keys)
