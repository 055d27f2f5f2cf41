"""A ZIP archive written forwards only, deflated by ISA-L: for workbooks and for packages.

The sink need not seek: a streamed entry is followed by its data descriptor (APPNOTE 4.3.9). An entry stays below 4 GiB
unless it is said to be wide before it begins; only then its headers are ZIP64, about which streaming readers disagree.
The archive as a whole may always be larger. Time stamps are fixed: the same entries give the same bytes, unless they
are encrypted, which takes a random salt.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from isal import isal_zlib

MAX_ENTRY_BYTES = 0xFFFFFFFF  # of an entry that is not wide

_LEVEL = 1  # measured on sheet XML: level 0 is 30 % larger and no faster, levels 2 and 3 gain under 1 %
_DATE = (1 << 5) | 1  # 1980-01-01, the earliest a ZIP can say
STORED, _DEFLATED, _AES = 0, 8, 99
_ENCRYPTED = 0x01  # general purpose bit 0
_STREAMED = 0x08  # bit 3: sizes follow in a data descriptor
_UTF_8 = 0x800  # bit 11
_VERSION, _VERSION_64, _VERSION_AES = 20, 45, 51
_UNIX_MADE = 3 << 8
_REGULAR_FILE = 0o100644 << 16  # without it an extracting program may make files that nobody can read
_MAX_32, _MAX_16 = 0xFFFFFFFF, 0xFFFF


class EntryCipher(Protocol):
    """Encrypts one entry (`export_pipelines.archives.zip_encryption`)."""

    extra: bytes  # extra field without the entry's own compression method, which ends it
    header: bytes

    def encrypt(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes:
        """What is still held back, and the authentication code."""
        ...


@dataclass(kw_only=True)
class Entry:
    """What the archive says of one of its members, in front of its bytes and in the directory."""

    name: bytes
    flags: int
    offset: int
    method: int = _DEFLATED
    wide: bool = False
    extra: bytes = b""  # of an encrypted entry
    crc: int = 0
    stored_bytes: int = 0
    size_bytes: int = 0

    @property
    def version(self) -> int:
        return _VERSION_AES if self.extra else _VERSION_64 if self.wide else _VERSION

    def fields(self, crc: int, stored_bytes: int, size_bytes: int, extra: bytes) -> bytes:
        """What a local header and the directory say alike, from the version to the lengths of name and extra."""
        method = _AES if self.extra else self.method
        sizes = (crc, min(stored_bytes, _MAX_32), min(size_bytes, _MAX_32))
        return struct.pack("<5H3L2H", self.version, self.flags, method, 0, _DATE, *sizes, len(self.name), len(extra))

    @property
    def local_header(self) -> bytes:
        """Sizes and CRC of a streamed entry are still zero here, as APPNOTE 4.4.4 wants it; a wide one says so."""
        extra = (struct.pack("<2H2Q", 1, 16, self.size_bytes, self.stored_bytes) if self.wide else b"") + self.extra
        sizes = (_MAX_32, _MAX_32) if self.wide else (self.stored_bytes, self.size_bytes)
        return b"PK\x03\x04" + self.fields(self.crc, *sizes, extra) + self.name + extra

    @property
    def descriptor(self) -> bytes:
        shape = "<L2Q" if self.wide else "<3L"
        return b"PK\x07\x08" + struct.pack(shape, self.crc, self.stored_bytes, self.size_bytes)

    @property
    def directory_record(self) -> bytes:
        large = [self.size_bytes, self.stored_bytes] if self.wide else []
        large += [self.offset] if self.offset >= _MAX_32 else []
        extra = struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""
        extra += self.extra
        sizes = (_MAX_32, _MAX_32) if self.wide else (self.stored_bytes, self.size_bytes)
        made_by = _UNIX_MADE | max(self.version, _VERSION_64 if large else 0)
        head = b"PK\x01\x02" + struct.pack("<H", made_by) + self.fields(self.crc, *sizes, extra)
        tail = struct.pack("<3H2L", 0, 0, 0, _REGULAR_FILE, min(self.offset, _MAX_32))
        return head + tail + self.name + extra


class ZipStream:
    """One entry after another; `close` writes the directory and never closes the sink."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._offset = 0
        self._entries: list[Entry] = []

    def add(self, name: str, data: bytes) -> None:
        """A whole entry, with its sizes in the local header."""
        deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        stored = deflate.compress(data) + deflate.flush()
        encoded, utf_8 = encoded_name(name)
        entry = Entry(
            name=encoded,
            flags=utf_8,
            offset=self._offset,
            crc=isal_zlib.crc32(data),
            stored_bytes=len(stored),
            size_bytes=len(data),
        )
        self._entries.append(entry)
        self._put(entry.local_header + stored)

    def stream(
        self, name: str, *, deflate: bool = True, wide: bool = False, cipher: EntryCipher | None = None
    ) -> ZipEntryStream:
        """An entry of unknown size; close it before the next one begins. Only a wide one may outgrow 4 GiB."""
        method = _DEFLATED if deflate else STORED
        encoded, flags = encoded_name(name)
        extra = b""
        if cipher is not None:
            flags |= _ENCRYPTED
            extra = cipher.extra + struct.pack("<H", method)
        entry = Entry(name=encoded, flags=flags | _STREAMED, offset=self._offset, method=method, wide=wide, extra=extra)
        self._entries.append(entry)
        self._put(entry.local_header)
        return ZipEntryStream(entry, self._put, cipher)

    def close(self) -> None:
        self._put(directory_of(self._entries, self._offset))

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self._offset += len(data)


def directory_of(entries: Sequence[Entry], start: int) -> bytes:
    """The end of an archive whose members take ``start`` bytes: the central directory and what leads to it."""
    records = b"".join(entry.directory_record for entry in entries)
    size, count, wide_end = len(records), len(entries), b""
    if start >= _MAX_32 or count >= _MAX_16:
        record = struct.pack("<Q2H2L4Q", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
        wide_end = b"PK\x06\x06" + record + b"PK\x06\x07" + struct.pack("<LQL", 0, start + size, 1)
    small_count = min(count, _MAX_16)
    tail = struct.pack("<4H2LH", 0, 0, small_count, small_count, min(size, _MAX_32), min(start, _MAX_32), 0)
    return records + wide_end + b"PK\x05\x06" + tail


def encoded_name(name: str) -> tuple[bytes, int]:
    """The name's bytes and the flag that says how to read them."""
    return name.encode(), 0 if name.isascii() else _UTF_8


class ZipEntryStream:
    """Deflates and encrypts what is written to it into the archive."""

    def __init__(self, entry: Entry, put: Callable[[bytes], None], cipher: EntryCipher | None = None) -> None:
        self._entry = entry
        self._put = put
        self._cipher = cipher
        deflated = entry.method == _DEFLATED
        self._deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS) if deflated else None
        if cipher is not None:
            self._count(cipher.header)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far, before compression."""
        return self._entry.size_bytes

    def write(self, data: bytes | memoryview) -> int:
        """Raises `ValueError` beyond `MAX_ENTRY_BYTES`; the caller begins another entry before that."""
        entry = self._entry
        entry.size_bytes += len(data)
        if entry.size_bytes > MAX_ENTRY_BYTES and not entry.wide:
            raise ValueError(f"entry {entry.name.decode()} exceeds {MAX_ENTRY_BYTES} bytes; begin another entry")
        if self._cipher is None:  # an encrypted entry's CRC would tell what its bytes are; its code is the HMAC
            entry.crc = isal_zlib.crc32(data, entry.crc)
        self._store(self._deflate.compress(data) if self._deflate is not None else bytes(data))
        return len(data)

    def close(self) -> None:
        if self._deflate is not None:
            self._store(self._deflate.flush())
        if self._cipher is not None:
            self._count(self._cipher.finish())
        self._put(self._entry.descriptor)

    def _store(self, stored: bytes) -> None:
        self._count(stored if self._cipher is None else self._cipher.encrypt(stored))

    def _count(self, stored: bytes) -> None:
        self._entry.stored_bytes += len(stored)
        self._put(stored)
