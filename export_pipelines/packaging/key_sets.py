"""A file of public keys: a JSON Web Key Set (RFC 7517) of Ed25519 keys (RFC 8037), written and read.

Beside the members of the RFCs each key says when it was made, retired or revoked. What it says of a key is as good as
the place that it was fetched from; nothing in it is secret.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.rejection import rejected_file
from export_pipelines.core.signing import KEY_BYTES, PublicKey, key_id_of

_MAX_BYTES = 1024 * 1024
_MAX_KEYS = 1000
_FIELD = "--keys"


class _Key(BaseModel):
    model_config = ConfigDict(frozen=True)

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str
    x: str
    created_at: AwareDatetime
    retired_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None


class _KeySet(BaseModel):
    model_config = ConfigDict(frozen=True)

    keys: tuple[_Key, ...] = Field(max_length=_MAX_KEYS)


def key_set(keys: Iterable[PublicKey]) -> dict[str, Any]:
    """The document that verifiers fetch."""
    return {"keys": [_entry(key) for key in keys]}


def read_key_set(path: Path) -> dict[str, PublicKey]:
    """The keys of a file by their ids; `RequestRejected` where it is none, or says two things of one key."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise RequestRejected(f"{path} cannot be read: {error.strerror}", field=_FIELD) from error
    return parse_key_set(content, str(path))


def parse_key_set(content: bytes, name: str) -> dict[str, PublicKey]:
    """As `read_key_set`, of a document that came from ``name``."""
    if len(content) > _MAX_BYTES:
        raise RequestRejected(f"{name} is larger than {_MAX_BYTES} bytes; it is no file of keys", field=_FIELD)
    try:
        entries = _KeySet.model_validate_json(content).keys
    except ValidationError as error:
        raise rejected_file(error, f"{name} is not a JSON Web Key Set", field=_FIELD) from error
    keys = {entry.kid: _key(entry, name) for entry in entries}
    if len(keys) != len(entries):
        raise RequestRejected(f"{name} names a key twice; fetch it again", field=_FIELD)
    return keys


def encoded(value: bytes) -> str:
    """Base64url without padding, as in RFC 7515."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decoded(text: str) -> bytes | None:
    """What `encoded` encoded, or None: the one spelling that it writes, and no other."""
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if encoded(value) == text else None


def _entry(key: PublicKey) -> dict[str, Any]:
    times = {"created_at": key.created_at, "retired_at": key.retired_at, "revoked_at": key.revoked_at}
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key.key_id,
        "x": encoded(key.public_key),
        **{name: time.astimezone(dt.UTC).isoformat() for name, time in times.items() if time is not None},
    }


def _key(entry: _Key, name: str) -> PublicKey:
    public = decoded(entry.x)
    if public is None or len(public) != KEY_BYTES or key_id_of(public) != entry.kid:
        raise RequestRejected(f"{name} has a key whose id is not that of its value; fetch it again", field=_FIELD)
    return PublicKey(
        key_id=entry.kid,
        public_key=public,
        created_at=entry.created_at,
        retired_at=entry.retired_at,
        revoked_at=entry.revoked_at,
    )
