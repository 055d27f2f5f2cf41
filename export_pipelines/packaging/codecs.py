"""The compressions of single files, in one table. What is written with one library is read back with another.

``zip`` is not here: it holds a whole package and is `export_pipelines.packaging.archive`.
"""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, cast

import pyarrow as pa
import zstandard
from isal import isal_zlib

from export_pipelines.core.errors import IntegrityViolation

_GZIP_LEVEL = 2  # ISA-L's 0–3: level 2 is within 10 % of level 1's speed and smaller
_GZIP_WINDOW = 16 + isal_zlib.MAX_WBITS  # 16 asks for gzip's header, which then has neither name nor time
_BZ2_LEVEL = 9
_ZSTD_LEVEL = 3
_ZSTD_THREADS = 2  # a constant: where jobs are cut must not depend on the machine, or bytes would


class Compressor(Protocol):
    """A stream of bytes into fewer; deterministic."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One way to compress a file."""

    name: str
    suffix: str  # behind the format's extension, with its dot
    media_type: str
    descriptor: str  # its name in a Frictionless descriptor
    compressor: Callable[[], Compressor]
    open_plain: Callable[[Path], BinaryIO]  # by another library than the compressor's
    written_with: str
    read_with: str


def _gzip() -> Compressor:
    return cast("Compressor", isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW))


def _zstd() -> Compressor:
    made = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=_ZSTD_THREADS, write_checksum=True)
    return cast("Compressor", made.compressobj())


def _by_arrow(name: str) -> Callable[[Path], BinaryIO]:
    def opened(path: Path) -> BinaryIO:
        return cast("BinaryIO", pa.input_stream(str(path), compression=name))

    return opened


CODECS = MappingProxyType(
    {
        codec.name: codec
        for codec in (
            Codec(
                name="gzip",
                suffix=".gz",
                media_type="application/gzip",
                descriptor="gz",
                compressor=_gzip,
                open_plain=lambda path: cast("BinaryIO", gzip.open(path)),  # noqa: SIM115 - the reader closes it
                written_with="isal",
                read_with="gzip",
            ),
            Codec(
                name="bz2",
                suffix=".bz2",
                media_type="application/x-bzip2",
                descriptor="bz2",
                compressor=lambda: bz2.BZ2Compressor(_BZ2_LEVEL),
                open_plain=_by_arrow("bz2"),
                written_with="bz2",
                read_with="pyarrow",
            ),
            Codec(
                name="zstd",
                suffix=".zst",
                media_type="application/zstd",
                descriptor="zst",
                compressor=_zstd,
                open_plain=_by_arrow("zstd"),
                written_with="zstandard",
                read_with="pyarrow",
            ),
        )
    }
)


def codec_of_file(name: str) -> Codec | None:
    """The codec that a file's name tells; None for a plain file."""
    return next((codec for codec in CODECS.values() if name.endswith(codec.suffix)), None)


@contextmanager
def reading_plain(codec: Codec, path: Path, name: str) -> Iterator[BinaryIO]:
    """What the file holds; `IntegrityViolation` when it is cut or not of that codec."""
    if path.stat().st_size == 0:  # which decoders take for the end of nothing
        raise IntegrityViolation(f"{name} is not a whole {codec.name} file; export again")
    try:
        with codec.open_plain(path) as stream:
            yield stream
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        if _of_the_system(error):
            raise
        raise IntegrityViolation(f"{name} is not a whole {codec.name} file; export again") from error


def _of_the_system(error: Any) -> bool:
    """A full disk or a missing file, which says nothing of the bytes; decoders raise `OSError` without a number."""
    return isinstance(error, OSError) and error.errno is not None
