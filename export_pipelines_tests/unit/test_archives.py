"""Encrypted archives against the programs and libraries of others, at the edges of the formats."""

from __future__ import annotations

import io
import os
import subprocess
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import pyrage
import pytest
import pyzipper
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipelines.archives import age_reading, age_writing
from export_pipelines.archives.zip_encryption import WinZipAes
from export_pipelines.archives.zip_reading import read_member
from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.archives.zip_structure import read_structure
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.packaging.archive import Member, write_zip
from export_pipelines_tests.lanes import examples

PASSWORD = b"correct horse battery"
NOISE = os.urandom(300_001)


def encrypted(content: bytes, pieces: list[int], *, deflate: bool = True, wide: bool = False) -> bytes:
    """An archive of one encrypted member, written in pieces of these lengths."""
    sink = io.BytesIO()
    archive = ZipStream(cast("BinaryIO", sink))
    entry = archive.stream("folder/data", deflate=deflate, wide=wide, cipher=WinZipAes(PASSWORD))
    start = 0
    for length in [*pieces, len(content)]:
        entry.write(content[start : start + length])
        start += length
    entry.close()
    archive.close()
    return sink.getvalue()


def read_by_us(archive: Path, password: bytes = PASSWORD) -> bytes:
    (member,) = read_structure(archive)
    assert member.encrypted
    return b"".join(read_member(archive, member, password))


@settings(max_examples=examples(40), deadline=None)
@given(
    length=st.sampled_from([0, 1, 15, 16, 17, 4095, 70_000, len(NOISE)]),
    pieces=st.lists(st.integers(0, 40_000), max_size=6),
    deflate=st.booleans(),
)
def test_pyzipper_reads_what_was_encrypted_in_any_pieces(length: int, pieces: list[int], deflate: bool) -> None:
    content = NOISE[:length]
    with pyzipper.AESZipFile(io.BytesIO(encrypted(content, pieces, deflate=deflate))) as found:
        found.setpassword(PASSWORD)
        assert found.read("folder/data") == content


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("deflate", [False, True])
def test_seven_zip_and_our_reader_agree_about_every_shape_of_an_entry(
    wide: bool, deflate: bool, tmp_path: Path
) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(encrypted(NOISE * 10, [], deflate=deflate, wide=wide))
    arguments = ["7z", "x", "-so", f"-p{PASSWORD.decode()}", str(archive)]
    assert subprocess.run(arguments, capture_output=True, check=True).stdout == NOISE * 10
    assert read_by_us(archive) == NOISE * 10


def test_our_reader_reads_what_another_library_encrypted(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with pyzipper.AESZipFile(archive, "w", compression=zipfile.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as made:
        made.setpassword(PASSWORD)
        made.writestr("x", NOISE)
    assert read_by_us(archive) == NOISE


def test_a_wrong_password_and_a_changed_byte_are_told_apart(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    content = bytearray(encrypted(NOISE, []))
    archive.write_bytes(content)
    with pytest.raises(RequestRejected, match="password"):
        read_by_us(archive, b"another password")
    content[100_000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(IntegrityViolation, match=r"changed or cut|cannot be unpacked"):
        read_by_us(archive)


def test_the_same_content_is_never_encrypted_to_the_same_bytes() -> None:
    assert encrypted(NOISE, []) != encrypted(NOISE, [])


def test_a_member_of_more_than_four_gigabytes_is_found_by_others(tmp_path: Path) -> None:
    """Zeros deflate to a thousandth, so the sizes of the headers are real and the file is small."""

    class Zeros(io.RawIOBase):
        left = (4 << 30) + 12_345

        def read(self, size: int = -1) -> bytes:
            take = min(size, self.left)
            self.left -= take
            return bytes(take)

    archive = tmp_path / "large.zip"
    small = Member(path="small", size_bytes=3, content=io.BytesIO(b"abc"), deflate=True)
    large = Member(path="large", size_bytes=Zeros.left, content=cast("BinaryIO", Zeros()), deflate=True)
    with archive.open("wb") as sink:
        write_zip(sink, [large, small], folder="top")
    with zipfile.ZipFile(archive) as found:
        assert found.getinfo("top/large").file_size == (4 << 30) + 12_345
        assert found.read("top/small") == b"abc"
    assert [each.size_bytes for each in read_structure(archive)] == [(4 << 30) + 12_345, 3]
    listed = subprocess.run(["7z", "l", "-slt", str(archive)], capture_output=True, text=True, check=True).stdout
    assert f"Size = {(4 << 30) + 12_345}" in listed


def test_what_is_compressed_already_is_stored(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    members = [
        Member(path=name, size_bytes=len(NOISE), content=io.BytesIO(NOISE), deflate=deflate)
        for name, deflate in (("a.gz", False), ("b.csv", True))
    ]
    with archive.open("wb") as sink:
        write_zip(sink, members, folder="top")
    with zipfile.ZipFile(archive) as found:
        kinds = {entry.filename: entry.compress_type for entry in found.infolist()}
        assert kinds == {"top/a.gz": zipfile.ZIP_STORED, "top/b.csv": zipfile.ZIP_DEFLATED}
        assert {found.read(name) for name in kinds} == {NOISE}


# age ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 65_537, len(NOISE)])
def test_age_files_for_a_passphrase_are_read_by_age_and_by_us(length: int, tmp_path: Path) -> None:
    file, plain = tmp_path / "a.age", io.BytesIO()
    with (
        file.open("wb") as sink,
        age_writing.age_for_passphrase(sink, PASSWORD) as stream,
    ):
        for start in range(0, length, 70_001):
            stream.write(NOISE[start : min(length, start + 70_001)])
    assert pyrage.passphrase.decrypt(file.read_bytes(), PASSWORD.decode()) == NOISE[:length]
    assert age_reading.takes_passphrase(file)
    age_reading.decrypt_for_passphrase(file, cast("BinaryIO", plain), PASSWORD)
    assert plain.getvalue() == NOISE[:length]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda content: content[:-1], IntegrityViolation),
        (lambda content: content[:-40_000], IntegrityViolation),
        (lambda content: content[:60], IntegrityViolation),
        (lambda content: content[:300] + b"\0" + content[301:], IntegrityViolation),
        (lambda content: content.replace(b" 17\n", b" 30\n", 1), RequestRejected),
        (lambda content: content.replace(b"--- ", b"--- A", 1), IntegrityViolation),
    ],
)
def test_age_files_that_were_changed_are_refused(change: object, error: type[Exception], tmp_path: Path) -> None:
    file = tmp_path / "a.age"
    with file.open("wb") as sink, age_writing.age_for_passphrase(sink, PASSWORD) as stream:
        stream.write(NOISE)
    file.write_bytes(change(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(error):
        age_reading.decrypt_for_passphrase(file, cast("BinaryIO", io.BytesIO()), PASSWORD)


def test_an_error_of_the_sink_comes_back_as_it_was() -> None:
    class Full:
        def write(self, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

    recipient = pyrage.x25519.Identity.generate().to_public()
    with (
        pytest.raises(OSError, match="No space left"),
        age_writing.age_for_recipients(cast("BinaryIO", Full()), [recipient]) as stream,
    ):
        stream.writelines([NOISE] * 100)


@pytest.mark.parametrize("key", ["age1" + "q" * 58, "ssh-ed25519 AAAA", "ssh-rsa nonsense"])
def test_a_public_key_that_is_none_is_named_by_its_beginning(key: str) -> None:
    with pytest.raises(RequestRejected, match=r"encryption.recipients: .* is not a public key"):
        age_writing.recipients_of([key])
