"""Reads age files, streamed, by pyrage.

pyrage reads a file for a passphrase only as a whole. So its file key is unwrapped here, with the standard library's
scrypt, and the header is replaced by one for a key made for the moment; what follows is pyrage's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyrage
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from export_pipelines.core.errors import IntegrityViolation, RequestRejected

MARK = b"age-encryption.org/v1\n"
_MAX_HEADER = 64 * 1024
_MAX_LOG_N = 20  # a stranger's file must not ask for more than 1 GB
_SCRYPT = re.compile(
    rb"-> scrypt (?P<salt>[A-Za-z0-9+/]{22}) (?P<log_n>[1-9][0-9]?)\n(?P<body>[A-Za-z0-9+/]{43})\n"
    rb"--- (?P<code>[A-Za-z0-9+/]{43})\n"
)
_X25519 = b"age-encryption.org/v1/X25519"


def is_age(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MARK)) == MARK


def takes_passphrase(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(MARK) + 10).endswith(b"-> scrypt ")


def decrypt_for_identities(path: Path, target: BinaryIO, identities: Sequence[Any]) -> None:
    """`RequestRejected` when none of the keys is the file's, `IntegrityViolation` when its bytes were changed."""
    with path.open("rb") as stream:
        _decrypt(stream, target, identities, path.name)


def decrypt_for_passphrase(path: Path, target: BinaryIO, passphrase: bytes) -> None:
    """As `decrypt_for_identities`."""
    with path.open("rb") as stream:
        start = stream.read(_MAX_HEADER)
        found = _SCRYPT.match(start, len(MARK))
        if not start.startswith(MARK) or found is None:
            raise IntegrityViolation(f"{path.name} is not a whole age file; fetch it again")
        file_key = _file_key(found, passphrase, path.name)
        code = _hmac(_derived(file_key, b"", b"header"), start[: found.start("code") - 1])
        if not hmac.compare_digest(code, _bytes(found["code"])):
            raise IntegrityViolation(f"the header of {path.name} was changed; fetch it again")
        owner = pyrage.x25519.Identity.generate()
        stream.seek(found.end())
        _decrypt(_Joined(_header_for(owner, file_key), stream), target, [owner], path.name)


def identities_in(text: str, name: str) -> list[Any]:
    """Private keys of an identity file of age, or an SSH key; `RequestRejected` where there is none."""
    try:
        if "PRIVATE KEY-----" in text:
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines]
    except pyrage.IdentityError as error:
        raise RequestRejected(f"{name} holds no private key that age can use", field="--identity") from error
    if not found:
        raise RequestRejected(f"{name} holds no private key", field="--identity")
    return found


def _decrypt(source: Any, target: BinaryIO, identities: Sequence[Any], name: str) -> None:
    outlet = _Outlet(target)
    try:
        pyrage.decrypt_io(source, cast("Any", outlet), list(identities))
    except pyrage.DecryptError as error:
        if outlet.error is not None:
            raise outlet.error from None
        if "matching keys" in str(error):
            raise RequestRejected(
                f"does not open {name}; it was encrypted for other keys", field="--identity"
            ) from error
        raise IntegrityViolation(f"{name} was changed or cut; fetch it again") from error
    except OSError as error:  # pyrage's own, for chunks of the payload, have no number
        if outlet.error is not None or error.errno is not None:
            raise outlet.error or error from None
        raise IntegrityViolation(f"{name} was changed or cut; fetch it again") from error


class _Outlet:
    """What pyrage writes to; errors of the target stay as they are."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        try:
            self._target.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        self._target.flush()


class _Joined(io.RawIOBase):
    """Some bytes, then a stream."""

    def __init__(self, first: bytes, then: BinaryIO) -> None:
        self._first = first
        self._then = then

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._first:
            return self._then.read(size)
        piece, self._first = (self._first, b"") if size < 0 else (self._first[:size], self._first[size:])
        return piece


def _file_key(found: re.Match[bytes], passphrase: bytes, name: str) -> bytes:
    log_n = int(found["log_n"])
    if log_n > _MAX_LOG_N:
        raise RequestRejected(f"{name} asks for more work than this program does; use age itself", field="PACKAGE")
    salt = b"age-encryption.org/v1/scrypt" + _bytes(found["salt"])
    key = hashlib.scrypt(passphrase, salt=salt, n=1 << log_n, r=8, p=1, maxmem=(1 << log_n) * 1100, dklen=32)
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), _bytes(found["body"]), None)
    except InvalidTag:
        raise RequestRejected("does not open this archive; check it and try again", field="password") from None


def _header_for(owner: Any, file_key: bytes) -> bytes:
    """A header that lets one X25519 key open what follows."""
    public = X25519PrivateKey.from_private_bytes(_secret_of(owner)).public_key()
    mine = X25519PrivateKey.generate()
    share = mine.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    salt = share + public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    wrapping = _derived(mine.exchange(public), salt, _X25519)
    body = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None)
    head = MARK + b"-> X25519 " + _text(share) + b"\n" + _text(body) + b"\n---"
    return head + b" " + _text(_hmac(_derived(file_key, b"", b"header"), head)) + b"\n"


def _secret_of(identity: Any) -> bytes:
    """The 32 bytes in ``AGE-SECRET-KEY-1…`` (Bech32, whose checksum pyrage has seen to)."""
    letters = str(identity).removeprefix("AGE-SECRET-KEY-1").lower()[:-6]
    number = 0
    for letter in letters:
        number = number << 5 | "qpzry9x8gf2tvdw0s3jn54khce6mua7l".index(letter)
    return (number >> (len(letters) * 5 - 256)).to_bytes(32, "big")


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 of 32 bytes (RFC 5869)."""
    return _hmac(_hmac(salt or bytes(32), key), info + b"\x01")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, "sha256").digest()


def _bytes(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))


def _text(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")
