"""The public keys that manifests are signed with, for anybody who verifies packages without this service."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from export_pipelines.packaging.key_sets import key_set
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.signing_keys import SigningKeyStore

PATH = "/.well-known/export-pipelines/keys.json"
_MAX_AGE_SECONDS = 300  # a revoked key is believed for no longer by whoever asks again


def signing_keys_router(control: ControlDatabase) -> APIRouter:
    """One public route; ``control`` may be of a role that cannot read the secret halves."""
    router = APIRouter(tags=["signing keys"])
    keys = SigningKeyStore(control)

    @router.get(PATH, summary="Public keys of manifests' signatures, as a JSON Web Key Set")
    def published(response: Response) -> dict[str, Any]:
        response.headers["Cache-Control"] = f"public, max-age={_MAX_AGE_SECONDS}"
        return key_set(keys.published())

    return router
