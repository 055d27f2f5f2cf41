"""Signatures of manifests: Ed25519 over the document's canonical JSON (RFC 8785) without its ``signature``.

Canonical JSON knows numbers as doubles, so a manifest holds no integer beyond 2**53 as a number; totals are texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from export_pipelines.core.signing import ALGORITHM, PublicKey, SignatureStatus, SignatureVerdict, Signer
from export_pipelines.packaging.key_sets import decoded, encoded

SIGNATURE = "signature"
Keys = Mapping[str, PublicKey]  # by id


def signed(document: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """The document with its signature, the same for the same document and key."""
    value = signer.sign(rfc8785.dumps(dict(document)))
    return {**document, SIGNATURE: {"algorithm": ALGORITHM, "key_id": signer.key_id, "value": encoded(value)}}


def check_signature(content: bytes, keys: Keys | None) -> SignatureVerdict:
    """Who vouches for a manifest's bytes, which may be a stranger's. Without keys only whose name is on it is told."""
    document = _parsed(content)
    found = document.pop(SIGNATURE, None) if document is not None else None
    if document is not None and found is None:
        return SignatureVerdict(status=SignatureStatus.MISSING)
    key_id, value = _claims(found)
    if keys is None and key_id is not None:
        return SignatureVerdict(status=SignatureStatus.UNCHECKED, key_id=key_id)
    if document is None or keys is None or key_id is None or value is None:
        return SignatureVerdict(status=SignatureStatus.WRONG, key_id=key_id)
    return SignatureVerdict(status=_judged(document, keys.get(key_id), value), key_id=key_id)


def _judged(document: dict[str, Any], key: PublicKey | None, value: bytes) -> SignatureStatus:
    if key is None:
        return SignatureStatus.UNKNOWN_KEY
    if key.revoked_at is not None:
        return SignatureStatus.REVOKED_KEY
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(value, rfc8785.dumps(document))
    except (InvalidSignature, rfc8785.CanonicalizationError, RecursionError):
        return SignatureStatus.WRONG
    return SignatureStatus.VALID


def _claims(found: object) -> tuple[str | None, bytes | None]:
    """(key id, value) of a signature as this program writes it."""
    if not isinstance(found, dict) or found.keys() != {"algorithm", "key_id", "value"}:
        return None, None
    key_id, value = found["key_id"], found["value"]
    if found["algorithm"] != ALGORITHM or not isinstance(key_id, str) or not isinstance(value, str):
        return None, None
    return key_id, decoded(value)


def _parsed(content: bytes) -> dict[str, Any] | None:
    """The document; None where two readers could see two documents in it, or it is none."""
    try:
        document = json.loads(content, object_pairs_hook=_each_once, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
