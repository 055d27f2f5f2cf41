"""Decrypts AES-256 members of a ZIP (WinZip AE-2), streamed and authenticated.

The check of what `export_pipelines.archives.zip_encryption` wrote, so it shares no line with it: keys come from the
standard library, and counters are made another way.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from export_pipelines.archives.zip_structure import ZipMember
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.package_paths import shown

_PIECE = 1 << 20  # a multiple of the block
_AES_256 = struct.pack("<H2sB", 2, b"AE", 3)  # only what this project writes is read
_OVERHEAD = 28  # salt, check of the password, authentication code


def decrypted(stream: BinaryIO, member: ZipMember, password: bytes) -> Iterator[bytes]:
    """What is encrypted of the member whose data begin here, in pieces; authenticated only once all were taken.

    `RequestRejected` for a wrong password, `IntegrityViolation` for bytes that were changed.
    """
    if member.aes != _AES_256:
        raise RequestRejected("is not encrypted with AES-256 as this program writes it; use 7-Zip", field="PACKAGE")
    salt, check = stream.read(16), stream.read(2)
    keys = hashlib.pbkdf2_hmac("sha1", password, salt, 1000, 66)
    if keys[64:] != check:
        raise RequestRejected("does not open this archive; check it and try again", field="password")
    yield from _decrypted(stream, member.stored_bytes - _OVERHEAD, keys[:32], keys[32:64], member.name)


def _decrypted(stream: BinaryIO, length: int, key: bytes, code_key: bytes, name: str) -> Iterator[bytes]:
    code = hmac.new(code_key, digestmod="sha1")
    blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - of counters
    done = 0
    while done < length:
        sealed = stream.read(min(_PIECE, length - done))
        if not sealed:
            break
        code.update(sealed)
        first = done // 16 + 1
        numbers = range(first, first + (len(sealed) + 15) // 16)
        pad = blocks.update(b"".join(number.to_bytes(16, "little") for number in numbers))[: len(sealed)]
        done += len(sealed)
        yield (np.frombuffer(sealed, np.uint8) ^ np.frombuffer(pad, np.uint8)).tobytes()
    if done != length or not hmac.compare_digest(code.digest()[:10], stream.read(10)):
        raise IntegrityViolation(f"{shown(name)} in the archive was changed or cut; fetch it again")
