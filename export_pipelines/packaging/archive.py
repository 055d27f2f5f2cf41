"""The package as one ZIP file, streamed: plain, or with encrypted members, or with an encrypted one around them all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from export_pipelines.archives.zip_encryption import WinZipAes
from export_pipelines.archives.zip_stream import ZipStream

_COPY_BYTES = 1 << 20
_WIDE_BYTES = 0xF0000000  # from here on an entry could outgrow 4 GiB when it is deflated or wrapped


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file on its way into an archive."""

    path: str
    size_bytes: int
    content: AbstractContextManager[BinaryIO]
    deflate: bool  # False where the file is compressed already


def write_zip(sink: BinaryIO, members: Sequence[Member], *, folder: str, password: bytes | None = None) -> None:
    """Members below one top folder; with a password each is encrypted and its name is not."""
    archive = ZipStream(sink)
    for member in members:
        entry = archive.stream(
            f"{folder}/{member.path}",
            deflate=member.deflate,
            wide=member.size_bytes >= _WIDE_BYTES,
            cipher=None if password is None else WinZipAes(password),
        )
        with member.content as stream:
            shutil.copyfileobj(stream, cast("Any", entry), _COPY_BYTES)
        entry.close()
    archive.close()


def write_hiding_zip(
    sink: BinaryIO, members: Sequence[Member], *, folder: str, password: bytes, inner_name: str
) -> None:
    """An archive whose one member, encrypted, is the archive of `write_zip`: names and sizes of files are inside."""
    outer = ZipStream(sink)
    wide = sum(member.size_bytes for member in members) >= _WIDE_BYTES
    entry = outer.stream(inner_name, deflate=False, wide=wide, cipher=WinZipAes(password))
    write_zip(cast("BinaryIO", entry), members, folder=folder)
    entry.close()
    outer.close()
