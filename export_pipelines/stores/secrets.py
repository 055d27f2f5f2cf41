"""Secrets that the service keeps, encrypted: AES-256-GCM under one key of its own.

The key is ``EXPORT_SECRET_KEY``, or a file in the home folder that the first process to need it makes. A secret is
bound to its owner (a request, a signing key), so that one cannot be put in another's place.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from export_pipelines.core.errors import RequestRejected, Unavailable

KEY_FILE = "secret.key"
_KEY_BYTES, _NONCE_BYTES = 32, 12
_SETTING = "EXPORT_SECRET_KEY"


class SecretBox:
    """Seals and opens; asks for its key when first used."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    @cached_property
    def _cipher(self) -> AESGCM:
        return AESGCM(self._key())

    def seal(self, secret: str, owner: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), owner.encode())

    def open(self, sealed: bytes, owner: str) -> str:
        """`RequestRejected` when it was sealed with another key, or for another owner."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.encode()).decode()
        except InvalidTag:
            raise RequestRejected(
                "is not the key that this secret was sealed with; all processes of the service must have "
                f"the same {_SETTING} or EXPORT_HOME",
                field=_SETTING,
            ) from None


def open_secret_box(setting: str | None, home: Path) -> SecretBox:
    """A box with the key of the setting, else of the home folder."""
    return SecretBox(lambda: decoded_key(setting) if setting else key_of(home / KEY_FILE))


def decoded_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise RequestRejected(
            f"must be {_KEY_BYTES} random bytes in base64, as `openssl rand -base64 {_KEY_BYTES}` prints them",
            field=_SETTING,
        )
    return key


def key_of(path: Path) -> bytes:
    """The key in a file, which is made when there is none. Several processes at once get the same one."""
    try:
        if not path.exists():
            _make(path)
        return decoded_key(path.read_text(encoding="ascii"))
    except OSError as error:
        raise Unavailable(f"cannot use the key file {path}: {error.strerror}; set {_SETTING} instead") from error


def _make(path: Path) -> None:
    """Whole or not at all: written under another name, then linked, which fails where there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(handle)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
