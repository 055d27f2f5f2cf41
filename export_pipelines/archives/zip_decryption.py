"""Reads AES-256 entries of a ZIP (WinZip AE-2), streamed and authenticated.

The check of what `export_pipelines.archives.zip_encryption` wrote, so it shares no line with it: keys come from the
standard library, the directory is read by `zipfile`, and counters are made another way.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from export_pipelines.core.errors import IntegrityViolation, RequestRejected

AES_METHOD = 99
_PIECE = 1 << 20  # a multiple of the block
_LOCAL_HEADER = 30


def is_encrypted(path: Path) -> bool:
    """Whether a ZIP has an entry that needs a password."""
    with zipfile.ZipFile(path) as archive:
        return any(entry.flag_bits & 1 for entry in archive.infolist())


def read_entry(path: Path, entry: zipfile.ZipInfo, password: bytes) -> Iterator[bytes]:
    """The content of one encrypted entry in pieces; authenticated only once all were taken.

    `RequestRejected` for a wrong password, `IntegrityViolation` for bytes that were changed.
    """
    method = _compression(entry)
    with path.open("rb") as stream:
        stream.seek(entry.header_offset)
        lengths = struct.unpack("<2H", stream.read(_LOCAL_HEADER)[26:30])
        stream.seek(sum(lengths), 1)
        salt, check = stream.read(16), stream.read(2)
        keys = hashlib.pbkdf2_hmac("sha1", password, salt, 1000, 66)
        if keys[64:] != check:
            raise RequestRejected("does not open this archive; check it and try again", field="password")
        plain = _decrypted(stream, entry.compress_size - 28, keys[:32], keys[32:64], entry.filename)
        yield from plain if method == zipfile.ZIP_STORED else _inflated(plain, entry.filename)


def _compression(entry: zipfile.ZipInfo) -> int:
    """The method inside, from the extra field; only what this project writes is read."""
    extra, position = entry.extra, 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 0x9901 and length == 7:  # noqa: PLR2004 - WinZip's field
            version, vendor, strength, method = struct.unpack_from("<H2sBH", extra, position + 4)
            if (version, vendor, strength) == (2, b"AE", 3) and method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                return int(method)
        position += 4 + length
    raise RequestRejected("is not encrypted with AES-256 as this program writes it; use 7-Zip", field="PACKAGE")


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
        raise IntegrityViolation(f"{name} in the archive was changed or cut; fetch it again")


def _inflated(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            rest = piece
            while rest:  # bounded, whatever the bytes unpack to
                yield inflate.decompress(rest, _PIECE)
                rest = inflate.unconsumed_tail
        yield inflate.flush()
    except zlib.error as error:
        raise IntegrityViolation(f"{name} in the archive cannot be unpacked; fetch it again") from error
    if not inflate.eof:
        raise IntegrityViolation(f"{name} in the archive is cut; fetch it again")
