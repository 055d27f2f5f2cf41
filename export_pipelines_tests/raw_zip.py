"""ZIP archives made byte by byte, so that any field can be wrong."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Raw:
    """A member. What is ``local`` or of the descriptor is the directory's where it is not said otherwise."""

    name: bytes
    data: bytes = b""
    deflate: bool = False
    method: int | None = None
    flags: int = 0
    version: int = 20
    made_by: int = 3 << 8 | 20
    external: int = 0o100644 << 16
    extra: bytes = b""
    comment: bytes = b""
    behind: bytes = b""  # bytes that belong to the deflated data and follow their end
    local_name: bytes | None = None
    local_flags: int | None = None
    local_method: int | None = None
    local_extra: bytes | None = None
    local_crc: int | None = None
    local_size: int | None = None
    descriptor: bytes | None = None  # of a streamed member
    crc: int | None = None
    size: int | None = None
    before: bytes = b""  # bytes between this member and the one before
    listed: bool = True  # in the directory
    stored: bytes = field(init=False)

    def __post_init__(self) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(self.data) + deflate.flush() if self.deflate else self.data
        self.stored = packed + self.behind
        if self.method is None:
            self.method = 8 if self.deflate else 0
        self.crc = zlib.crc32(self.data) if self.crc is None else self.crc
        self.size = len(self.data) if self.size is None else self.size

    def local(self) -> bytes:
        name = self.name if self.local_name is None else self.local_name
        extra = self.extra if self.local_extra is None else self.local_extra
        flags = self.flags if self.local_flags is None else self.local_flags
        method = self.method if self.local_method is None else self.local_method
        crc = self.crc if self.local_crc is None else self.local_crc
        size = self.size if self.local_size is None else self.local_size
        figures = (0, 0, 0) if flags & 8 and self.local_crc is None else (crc, len(self.stored), size)
        head = struct.pack("<4s5H3L2H", b"PK\3\4", self.version, flags, method, 0, 33, *figures, len(name), len(extra))
        return head + name + extra

    def end(self) -> bytes:
        if not self.flags & 8:
            return b""
        if self.descriptor is not None:
            return self.descriptor
        return b"PK\7\x08" + struct.pack("<3L", self.crc, len(self.stored), self.size)

    def record(self, offset: int) -> bytes:
        sizes = (self.crc, len(self.stored), self.size, len(self.name), len(self.extra), len(self.comment))
        head = struct.pack("<4s6H", b"PK\1\2", self.made_by, self.version, self.flags, self.method, 0, 33)
        tail = struct.pack("<3L5H2L", *sizes, 0, 0, self.external, offset)
        return head + tail + self.name + self.extra + self.comment


def raw_zip(
    members: Sequence[Raw],
    *,
    prefix: bytes = b"",
    prefix_counts: bool = True,
    order: Sequence[int] | None = None,
    before_directory: bytes = b"",
    count: int | None = None,
    wide_end: bytes = b"",
    comment: bytes = b"",
    behind: bytes = b"",
) -> bytes:
    """``prefix_counts``: offsets are of the whole file, not of the archive; ``order`` is that of the directory."""
    content, records = bytearray(prefix), []
    for member in members:
        content += member.before
        if member.listed:
            records.append(member.record(len(content) - (0 if prefix_counts else len(prefix))))
        content += member.local() + member.stored + member.end()
    content += before_directory
    start = len(content) - (0 if prefix_counts else len(prefix))
    directory = b"".join(records[place] for place in (order or range(len(records))))
    number = len(records) if count is None else count
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), start, len(comment))
    return bytes(content) + directory + wide_end + end + comment + behind


def zip_64_end(*, entries: int, size: int, start: int, offset: int, length: int = 44) -> bytes:
    """The ZIP64 end record and its locator, which says that the record is at ``offset``."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, entries, entries, size, start)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, offset, 1)
