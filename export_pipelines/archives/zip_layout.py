"""Where every byte of a ZIP is whose members are stored as they are and whose sizes and CRCs are known beforehand.

Nothing has to be written to know its length, and any part of it can be made by itself, so that a download of it can be
resumed. Headers hold sizes and CRCs, so programs that only read forwards understand it too; from 4 GiB on a member has
ZIP64 headers. The same members give the same bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from export_pipelines.archives.zip_stream import MAX_ENTRY_BYTES, STORED, Entry, directory_of, encoded_name


@dataclass(frozen=True, kw_only=True)
class StoredMember:
    """A member of the archive, whose bytes are elsewhere."""

    name: str
    size_bytes: int
    crc32: int


@dataclass(frozen=True, kw_only=True)
class MemberPart:
    """Bytes ``start`` to ``end``, which is not included, of the member with this index."""

    index: int
    start: int
    end: int


class ZipLayout:
    """An archive of these members, in their order."""

    def __init__(self, members: Iterable[StoredMember]) -> None:
        self._headers: list[bytes] = []
        self._sizes: list[int] = []
        self._offsets: list[int] = []
        entries: list[Entry] = []
        offset = 0
        for member in members:
            name, flags = encoded_name(member.name)
            entry = Entry(
                name=name,
                flags=flags,
                offset=offset,
                method=STORED,
                wide=member.size_bytes >= MAX_ENTRY_BYTES,
                crc=member.crc32,
                stored_bytes=member.size_bytes,
                size_bytes=member.size_bytes,
            )
            entries.append(entry)
            self._headers.append(entry.local_header)
            self._sizes.append(member.size_bytes)
            self._offsets.append(offset)
            offset += len(entry.local_header) + member.size_bytes
        self._directory = directory_of(entries, offset)
        self._directory_at = offset

    @property
    def size_bytes(self) -> int:
        return self._directory_at + len(self._directory)

    def part(self, start: int, end: int) -> Iterator[bytes | MemberPart]:
        """What bytes ``start`` to ``end``, which is not included, consist of, in order: bytes as they are, or a part of
        a member for the caller to read.
        """
        for index in range(max(0, bisect_right(self._offsets, start) - 1), len(self._offsets)):
            at = self._offsets[index]
            if at >= end:
                return
            yield from _cut(self._headers[index], at, start, end)
            begins = at + len(self._headers[index])
            first, last = max(0, start - begins), min(self._sizes[index], end - begins)
            if first < last:
                yield MemberPart(index=index, start=first, end=last)
        yield from _cut(self._directory, self._directory_at, start, end)


def _cut(piece: bytes, at: int, start: int, end: int) -> Iterator[bytes]:
    """What of a piece that begins ``at`` is between ``start`` and ``end``, if anything."""
    if cut := piece[max(0, start - at) : max(0, end - at)]:
        yield cut
