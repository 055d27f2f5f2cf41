"""A ZIP archive written forwards only, deflated by ISA-L.

For formats that are ZIP containers themselves. The sink need not seek: a streamed entry is followed by its data
descriptor (APPNOTE 4.3.9). Entries stay below 4 GiB, so that local headers never need ZIP64, about which streaming
readers disagree; the archive as a whole may be larger. Time stamps are fixed: the same entries give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from isal import isal_zlib

MAX_ENTRY_BYTES = 0xFFFFFFFF

_LEVEL = 1  # measured on sheet XML: level 0 is 30 % larger and no faster, levels 2 and 3 gain under 1 %
_DATE = (1 << 5) | 1  # 1980-01-01, the earliest a ZIP can say
_DEFLATED = 8
_STREAMED = 0x08  # general purpose bit 3: sizes follow in a data descriptor
_VERSION, _VERSION_64 = 20, 45
_MAX_32, _MAX_16 = 0xFFFFFFFF, 0xFFFF


@dataclass(kw_only=True)
class _Entry:
    name: bytes
    flags: int
    offset: int
    crc: int = 0
    stored_bytes: int = 0
    size_bytes: int = 0

    def fields(self, extra_bytes: int = 0) -> bytes:
        """What a local header and the directory say alike, from the version to the lengths of name and extra."""
        sizes = (self.crc, self.stored_bytes, self.size_bytes)
        lengths = (len(self.name), extra_bytes)
        return struct.pack("<5H3L2H", _VERSION, self.flags, _DEFLATED, 0, _DATE, *sizes, *lengths)

    @property
    def local_header(self) -> bytes:
        """Sizes and CRC of a streamed entry are still zero here, as APPNOTE 4.4.4 wants it."""
        return b"PK\x03\x04" + self.fields() + self.name

    @property
    def descriptor(self) -> bytes:
        return b"PK\x07\x08" + struct.pack("<3L", self.crc, self.stored_bytes, self.size_bytes)

    @property
    def directory_record(self) -> bytes:
        extra = struct.pack("<2HQ", 1, 8, self.offset) if self.offset >= _MAX_32 else b""
        made_by = _VERSION_64 if extra else _VERSION
        head = b"PK\x01\x02" + struct.pack("<H", made_by) + self.fields(len(extra))
        return head + struct.pack("<3H2L", 0, 0, 0, 0, min(self.offset, _MAX_32)) + self.name + extra


class ZipStream:
    """One entry after another; `close` writes the directory and never closes the sink."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._offset = 0
        self._entries: list[_Entry] = []

    def add(self, name: str, data: bytes) -> None:
        """A whole entry, with its sizes in the local header."""
        deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        stored = deflate.compress(data) + deflate.flush()
        entry = _Entry(
            name=name.encode("ascii"),
            flags=0,
            offset=self._offset,
            crc=isal_zlib.crc32(data),
            stored_bytes=len(stored),
            size_bytes=len(data),
        )
        self._entries.append(entry)
        self._put(entry.local_header + stored)

    def stream(self, name: str) -> ZipEntryStream:
        """An entry of unknown size; close it before the next one begins."""
        entry = _Entry(name=name.encode("ascii"), flags=_STREAMED, offset=self._offset)
        self._entries.append(entry)
        self._put(entry.local_header)
        return ZipEntryStream(entry, self._put)

    def close(self) -> None:
        start = self._offset
        self._put(b"".join(entry.directory_record for entry in self._entries))
        size, count = self._offset - start, len(self._entries)
        if start >= _MAX_32 or count >= _MAX_16:
            end = self._offset
            record = struct.pack("<Q2H2L4Q", 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, start)
            self._put(b"PK\x06\x06" + record + b"PK\x06\x07" + struct.pack("<LQL", 0, end, 1))
        small_count = min(count, _MAX_16)
        tail = struct.pack("<4H2LH", 0, 0, small_count, small_count, min(size, _MAX_32), min(start, _MAX_32), 0)
        self._put(b"PK\x05\x06" + tail)

    def _put(self, data: bytes) -> None:
        self._sink.write(data)
        self._offset += len(data)


class ZipEntryStream:
    """Deflates what is written to it into the archive."""

    def __init__(self, entry: _Entry, put: Callable[[bytes], None]) -> None:
        self._entry = entry
        self._put = put
        self._deflate = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)

    @property
    def size_bytes(self) -> int:
        """Bytes written so far, before compression."""
        return self._entry.size_bytes

    def write(self, data: bytes | memoryview) -> None:
        """Raises `ValueError` beyond `MAX_ENTRY_BYTES`; the caller begins another entry before that."""
        entry = self._entry
        entry.size_bytes += len(data)
        if entry.size_bytes > MAX_ENTRY_BYTES:
            raise ValueError(f"entry {entry.name.decode()} exceeds {MAX_ENTRY_BYTES} bytes; begin another entry")
        entry.crc = isal_zlib.crc32(data, entry.crc)
        self._store(self._deflate.compress(data))

    def close(self) -> None:
        self._store(self._deflate.flush())
        self._put(self._entry.descriptor)

    def _store(self, stored: bytes) -> None:
        self._entry.stored_bytes += len(stored)
        self._put(stored)
