"""What signs a manifest and what checks it: the words that keys, signatures and their files share.

Making and keeping keys is `export_pipelines.stores.signing_keys`, signing and checking documents
`export_pipelines.packaging.signing`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

ALGORITHM = "Ed25519"  # RFC 8032
KEY_BYTES = 32  # of a public key, and of the secret half
_ID_DIGITS = 16


def key_id_of(public_key: bytes) -> str:
    """The name of a key: the first 64 bits of its SHA-256, hex. Whoever trusts a list of keys needs no more."""
    return hashlib.sha256(public_key).hexdigest()[:_ID_DIGITS]


class Signer(Protocol):
    """Holds the secret half of one key."""

    @property
    def key_id(self) -> str: ...

    def sign(self, message: bytes) -> bytes:
        """The same 64 bytes for the same message."""
        ...


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """What everybody may know of a key."""

    key_id: str
    public_key: bytes
    created_at: dt.datetime
    retired_at: dt.datetime | None = None  # signs nothing since; what it signed stays good
    revoked_at: dt.datetime | None = None  # nothing it ever signed is to be believed


class SigningKeys(Protocol):
    """The service's own keys, of which one is in use."""

    def signer(self) -> Signer:
        """The key in use; made when there is none."""
        ...

    def published(self) -> list[PublicKey]:
        """Every key there ever was, oldest first."""
        ...


class SignatureStatus(StrEnum):
    """What became of the question who made a package."""

    VALID = "valid"
    UNCHECKED = "not checked"  # nobody said which keys to trust
    MISSING = "missing"
    WRONG = "wrong"
    UNKNOWN_KEY = "unknown key"
    REVOKED_KEY = "revoked key"


@dataclass(frozen=True, kw_only=True)
class SignatureVerdict:
    """Of one manifest."""

    status: SignatureStatus
    key_id: str | None = None  # as the manifest names it

    @property
    def trusted(self) -> bool:
        return self.status is SignatureStatus.VALID
