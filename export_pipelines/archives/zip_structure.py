"""Reads the structure of a ZIP archive and accepts one that no two programs can read differently.

Programs find members in different ways: by the directory, by the local headers one after another, by an end record
that is searched for backwards. They agree where the archive is nothing but its members without a gap, each described
alike by its local header, its data descriptor and the directory, then the directory, then the end record, which ends
the file. All of it is checked here; whatever else a ZIP may hold (APPNOTE 6.3.10) is refused.

Nothing of it is shared with `export_pipelines.archives.zip_stream`, which writes, nor with `zipfile`.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.package_paths import MAX_FILES, paths_problem, shown

STORED, DEFLATED, AES = 0, 8, 99
_MAX_ENTRIES = 2 * MAX_FILES  # members and their folders
_MAX_DIRECTORY_BYTES = 128 << 20
_MAX_VERSION = 51  # to extract: AES
_FULL_16, _FULL_32 = 0xFFFF, 0xFFFFFFFF  # the value is in a ZIP64 field
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_RECORD = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = _FULL_16
_FARTHEST = 1 << 62  # a file can be asked for
_ENCRYPTED, _STREAMED, _UTF_8 = 0x01, 0x08, 0x800
_ALLOWED_FLAGS = _ENCRYPTED | 0x06 | _STREAMED | _UTF_8  # bits 1 and 2: how hard deflate tried
# Systems whose names are read as they are: MS-DOS, Unix, Windows, macOS.
_SYSTEMS = frozenset({0, 3, 10, 19})
_FOLDER_BIT = 0x10
# Read-only, archive, normal, not indexed, and 7-Zip's mark for a Unix mode; no volume label, no link.
_DOS_BITS = 0x01 | 0x20 | 0x80 | 0x2000 | 0x8000
_UNIX_FILE, _UNIX_FOLDER, _UNIX_KIND = 0o100000, 0o040000, 0o170000
_ZIP_64_FIELD, _AES_FIELD = 0x0001, 0x9901
# The two, and times and owners. Others may give the member another name (0x7075) or make it a link (0x756e).
_FIELDS = frozenset({_ZIP_64_FIELD, _AES_FIELD, 0x000A, 0x5455, 0x5855, 0x7855, 0x7875})


@dataclass(frozen=True, kw_only=True)
class ZipMember:
    """A member as its local header, its descriptor and the directory describe it alike."""

    name: str  # that of a folder ends with a slash
    method: int  # of compression; of an encrypted member what is inside
    encrypted: bool
    aes: bytes | None  # version, vendor and strength of WinZip's encryption; None where it is another one or none
    crc: int
    stored_bytes: int
    size_bytes: int
    data_offset: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


@dataclass(frozen=True, kw_only=True)
class _Record:
    """One record of the directory, with the sizes of its ZIP64 field."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    stored_bytes: int
    size_bytes: int
    offset: int
    aes: bytes | None

    @property
    def figures(self) -> tuple[int, int, int]:
        """As a descriptor has them."""
        return self.crc, self.stored_bytes, self.size_bytes


@dataclass(frozen=True, kw_only=True)
class _Directory:
    start: int
    size_bytes: int
    entries: int


class _Invalid(Exception):
    """Says what is wrong, without the archive's name."""


def read_structure(path: Path, shown_as: str | None = None) -> tuple[ZipMember, ...]:
    """The members in their order; `IntegrityViolation` where programs could disagree about them.

    Names are canonical and no two are the same to any reader; folders are members only where they hold another one.
    Reads headers alone: whether the data are what the headers say shows when they are read.
    """
    with path.open("rb") as stream:
        try:
            return _read(stream, os.fstat(stream.fileno()).st_size)
        except _Invalid as error:
            raise IntegrityViolation(
                f"{shown_as or path} is not an archive that all programs read alike: {error}; fetch it again, or "
                "unpack it with a program you trust and verify the folder"
            ) from None


def _read(stream: BinaryIO, size: int) -> tuple[ZipMember, ...]:
    directory = _directory(stream, size)
    content = _at(stream, directory.start, directory.size_bytes)
    members, position, offset = [], 0, 0
    for _ in range(directory.entries):
        record, position = _record(content, position)
        if record.offset != offset:
            where = "the first member does not begin the file" if offset == 0 else "there are bytes between members"
            raise _Invalid(f"{where}, or members are not in the order of the directory")
        member, offset = _member(stream, record)
        members.append(member)
    if position != len(content):
        raise _Invalid("the directory holds more than its entries")
    if offset != directory.start:
        raise _Invalid("the last member does not end where the directory begins")
    _require_names(members)
    return tuple(members)


def _directory(stream: BinaryIO, size: int) -> _Directory:
    """Where the directory is, as every end record says alike."""
    end_at = size - _END.size
    mark, disk, first_disk, here, entries, length, start, comment = _unpacked(_END, stream, end_at)
    if mark != b"PK\x05\x06" or comment != 0:
        raise _Invalid("it does not end with its end record (cut, with a comment, or with bytes behind it)")
    if disk or first_disk or here != entries:
        raise _Invalid("it is one part of several")
    _require_one_end(stream, size)
    stop = end_at
    locator_at = end_at - _LOCATOR_64.size
    if locator_at >= 0 and _at(stream, locator_at, 4) == b"PK\x06\x07":
        stop = locator_at - _END_64.size
        small = (entries, length, start)
        entries, length, start = _zip_64_end(stream, stop, locator_at)
        for value, wide, full in zip(small, (entries, length, start), (_FULL_16, _FULL_32, _FULL_32), strict=True):
            if value not in (wide, full):
                raise _Invalid("its two end records disagree")
    elif entries == _FULL_16 or _FULL_32 in (length, start):
        raise _Invalid("it has no ZIP64 end record and needs one")
    if start + length != stop:
        raise _Invalid("the directory does not lie where the end record says, or there are bytes before the archive")
    if entries > _MAX_ENTRIES or length > _MAX_DIRECTORY_BYTES:
        raise _Invalid(f"it has more than {_MAX_ENTRIES} members, or a directory of over {_MAX_DIRECTORY_BYTES} bytes")
    return _Directory(start=start, size_bytes=length, entries=entries)


def _zip_64_end(stream: BinaryIO, record_at: int, locator_at: int) -> tuple[int, int, int]:
    """(entries, size of the directory, its start) of the ZIP64 end record right before its locator."""
    _, disk, offset, disks = _unpacked(_LOCATOR_64, stream, locator_at)
    if disk or disks != 1 or offset != record_at:
        raise _Invalid("its ZIP64 end record is not before the locator")
    mark, length, _, _, disk, first_disk, here, entries, size, start = _unpacked(_END_64, stream, record_at)
    if mark != b"PK\x06\x06" or length != _END_64.size - 12 or disk or first_disk or here != entries:
        raise _Invalid("its ZIP64 end record is not one, or is longer than its fields")
    return entries, size, start


def _require_one_end(stream: BinaryIO, size: int) -> None:
    """No other end record, with what follows as its comment, could be taken for that of the file."""
    first = max(0, size - _END.size - _MAX_COMMENT)
    tail = _at(stream, first, size - first)
    found = tail.find(b"PK\x05\x06")
    while 0 <= found < len(tail) - _END.size:
        if found + _END.size + int.from_bytes(tail[found + 20 : found + 22], "little") == len(tail):
            raise _Invalid("it has two end records, of which programs take one or the other")
        found = tail.find(b"PK\x05\x06", found + 1)


def _record(content: bytes, position: int) -> tuple[_Record, int]:
    """The record of the directory at a position, and where the next one is."""
    if position + _RECORD.size > len(content):
        raise _Invalid("the directory has fewer entries than the end record says")
    (
        mark, made_by, version, flags, method, _time, _date, crc, stored, size, name_length, extra_length,
        comment_length, disk, internal, external, offset,
    ) = _RECORD.unpack_from(content, position)  # fmt: skip
    name_at = position + _RECORD.size
    extra_at = name_at + name_length
    end = extra_at + extra_length
    if mark != b"PK\x01\x02" or end > len(content):
        raise _Invalid("the directory is damaged")
    raw_name = content[name_at:extra_at]
    name = _decoded(raw_name, flags)
    if comment_length or disk or internal > 1:
        raise _Invalid(f"{shown(name)} has a comment, or is on another disk")
    _require_plain(name, made_by, version, external)
    fields = _fields(content[extra_at:end], name)
    wide = [value == _FULL_32 for value in (size, stored, offset)]
    values = _zip_64_values(fields, sum(wide), name)
    size, stored, offset = (
        values.pop(0) if full else value for full, value in zip(wide, (size, stored, offset), strict=True)
    )
    inner, aes = _encryption(flags, method, fields, name)
    if inner == STORED and not flags & _ENCRYPTED and stored != size:
        raise _Invalid(f"{shown(name)} is stored with another size than it has")
    record = _Record(
        raw_name=raw_name, name=name, flags=flags, method=inner, crc=crc, stored_bytes=stored, size_bytes=size,
        offset=offset, aes=aes,
    )  # fmt: skip
    return record, end


def _member(stream: BinaryIO, record: _Record) -> tuple[ZipMember, int]:
    """The member whose local header and descriptor say what the record says, and where it ends."""
    name = shown(record.name)
    mark, version, flags, method, _time, _date, crc, stored, size, name_length, extra_length = _unpacked(
        _LOCAL, stream, record.offset
    )
    if mark != b"PK\x03\x04":
        raise _Invalid(f"{name} is not where the directory says")
    raw = _at(stream, record.offset + _LOCAL.size, name_length + extra_length)
    fields = _fields(raw[name_length:], record.name)
    if raw[:name_length] != record.raw_name:
        raise _Invalid(f"{name} has another name in its own header")
    if version > _MAX_VERSION:
        raise _Invalid(f"{name} is of a version that this program does not know")
    if flags != record.flags or _encryption(flags, method, fields, record.name) != (record.method, record.aes):
        raise _Invalid(f"{name} is compressed or encrypted otherwise by its own header")
    wide = _require_sizes(record, (crc, stored, size), fields)
    start = record.offset + _LOCAL.size + len(raw)
    end = _end_of_data(stream, record, start + record.stored_bytes, wide=wide)
    member = ZipMember(
        name=record.name, method=record.method, encrypted=bool(flags & _ENCRYPTED), aes=record.aes, crc=record.crc,
        stored_bytes=record.stored_bytes, size_bytes=record.size_bytes, data_offset=start,
    )  # fmt: skip
    return member, end


def _require_sizes(record: _Record, local: tuple[int, int, int], fields: dict[int, bytes]) -> bool:
    """The local header says the same CRC and sizes, or leaves them to the descriptor; whether its sizes are ZIP64."""
    crc, stored, size = local
    wide = _ZIP_64_FIELD in fields
    if wide != (size == _FULL_32) or wide != (stored == _FULL_32):
        raise _Invalid(f"{shown(record.name)} has sizes in its own header that programs read differently")
    if wide:
        size, stored = _zip_64_values(fields, 2, record.name)
    left_open = record.flags & _STREAMED and (crc, stored, size) == (0, 0, 0)
    if (crc, stored, size) != record.figures and not left_open:
        raise _Invalid(f"{shown(record.name)} has another size or CRC in its own header")
    return wide


def _end_of_data(stream: BinaryIO, record: _Record, end: int, *, wide: bool) -> int:
    """Where the member ends: behind its data, or behind a descriptor that says what the directory says."""
    if not record.flags & _STREAMED:
        return end
    shape = struct.Struct("<4sL2Q" if wide else "<4s3L")
    if _unpacked(shape, stream, end) != (b"PK\x07\x08", *record.figures):
        raise _Invalid(f"{shown(record.name)} has another size or CRC behind its data")
    return end + shape.size


def _decoded(raw: bytes, flags: int) -> str:
    """A name in the one way in which it can be read; the rest of the flags is looked at as well."""
    if flags & ~_ALLOWED_FLAGS:
        raise _Invalid("it has members with flags that this program does not know")
    if not raw.isascii() and not flags & _UTF_8:
        raise _Invalid(f"{shown(repr(raw))} is a name in an unknown encoding")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _Invalid(f"{shown(repr(raw))} is no name in UTF-8") from None


def _require_plain(name: str, made_by: int, version: int, external: int) -> None:
    """A regular file or a folder, as its name says, to every program: no link, no device, no volume label."""
    kind, is_folder = external >> 16 & _UNIX_KIND, name.endswith("/")
    bits = external & _FULL_16 & ~(_FOLDER_BIT if is_folder else 0)
    if kind not in (0, _UNIX_FOLDER if is_folder else _UNIX_FILE) or bits & ~_DOS_BITS:
        raise _Invalid(f"{shown(name)} is no regular file (a link, a device, or a folder by its attributes)")
    if made_by >> 8 not in _SYSTEMS or version > _MAX_VERSION:
        raise _Invalid(f"{shown(name)} is of a system or version that this program does not know")


def _fields(extra: bytes, name: str) -> dict[int, bytes]:
    """The extra fields, each once and of a kind that changes neither name nor content."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(extra):
        if position + 4 > len(extra):
            raise _Invalid(f"{shown(name)} has a damaged extra field")
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4 + length
        if kind in found or kind not in _FIELDS or position > len(extra):
            raise _Invalid(f"{shown(name)} has an extra field that is damaged, repeated or not allowed (0x{kind:04x})")
        found[kind] = extra[position - length : position]
    return found


def _zip_64_values(fields: dict[int, bytes], count: int, name: str) -> list[int]:
    """What the ZIP64 field says; it holds exactly the values that the header leaves to it."""
    content = fields.get(_ZIP_64_FIELD, b"")
    if len(content) != 8 * count or (count == 0) != (_ZIP_64_FIELD not in fields):
        raise _Invalid(f"{shown(name)} has a ZIP64 field that programs read differently")
    return list(struct.unpack(f"<{count}Q", content))


def _encryption(flags: int, method: int, fields: dict[int, bytes], name: str) -> tuple[int, bytes | None]:
    """(method of compression, what WinZip's AES is) of a member."""
    content, inner = fields.get(_AES_FIELD), method
    if (method == AES) != (content is not None) or (content is not None and len(content) != 7):  # noqa: PLR2004 - WinZip's
        raise _Invalid(f"{shown(name)} is encrypted by one of its fields and not by another")
    if content is not None:
        inner = int.from_bytes(content[5:], "little")
        if not flags & _ENCRYPTED:
            raise _Invalid(f"{shown(name)} is encrypted by one of its fields and not by another")
    if inner not in (STORED, DEFLATED):
        raise _Invalid(f"{shown(name)} is compressed by a method that this program does not know ({inner})")
    return inner, content[:5] if content is not None else None


def _require_names(members: list[ZipMember]) -> None:
    files = [member.name for member in members if not member.is_folder]
    problem = paths_problem(files)
    if problem is not None:
        raise _Invalid(problem)
    if len({member.encrypted for member in members if not member.is_folder}) > 1:
        raise _Invalid("some of its members are encrypted and some are not")
    folders = {name[: at + 1] for name in files for at, char in enumerate(name) if char == "/"}
    for member in members:
        if not member.is_folder:
            continue
        if member.name not in folders or member.size_bytes or member.stored_bytes:
            raise _Invalid(f"{shown(member.name)} is a folder that holds nothing, has data, or is there twice")
        folders.remove(member.name)


def _unpacked(shape: struct.Struct, stream: BinaryIO, position: int) -> tuple[Any, ...]:
    return shape.unpack(_at(stream, position, shape.size))


def _at(stream: BinaryIO, position: int, length: int) -> bytes:
    if not 0 <= position < _FARTHEST:
        raise _Invalid("it is shorter than its records")
    stream.seek(position)
    content = stream.read(length)
    if len(content) != length:
        raise _Invalid("it is shorter than its records")
    return content
