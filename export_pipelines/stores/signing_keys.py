"""The keys that manifests are signed with: one in use, made when first needed, and all that ever were.

The secret half of the key in use is kept sealed by the service's `SecretBox`; when the key is retired or revoked, it is
wiped, so that nothing can be signed with it any more.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.signing import PublicKey, key_id_of
from export_pipelines.stores.control import Control
from export_pipelines.stores.secrets import SecretBox

_PUBLIC = "SELECT key_id, public_key, created_at, retired_at, revoked_at FROM export_control.signing_keys"
_IN_USE = "SELECT key_id, sealed_private FROM export_control.signing_keys WHERE sealed_private IS NOT NULL"
# The partial unique index lets one key be in use; whoever comes second waits here, then finds the first one's.
_ADD = """
INSERT INTO export_control.signing_keys (key_id, public_key, sealed_private)
VALUES (%(key_id)s, %(public_key)s, %(sealed_private)s) ON CONFLICT DO NOTHING
"""
_LOCK = "LOCK TABLE export_control.signing_keys IN SHARE ROW EXCLUSIVE MODE"
_RETIRE = """
UPDATE export_control.signing_keys SET retired_at = now(), sealed_private = NULL
WHERE sealed_private IS NOT NULL RETURNING key_id
"""
_REVOKE = """
UPDATE export_control.signing_keys SET revoked_at = now(), sealed_private = NULL
WHERE key_id = %(key_id)s AND revoked_at IS NULL
"""


@dataclass(frozen=True, kw_only=True)
class StoredSigner:
    """The key in use, unsealed for as long as somebody holds this."""

    key_id: str
    _private: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


class SigningKeyStore:
    """The key set in a control database; with ``secrets`` it signs, without it only tells the public halves."""

    def __init__(self, control: Control, secrets: SecretBox | None = None) -> None:
        self._control = control
        self._secrets = secrets

    def signer(self) -> StoredSigner:
        """The key in use, made when there is none. `RequestRejected` when it was sealed with another secret."""
        rows = self._control.rows(_IN_USE)
        if not rows:
            with self._control.transaction() as connection:
                self._add(connection)
            rows = self._control.rows(_IN_USE)
        row = rows[0]
        try:
            secret = self._box.open(bytes(row["sealed_private"]), _owner(row["key_id"]))
        except RequestRejected as error:
            raise RequestRejected(
                f"{error}; where that secret is lost, `export-pipelines signing rotate` makes a new signing key"
            ) from error
        private = Ed25519PrivateKey.from_private_bytes(base64.b64decode(secret))
        return StoredSigner(key_id=row["key_id"], _private=private)

    def published(self) -> list[PublicKey]:
        """Every key there ever was, oldest first."""
        rows = self._control.rows(f"{_PUBLIC} ORDER BY created_at, key_id")
        return [PublicKey(**{**row, "public_key": bytes(row["public_key"])}) for row in rows]

    def rotate(self) -> tuple[str | None, str]:
        """Retire the key in use and make another; (its id before, its id now)."""
        with self._control.transaction() as connection:
            connection.execute(_LOCK)
            before = connection.execute(_RETIRE).fetchone()
            return before["key_id"] if before else None, self._add(connection)

    def revoke(self, key_id: str) -> None:
        """Declare everything that was signed with a key untrustworthy, for good. A key in use leaves use."""
        with self._control.transaction() as connection:
            if connection.execute(_REVOKE, {"key_id": key_id}).rowcount:
                return
            found = connection.execute(f"{_PUBLIC} WHERE key_id = %(key_id)s", {"key_id": key_id}).fetchone()
        problem = f"was revoked on {found['revoked_at']:%Y-%m-%d}" if found else "is not the id of a signing key"
        raise RequestRejected(f"{key_id!r} {problem}; see `export-pipelines signing list`", field="key_id")

    def _add(self, connection: psycopg.Connection[Any]) -> str:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        key_id = key_id_of(public)
        sealed = self._box.seal(base64.b64encode(private.private_bytes_raw()).decode(), _owner(key_id))
        connection.execute(_ADD, {"key_id": key_id, "public_key": public, "sealed_private": sealed})
        return key_id

    @property
    def _box(self) -> SecretBox:
        if self._secrets is None:
            raise RequestRejected("is needed to sign; this process was opened without it", field="EXPORT_SECRET_KEY")
        return self._secrets


def _owner(key_id: str) -> str:
    """What a sealed key is bound to, so that neither another key nor a request's password can take its place."""
    return f"signing key {key_id}"
