"""Reads members of a ZIP by the structure that `export_pipelines.archives.zip_structure` has found sound.

A member gives exactly the bytes that its header announces: as many, with that CRC, and with nothing behind the end of
the deflated data, where a program that reads forwards would look for the next header.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from export_pipelines.archives.zip_decryption import decrypted
from export_pipelines.archives.zip_structure import DEFLATED, ZipMember
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.package_paths import shown

_PIECE_BYTES = 1 << 20


def read_member(path: Path, member: ZipMember, password: bytes | None = None) -> Iterator[bytes]:
    """The content in pieces, never more than ``size_bytes`` in all; believe it only once all were taken.

    `RequestRejected` for a wrong password or an encryption that this program does not write, `IntegrityViolation` for
    bytes that are not what the header says.
    """
    with path.open("rb") as stream:
        stream.seek(member.data_offset)
        if member.encrypted:
            if password is None:
                raise RequestRejected("is needed for this archive", field="password")
            stored = decrypted(stream, member, password)
        else:
            stored = _pieces(stream, member.stored_bytes)
        size, crc = 0, 0
        for piece in _inflated(stored, member) if member.method == DEFLATED else stored:
            size += len(piece)
            if size > member.size_bytes:
                raise _damaged(member, "holds more bytes than it says")
            crc = zlib.crc32(piece, crc)
            yield piece
    if size != member.size_bytes:
        raise _damaged(member, "is cut")
    # An encrypted one of WinZip's second version has none; its authentication code was compared.
    if crc != member.crc and not (member.encrypted and member.crc == 0):
        raise _damaged(member, "has another CRC than it says")


def _pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        piece = stream.read(min(_PIECE_BYTES, length))
        if not piece:
            return
        length -= len(piece)
        yield piece


def _inflated(pieces: Iterator[bytes], member: ZipMember) -> Iterator[bytes]:
    """Takes all the pieces; the deflated data must end with the last byte."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            rest = piece
            while rest:  # bounded, whatever the bytes unpack to
                if inflate.eof:
                    raise _damaged(member, "has bytes behind its data")
                yield inflate.decompress(rest, _PIECE_BYTES)
                rest = inflate.unconsumed_tail or inflate.unused_data
        yield from _rest(inflate)
    except zlib.error as error:
        raise _damaged(member, "cannot be unpacked") from error
    if not inflate.eof:
        raise _damaged(member, "is cut")


def _rest(inflate: zlib._Decompress) -> Iterator[bytes]:
    """What the decompressor still holds after all its input, in bounded pieces."""
    while not inflate.eof:
        piece = inflate.decompress(b"", _PIECE_BYTES)
        if not piece:
            return
        yield piece


def _damaged(member: ZipMember, problem: str) -> IntegrityViolation:
    return IntegrityViolation(f"{shown(member.name)} in the archive {problem}; fetch it again")
