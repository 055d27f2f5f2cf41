"""AES-256 for entries of a ZIP, as WinZip wrote it down (AE-2) and as 7-Zip and WinZip read it.

The format fixes PBKDF2-HMAC-SHA1 with 1000 rounds, which is little against guessing: the strength is the password's.
Its counter is little-endian, which no library's CTR mode does, so blocks of counters are made here and encrypted in
bulk. The reader is `export_pipelines.archives.zip_decryption`, which shares no line with this.
"""

from __future__ import annotations

import os
import struct

import numpy as np
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

_SALT_BYTES, _KEY_BYTES, _CHECK_BYTES, _CODE_BYTES = 16, 32, 2, 10  # of strength 3: AES-256
_ROUNDS = 1000
_BLOCK = 16
_EXTRA = struct.pack("<2HH2sB", 0x9901, 7, 2, b"AE", 3)


class WinZipAes:
    """Encrypts one entry; each has a salt, and so keys, of its own."""

    extra = _EXTRA

    def __init__(self, password: bytes) -> None:
        salt = os.urandom(_SALT_BYTES)
        length = 2 * _KEY_BYTES + _CHECK_BYTES
        derived = PBKDF2HMAC(algorithm=hashes.SHA1(), length=length, salt=salt, iterations=_ROUNDS).derive(password)  # noqa: S303 - the format says so
        self.header = salt + derived[2 * _KEY_BYTES :]
        self._blocks = Cipher(algorithms.AES(derived[:_KEY_BYTES]), modes.ECB()).encryptor()  # noqa: S305 - of counters, never of data
        self._code = hmac.HMAC(derived[_KEY_BYTES : 2 * _KEY_BYTES], hashes.SHA1())  # noqa: S303 - the format says so
        self._next = 1
        self._held = b""  # less than a block

    def encrypt(self, data: bytes) -> bytes:
        """Whole blocks; the rest is held back."""
        joined = self._held + data if self._held else data
        whole = len(joined) - len(joined) % _BLOCK
        self._held = joined[whole:]
        return self._xor(joined[:whole]) if whole else b""

    def finish(self) -> bytes:
        last = self._xor(self._held) if self._held else b""
        return last + self._code.finalize()[:_CODE_BYTES]

    def _xor(self, data: bytes) -> bytes:
        blocks = -(-len(data) // _BLOCK)
        counters = np.zeros((blocks, 2), dtype="<u8")
        counters[:, 0] = np.arange(self._next, self._next + blocks, dtype="<u8")
        self._next += blocks
        stream = np.frombuffer(self._blocks.update(counters.tobytes()), dtype=np.uint8, count=len(data))
        sealed = np.bitwise_xor(np.frombuffer(data, dtype=np.uint8), stream).tobytes()
        self._code.update(sealed)
        return sealed
