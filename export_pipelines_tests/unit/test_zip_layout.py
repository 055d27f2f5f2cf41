"""The ZIP that is laid out before it is written, read by the standard library and by Info-ZIP."""

from __future__ import annotations

import io
import subprocess
import zipfile
import zlib
from pathlib import Path

import pytest

from export_pipelines.archives.zip_layout import MemberPart, StoredMember, ZipLayout
from export_pipelines.archives.zip_structure import read_structure

CONTENTS = {"f/pets.csv": b"id,name\n1,Rex\n", "f/empty": b"", "f/März/файл 数据.csv": bytes(range(256)) * 3}
GIB = 1 << 30


def layout(contents: dict[str, bytes]) -> ZipLayout:
    return ZipLayout(
        StoredMember(name=name, size_bytes=len(content), crc32=zlib.crc32(content))
        for name, content in contents.items()
    )


def made(contents: dict[str, bytes], start: int, end: int) -> bytes:
    held = list(contents.values())
    return b"".join(
        held[piece.index][piece.start : piece.end] if isinstance(piece, MemberPart) else piece
        for piece in layout(contents).part(start, end)
    )


@pytest.mark.parametrize("contents", [CONTENTS, {}, {"only": b"x"}], ids=["some", "none", "one"])
def test_it_is_an_archive_of_the_size_it_says(contents: dict[str, bytes], tmp_path: Path) -> None:
    size = layout(contents).size_bytes
    whole = made(contents, 0, size)
    assert len(whole) == size
    with zipfile.ZipFile(io.BytesIO(whole)) as found:
        assert found.testzip() is None
        assert {info.filename: found.read(info) for info in found.infolist()} == contents
        assert {(info.compress_type, info.flag_bits & 0x08) for info in found.infolist()} <= {(zipfile.ZIP_STORED, 0)}
    (tmp_path / "a.zip").write_bytes(whole)
    assert len(read_structure(tmp_path / "a.zip")) == len(contents)


def test_every_part_of_it_is_that_part_of_the_whole() -> None:
    size = layout(CONTENTS).size_bytes
    whole = made(CONTENTS, 0, size)
    for start in range(0, size, 7):
        for end in (start + 1, start + 100, size):
            assert made(CONTENTS, start, min(end, size)) == whole[start:end]


def test_a_program_that_only_reads_forwards_understands_it(tmp_path: Path) -> None:
    """Such programs refuse a stored member whose size and CRC only follow it; here the local header has them."""
    whole = made(CONTENTS, 0, layout(CONTENTS).size_bytes)
    assert int.from_bytes(whole[14:18], "little") == zlib.crc32(CONTENTS["f/pets.csv"])
    assert int.from_bytes(whole[18:22], "little") == len(CONTENTS["f/pets.csv"])
    (tmp_path / "a.zip").write_bytes(whole)
    tested = subprocess.run(["unzip", "-tq", tmp_path / "a.zip"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("size", [4 * GIB - 2, 4 * GIB - 1, 4 * GIB, 5 * GIB])
def test_members_beyond_four_gigabytes_are_found(size: int, tmp_path: Path) -> None:
    """The large member is a hole in the file, and its CRC one that nobody asks for."""
    wide = ZipLayout(
        [
            StoredMember(name="large", size_bytes=size, crc32=1),
            StoredMember(name="far", size_bytes=3, crc32=zlib.crc32(b"far")),
        ]
    )
    with (tmp_path / "a.zip").open("wb") as target:
        for piece in wide.part(0, wide.size_bytes):
            if not isinstance(piece, MemberPart):
                target.write(piece)
            elif piece.index == 0:
                target.seek(size, io.SEEK_CUR)
            else:
                target.write(b"far")
        assert target.tell() == wide.size_bytes
    with zipfile.ZipFile(tmp_path / "a.zip") as found:
        assert [info.file_size for info in found.infolist()] == [size, 3]
        assert found.read("far") == b"far"
    assert [member.name for member in read_structure(tmp_path / "a.zip")] == ["large", "far"]
