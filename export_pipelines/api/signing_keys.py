"""The public keys that manifests are signed with, for anybody who verifies packages without this service."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fastapi import APIRouter, Response

from export_pipelines.core.signing import PublicKey
from export_pipelines.packaging.key_sets import key_set

PATH = "/.well-known/export-pipelines/keys.json"
_MAX_AGE_SECONDS = 300  # a revoked key is believed for no longer by whoever asks again


def signing_keys_router(keys: Callable[[], Iterable[PublicKey]]) -> APIRouter:
    """One public route that needs no credential."""
    router = APIRouter(tags=["signing keys"])

    @router.get(PATH, summary="Public keys of manifests' signatures, as a JSON Web Key Set")
    def published(response: Response) -> dict[str, Any]:
        response.headers["Cache-Control"] = f"public, max-age={_MAX_AGE_SECONDS}"
        return key_set(keys())

    return router
