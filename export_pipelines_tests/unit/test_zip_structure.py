"""Archives made byte by byte that programs read differently: none is accepted, and what they would read is shown."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from export_pipelines.archives.zip_encryption import WinZipAes
from export_pipelines.archives.zip_reading import read_member
from export_pipelines.archives.zip_stream import ZipStream
from export_pipelines.archives.zip_structure import read_structure
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.packaging.archive import Member, write_hiding_zip, write_zip
from export_pipelines_tests.raw_zip import Raw, raw_zip, zip_64_end

GOOD, EVIL = b"id\r\n1\r\n", b"id\r\n666\r\n"
NAME = b"top/data/pets.csv"
PASSWORD = b"correct horse battery"


def read(content: bytes, place: Path) -> dict[str, bytes]:
    """What our reader finds."""
    archive = place / "a.zip"
    archive.write_bytes(content)
    members = read_structure(archive)
    return {member.name: b"".join(read_member(archive, member)) for member in members if not member.is_folder}


def read_by_python(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist() if not entry.is_dir()}


def extracted(content: bytes, place: Path, *command: str) -> dict[str, bytes]:
    """What a program writes into an empty folder, which is its working directory."""
    folder = place / "extracted"
    folder.mkdir()
    (place / "a.zip").write_bytes(content)
    subprocess.run([*command, str(place / "a.zip")], cwd=folder, capture_output=True, check=False)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def member(name: bytes = NAME, data: bytes = GOOD, **fields: object) -> Raw:
    return Raw(name=name, data=data, **fields)  # type: ignore[arg-type]


def pair(name: str, flags: int = 0) -> bytes:
    """The genuine file and another one, of which some program makes the same."""
    return raw_zip([member(), member(name.encode(), EVIL, flags=flags)])


def field_of(kind: int, content: bytes) -> bytes:
    return struct.pack("<2H", kind, len(content)) + content


def unicode_path(name: bytes) -> bytes:
    """Info-ZIP's extra field: another name, for a member whose own name has this CRC."""
    return field_of(0x7075, b"\1" + struct.pack("<L", zlib.crc32(NAME)) + name)


def stored_as_comment() -> bytes:
    """A member that holds a directory and an end record, whose comment is the rest of the file."""
    evil = member(data=EVIL)
    head = member(b"top/first", b"")
    inner_at = len(head.local())
    body = evil.local() + evil.stored
    record = evil.record(inner_at)
    end_at = len(body) + len(record)
    shape = "<4s4H2LH"

    def whole(comment: int) -> bytes:
        end = struct.pack(shape, b"PK\5\6", 0, 0, 1, 1, len(record), inner_at + len(body), comment)
        return raw_zip([member(b"top/first", body + record + end)])

    length = len(whole(0)) - inner_at - end_at - struct.calcsize(shape)
    return whole(length)


def beyond_the_file() -> bytes:
    """A member whose data would end behind the file, where its descriptor is looked for."""
    content = bytearray(raw_zip([member(flags=8, deflate=True)]))
    struct.pack_into("<L", content, content.index(b"PK\1\2") + 20, 1 << 30)
    return bytes(content)


def with_wide_end(**wrong: int) -> bytes:
    plain = raw_zip([member()])
    start = plain.index(b"PK\1\2")
    size = len(plain) - 22 - start
    values = {"entries": 1, "size": size, "start": start, "offset": start + size}
    return raw_zip([member()], wide_end=zip_64_end(**{**values, **wrong}))


NAMES = {
    "a dot": "top/./data/pets.csv",
    "a dot before": "./top/data/pets.csv",
    "two slashes": "top//data/pets.csv",
    "two dots": "top/x/../data/pets.csv",
    "an absolute name": "/top/data/pets.csv",
    "a backslash": "top\\data\\pets.csv",
    "a drive": "C:top/data/pets.csv",
    "a stream of NTFS": "top/data/pets.csv::$DATA",
    "a NUL": "top/data/pets.csv\0.txt",
    "a control character": "top/data/pets\x08.csv",
    "a version of VMS": "top/data/pets.csv;1",
    "other case": "top/data/Pets.csv",
    "a folder of other case": "top/Data/more.csv",
    "a dot behind": "top/data/pets.csv.",
    "a blank behind": "top/data /pets.csv",
    "a short name of Windows": "top/data/PETSOF~1.CSV",
    "the same": "top/data/pets.csv",
    "a file that is a folder": "top/data",
    "a folder that is a file": "top/data/pets.csv/more",
}
UNICODE_NAMES = {
    "full width": "top/data/ｐets.csv",
    "an invisible character": "top/data/pets\u200d.csv",
    "a soft hyphen": "top/data/pets\u00ad.csv",
    "right to left": "top/data/pets\u202evsc",
    "a line separator": "top/data/pets.csv\u2028",
}


@pytest.mark.parametrize("name", [*NAMES.values(), *UNICODE_NAMES.values()], ids=[*NAMES, *UNICODE_NAMES])
def test_a_name_that_some_program_takes_for_another_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityViolation, match="not an archive that all programs read alike"):
        read(pair(name, flags=0 if name.isascii() else 0x800), tmp_path)


@pytest.mark.parametrize(
    ("one", "other"), [("é", "e\u0301"), ("k", "\u212a"), ("ß", "SS"), ("ﬁ", "fi"), ("ı", "I"), ("Å", "\u212b")]
)
def test_two_spellings_of_a_name_are_refused(one: str, other: str, tmp_path: Path) -> None:
    members = [member(f"top/{name}".encode(), flags=0x800) for name in (one, other)]
    assert read(raw_zip(members[:1]), tmp_path) == {f"top/{one}": GOOD}
    with pytest.raises(IntegrityViolation, match="the same name to some programs"):
        read(raw_zip(members), tmp_path)


STRUCTURES: dict[str, tuple[Callable[[], bytes], str]] = {
    "another archive before": (lambda: raw_zip([member(data=EVIL)]) + raw_zip([member()]), "before the archive"),
    "bytes before": (lambda: raw_zip([member()], prefix=b"MZ"), "does not begin the file"),
    "bytes before that nobody counts": (
        lambda: raw_zip([member()], prefix=b"MZ", prefix_counts=False),
        "before the archive",
    ),
    "a gap": (lambda: raw_zip([member(), member(b"top/b", before=b"gap")]), "bytes between members"),
    "a member that is not listed": (
        lambda: raw_zip([member(), member(data=EVIL, listed=False), member(b"top/b")]),
        "bytes between members",
    ),
    "a last member that is not listed": (
        lambda: raw_zip([member(), member(data=EVIL, listed=False)]),
        "does not end where the directory begins",
    ),
    "bytes before the directory": (
        lambda: raw_zip([member()], before_directory=b"gap"),
        "does not end where the directory begins",
    ),
    "bytes behind": (lambda: raw_zip([member()], behind=b"x"), "does not end with its end record"),
    "a comment": (lambda: raw_zip([member()], comment=b"x"), "does not end with its end record"),
    "an end record in the comment": (
        lambda: raw_zip([member()], comment=raw_zip([member(data=EVIL)])),
        "two end records",
    ),
    "an end record in a member": (stored_as_comment, "two end records"),
    "a comment of a member": (lambda: raw_zip([member(comment=b"x")]), "has a comment"),
    "members in another order": (lambda: raw_zip([member(), member(b"top/b")], order=(1, 0)), "order of the directory"),
    "a member listed twice": (lambda: raw_zip([member()], order=(0, 0), count=2), "bytes between members"),
    "fewer entries": (lambda: raw_zip([member(), member(b"top/b")], count=1), "more than its entries"),
    "more entries": (lambda: raw_zip([member()], count=2), "fewer entries"),
    "another local name": (lambda: raw_zip([member(local_name=b"top/data/PETS.csv")]), "another name"),
    "another local method": (lambda: raw_zip([member(local_method=8)]), "compressed or encrypted otherwise"),
    "other local flags": (lambda: raw_zip([member(local_flags=2)]), "compressed or encrypted otherwise"),
    "another local CRC": (lambda: raw_zip([member(local_crc=1)]), "another size or CRC in its own header"),
    "another local size": (lambda: raw_zip([member(local_size=1)]), "another size or CRC in its own header"),
    "no descriptor": (lambda: raw_zip([member(flags=8, descriptor=b"")]), "another size or CRC behind its data"),
    "another descriptor": (
        lambda: raw_zip([member(flags=8, descriptor=b"PK\7\x08" + bytes(12))]),
        "another size or CRC behind its data",
    ),
    "a name of Info-ZIP": (lambda: raw_zip([member(extra=unicode_path(b"top/evil"))]), "0x7075"),
    "a local name of Info-ZIP": (lambda: raw_zip([member(local_extra=unicode_path(b"top/evil"))]), "0x7075"),
    "a link of ASi": (lambda: raw_zip([member(extra=field_of(0x756E, bytes(18)))]), "0x756e"),
    "a field twice": (lambda: raw_zip([member(extra=field_of(0x5455, b"\0") * 2)]), "repeated"),
    "a field that is cut": (lambda: raw_zip([member(extra=b"\x55\x54\x09\0")]), "damaged"),
    "bytes behind the fields": (lambda: raw_zip([member(extra=b"\0")]), "damaged extra field"),
    "sizes of ZIP64 that nobody needs": (
        lambda: raw_zip([member(extra=field_of(1, struct.pack("<2Q", 1, 1)))]),
        "ZIP64 field",
    ),
    "local sizes of ZIP64 that nobody needs": (
        lambda: raw_zip([member(local_extra=field_of(1, struct.pack("<2Q", len(GOOD), len(GOOD))))]),
        "sizes in its own header",
    ),
    "a symbolic link": (lambda: raw_zip([member(external=0o120777 << 16)]), "no regular file"),
    "a symbolic link of 7-Zip": (
        lambda: raw_zip([member(external=0o120777 << 16 | 0x8000, made_by=20)]),
        "no regular file",
    ),
    "a pipe": (lambda: raw_zip([member(external=0o010644 << 16)]), "no regular file"),
    "a folder by its attributes": (lambda: raw_zip([member(external=0x10, made_by=20)]), "no regular file"),
    "a volume label": (lambda: raw_zip([member(external=0x08, made_by=20)]), "no regular file"),
    "a system of long ago": (lambda: raw_zip([member(made_by=2 << 8)]), "system or version"),
    "an unknown method": (lambda: raw_zip([member(method=14)]), "does not know"),
    "patched data": (lambda: raw_zip([member(flags=0x20)]), "flags"),
    "hidden headers": (lambda: raw_zip([member(flags=0x2000)]), "flags"),
    "a name in an unknown encoding": (lambda: raw_zip([member(b"top/\x82")]), "unknown encoding"),
    "a name that is no UTF-8": (lambda: raw_zip([member(b"top/\xe9", flags=0x800)]), "no name in UTF-8"),
    "encrypted by one field": (lambda: raw_zip([member(method=99)]), "by one of its fields"),
    "encrypted without its flag": (
        lambda: raw_zip([member(method=99, extra=field_of(0x9901, b"\2\0AE\3\0\0"))]),
        "by one of its fields",
    ),
    "some encrypted": (lambda: raw_zip([member(), member(b"top/b", flags=1)]), "some are not"),
    "stored with another size": (lambda: raw_zip([member(size=3)]), "another size than it has"),
    "an empty folder": (lambda: raw_zip([member(), member(b"top/evil/", b"", external=0x10)]), "holds nothing"),
    "a folder with data": (lambda: raw_zip([member(b"top/", EVIL, external=0x10), member()]), "has data"),
    "two end records that disagree": (lambda: with_wide_end(entries=2), "disagree"),
    "a ZIP64 directory elsewhere": (lambda: with_wide_end(start=0), "disagree"),
    "a ZIP64 end record elsewhere": (lambda: with_wide_end(offset=0), "before the locator"),
    "a ZIP64 end record with more": (lambda: with_wide_end(length=60), "longer than its fields"),
    "one part of several": (lambda: raw_zip([member()])[:-18] + b"\1\0" + raw_zip([member()])[-16:], "one part of"),
    "a count that ZIP64 should have": (lambda: raw_zip([member()], count=0xFFFF), "no ZIP64 end record"),
    "a damaged directory": (lambda: raw_zip([member()]).replace(b"PK\1\2", b"PK\1\3"), "directory is damaged"),
    "a damaged local header": (lambda: raw_zip([member()]).replace(b"PK\3\4", b"PK\3\5"), "not where the directory"),
    "a local version of later": (lambda: raw_zip([member()]).replace(b"PK\3\4\x14", b"PK\3\4\x3f"), "of a version"),
    "data that end behind the file": (beyond_the_file, "shorter than its records"),
    "nothing": (lambda: b"", "shorter than its records"),
    "an end record that is cut": (lambda: raw_zip([member()])[:-1], "does not end with its end record"),
}


@pytest.mark.parametrize("what", STRUCTURES)
def test_a_structure_that_programs_could_read_differently_is_refused(what: str, tmp_path: Path) -> None:
    make, problem = STRUCTURES[what]
    with pytest.raises(IntegrityViolation, match=problem):
        read(make(), tmp_path)


@pytest.mark.parametrize("limit", ["_MAX_ENTRIES", "_MAX_DIRECTORY_BYTES"])
def test_more_members_than_a_package_has_are_not_read(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"export_pipelines.archives.zip_structure.{limit}", 10)
    with pytest.raises(IntegrityViolation, match="more than"):
        read(raw_zip([member(f"top/{number}".encode()) for number in range(11)]), tmp_path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"deflate": True, "behind": b"more"}, "bytes behind its data"),
        ({"deflate": True, "size": 3}, "more bytes than it says"),
        ({"deflate": True, "size": 30}, "is cut"),
        ({"method": 8}, "cannot be unpacked|is cut"),
        ({"crc": 1}, "another CRC"),
    ],
)
def test_data_that_are_not_what_the_header_says_are_refused(
    fields: dict[str, object], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityViolation, match=problem):
        read(raw_zip([member(**fields)]), tmp_path)


def test_a_member_of_megabytes_never_gives_more_than_it_says(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(raw_zip([member(data=bytes(50_000_000), deflate=True, size=1000)]))
    (found,) = read_structure(archive)
    pieces = read_member(archive, found)
    taken = 0
    with pytest.raises(IntegrityViolation, match="more bytes than it says"):
        taken += sum(map(len, pieces))
    assert taken <= 1000


# What others make of them, so that nobody loosens a rule that is needed ---------------------------------------------

UNZIP, SEVEN_ZIP = ("unzip", "-o"), ("7z", "x", "-y", "-aoa")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((command, name) for command in (UNZIP, SEVEN_ZIP) for name in ("top/./data/pets.csv", "top//data/pets.csv")),
        (UNZIP, "./top/data/pets.csv"),
        (UNZIP, "/top/data/pets.csv"),
        (UNZIP, "top/data/pets.csv;1"),
    ],
)
def test_other_programs_write_one_file_for_two_names(command: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """The last one, here that of the attacker; who puts the genuine one last cheats Python, which looks up a name."""
    assert extracted(pair(name), tmp_path, *command) == {"top/data/pets.csv": EVIL}
    assert read_by_python(pair(name))["top/data/pets.csv"] == GOOD


def test_python_believes_the_directory_and_unzip_a_field_of_it(tmp_path: Path) -> None:
    content = raw_zip([member(extra=unicode_path(b"top/data/evil.csv"))])
    assert list(read_by_python(content)) == ["top/data/pets.csv"]
    assert list(extracted(content, tmp_path, *UNZIP)) == ["top/data/evil.csv"]


# What this program writes -------------------------------------------------------------------------------------------


def members_of(*sizes: int) -> list[Member]:
    noise = os.urandom(sum(sizes))
    return [
        Member(path=f"data/é{size}.csv", size_bytes=size, content=io.BytesIO(noise[:size]), deflate=size % 2 == 0)
        for size in sizes
    ]


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest.mark.parametrize("wide", [False, True])
def test_what_this_program_writes_is_accepted(
    password: bytes | None, wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wide:
        monkeypatch.setattr("export_pipelines.packaging.archive._WIDE_BYTES", 0)
    archive = tmp_path / "a.zip"
    with archive.open("wb") as sink:
        write_zip(sink, members_of(0, 1, 70_000, 70_001), folder="top", password=password)
    found = read_structure(archive)
    assert [member.size_bytes for member in found] == [0, 1, 70_000, 70_001]
    for each in found:
        assert len(b"".join(read_member(archive, each, password))) == each.size_bytes
        if password is not None:
            with pytest.raises(RequestRejected, match="password"):
                b"".join(read_member(archive, each))


@pytest.mark.parametrize("wide", [False, True])
def test_an_archive_that_hides_another_is_accepted(wide: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if wide:
        monkeypatch.setattr("export_pipelines.packaging.archive._WIDE_BYTES", 0)
    outer, inner = tmp_path / "a.zip", tmp_path / "inner.zip"
    with outer.open("wb") as sink:
        write_hiding_zip(sink, members_of(10, 1000), folder="top", password=PASSWORD, inner_name="package.zip")
    (only,) = read_structure(outer)
    inner.write_bytes(b"".join(read_member(outer, only, PASSWORD)))
    assert [found.name for found in read_structure(inner)] == ["top/data/é10.csv", "top/data/é1000.csv"]


def test_members_far_into_a_large_archive_are_accepted(tmp_path: Path) -> None:
    """A sparse file; what lies between is one stored member, whose CRC nobody computes here."""
    archive = tmp_path / "a.zip"
    far = 5 << 30
    with archive.open("w+b") as sink:
        written = ZipStream(cast("BinaryIO", sink))
        entry = written.stream("top/large", deflate=False, wide=True)
        start = sink.tell()
        entry._entry.stored_bytes = entry._entry.size_bytes = far
        sink.seek(start + far)
        written._offset = start + far
        entry.close()
        written.add("top/far", GOOD)
        written.close()
    large, small = read_structure(archive)
    assert (large.size_bytes, b"".join(read_member(archive, small))) == (far, GOOD)


def test_one_encrypted_after_the_other_scheme_is_left_to_seven_zip(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(raw_zip([member(flags=1)]))
    (only,) = read_structure(tmp_path / "a.zip")
    with pytest.raises(RequestRejected, match="not encrypted with AES-256"):
        b"".join(read_member(tmp_path / "a.zip", only, PASSWORD))


# What others write of the same files --------------------------------------------------------------------------------


def by_python(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(folder.rglob("*")):
            made.write(path, path.relative_to(folder.parent))


def by_python_into_a_pipe(folder: Path, archive: Path) -> None:
    class Pipe(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as made:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with made.open(str(path.relative_to(folder.parent)), "w", force_zip64=True) as entry:
                    entry.write(path.read_bytes())
    archive.write_bytes(pipe.content)


def by_zip(folder: Path, archive: Path) -> None:
    subprocess.run(["zip", "-q", "-r", str(archive), folder.name], cwd=folder.parent, check=True)


def by_seven_zip(folder: Path, archive: Path) -> None:
    subprocess.run(["7z", "a", "-tzip", str(archive), folder.name], cwd=folder.parent, check=True, capture_output=True)


@pytest.mark.parametrize("repack", [by_python, by_python_into_a_pipe, by_zip, by_seven_zip])
def test_an_archive_of_another_program_with_a_plain_layout_is_accepted(
    repack: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "top"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "pets.csv").write_bytes(GOOD * 1000)
    (folder / "README.md").write_bytes(b"read me")
    repack(folder, tmp_path / "made.zip")
    content = (tmp_path / "made.zip").read_bytes()
    assert read(content, tmp_path) == read_by_python(content) == {
        "top/data/pets.csv": GOOD * 1000, "top/README.md": b"read me",
    }  # fmt: skip


def test_an_encrypted_archive_of_seven_zip_is_read_as_a_structure(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a").write_bytes(GOOD)
    arguments = ["7z", "a", "-tzip", "-mem=AES256", f"-p{PASSWORD.decode()}", "made.zip", "top"]
    subprocess.run(arguments, cwd=tmp_path, check=True, capture_output=True)
    assert [found.name for found in read_structure(tmp_path / "made.zip")] == ["top/", "top/a"]


def test_a_cipher_of_one_member_cannot_be_put_before_another(tmp_path: Path) -> None:
    """Names lie outside what is authenticated: of two encrypted members each is read under the other's name."""
    sink = io.BytesIO()
    written = ZipStream(cast("BinaryIO", sink))
    for name, data in (("top/a", GOOD), ("top/b", EVIL)):
        entry = written.stream(name, cipher=WinZipAes(PASSWORD))
        entry.write(data)
        entry.close()
    written.close()
    swapped = sink.getvalue().replace(b"top/a", b"top/x").replace(b"top/b", b"top/a").replace(b"top/x", b"top/b")
    archive = tmp_path / "a.zip"
    archive.write_bytes(swapped)
    found = {each.name: b"".join(read_member(archive, each, PASSWORD)) for each in read_structure(archive)}
    assert found == {"top/b": GOOD, "top/a": EVIL}  # so the manifest's SHA-256 of each file decides
