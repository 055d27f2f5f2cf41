"""Streams into the age format (age-encryption.org/v1): for public keys by pyrage, for a passphrase by hand.

pyrage takes a passphrase only for bytes that are in memory as a whole; the format is short enough to write it here.
Its reader is `export_pipelines.archives.age_reading`.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import pyrage
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from export_pipelines.core.errors import RequestRejected, Unavailable

_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 64 * 1024
_SCRYPT_LOG_N = 17  # 128 MB for a moment; age itself takes 18, which is twice that
_NO_NONCE = bytes(12)


def recipients_of(keys: Sequence[str]) -> list[Any]:
    """Public keys as pyrage knows them; `RequestRejected` for what is none."""
    found: list[Any] = []
    for key in keys:
        kind = pyrage.ssh.Recipient if key.startswith("ssh-") else pyrage.x25519.Recipient
        try:
            found.append(kind.from_str(key))
        except pyrage.RecipientError as error:
            raise RequestRejected(
                f"{key[:24]}… is not a public key that age can use ({error}); check that all of it was copied",
                field="encryption.recipients",
            ) from error
    return found


@contextmanager
def age_for_recipients(sink: BinaryIO, recipients: Sequence[Any]) -> Iterator[BinaryIO]:
    """A stream into ``sink``. pyrage pulls and we push, so a thread and a pipe lie between."""
    source, target = os.pipe()
    outlet, failed = _Outlet(sink), list[BaseException]()

    def encrypt() -> None:
        with os.fdopen(source, "rb", _PIPE_BYTES) as plain:
            try:
                pyrage.encrypt_io(plain, cast("Any", outlet), recipients)
            except BaseException as error:  # noqa: BLE001 - told to the thread that waits
                failed.append(error)

    thread = threading.Thread(target=encrypt, name="age", daemon=True)
    thread.start()
    try:
        with os.fdopen(target, "wb", _PIPE_BYTES) as plain:
            yield plain
    except BrokenPipeError:
        thread.join()
        if not failed:
            raise
    finally:
        thread.join()
    if failed:
        raise outlet.error or Unavailable(f"age could not encrypt: {failed[0]}") from failed[0]


class _Outlet:
    """The sink as pyrage writes to it, which makes one error of all; this keeps the first as it was."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._sink.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """The sink's owner flushes."""


@contextmanager
def age_for_passphrase(sink: BinaryIO, passphrase: bytes) -> Iterator[BinaryIO]:
    """A stream into ``sink``; only a clean end makes it whole."""
    file_key, nonce = os.urandom(16), os.urandom(16)
    sink.write(_header(passphrase, file_key) + nonce)
    payload = _Payload(sink, _derived(file_key, salt=nonce, info=b"payload"))
    yield cast("BinaryIO", payload)
    payload.finish()


def _header(passphrase: bytes, file_key: bytes) -> bytes:
    salt = os.urandom(16)
    kdf = Scrypt(salt=b"age-encryption.org/v1/scrypt" + salt, length=32, n=1 << _SCRYPT_LOG_N, r=8, p=1)
    wrapped = ChaCha20Poly1305(kdf.derive(passphrase)).encrypt(_NO_NONCE, file_key, None)
    stanza = b"-> scrypt %s %d\n%s\n" % (_base64(salt), _SCRYPT_LOG_N, _base64(wrapped))
    head = b"age-encryption.org/v1\n" + stanza + b"---"
    code = hmac.HMAC(_derived(file_key, salt=b"", info=b"header"), hashes.SHA256())
    code.update(head)
    return head + b" " + _base64(code.finalize()) + b"\n"


def _derived(key: bytes, *, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def _base64(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


class _Payload:
    """Chunks of 64 KiB, each sealed with its number; the last one says that it is."""

    def __init__(self, sink: BinaryIO, key: bytes) -> None:
        self._sink = sink
        self._cipher = ChaCha20Poly1305(key)
        self._waiting = bytearray()
        self._number = 0

    def write(self, data: bytes) -> int:
        self._waiting += data
        start = 0
        while len(self._waiting) - start > _CHUNK_BYTES:  # the last chunk waits: it may be full
            self._put(bytes(self._waiting[start : start + _CHUNK_BYTES]), last=False)
            start += _CHUNK_BYTES
        del self._waiting[:start]
        return len(data)

    def finish(self) -> None:
        self._put(bytes(self._waiting), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        self._sink.write(self._cipher.encrypt(nonce, chunk, None))
