"""Archives and folders in which `verify` and another program could see different files: `verify` never says valid."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from typer.testing import CliRunner

from export_pipelines.archives.age_writing import age_for_passphrase, age_for_recipients
from export_pipelines.cli import app
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive import Member, write_hiding_zip, write_zip
from export_pipelines.packaging.archive_encryption import INNER_NAME, Keys
from export_pipelines.pipeline.verification import folders as package_folders
from export_pipelines.pipeline.verification.findings import Depth, Verification
from export_pipelines.pipeline.verification.unpacking import opened
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines_tests.lanes import examples
from export_pipelines_tests.raw_zip import Raw, raw_zip
from export_pipelines_tests.tenancy.test_hostile_packages import GOOD, manifest_of, package, write_manifest, zipped

EXAMPLES = int(os.environ.get("EXPORT_TEST_EXAMPLES") or examples(150))  # of each property; many more in `make trials`

EVIL = b"a\r\n0\r\n3\r\n"
PASSWORD = "correct horse battery"
OWNER = pyrage.x25519.Identity.generate()
KEYS = Keys(password=SecretStr(PASSWORD), identities=(OWNER,))
DATA = "top/data/t.csv"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where packages are unpacked."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def verified(path: Path, keys: Keys = KEYS) -> Verification:
    return verify_package(path, find_format, keys=keys, depth=Depth.CHECKSUM)


def members_of(folder: Path) -> list[Raw]:
    """The files of a package, the manifest last, as members."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Raw(name=f"top/{path.relative_to(folder).as_posix()}".encode(), data=path.read_bytes()) for path in paths]


def as_members(folder: Path) -> list[Member]:
    return [
        Member(
            path=path.relative_to(folder).as_posix(),
            size_bytes=path.stat().st_size,
            content=cast("BinaryIO", io.BytesIO(path.read_bytes())),
            deflate=True,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


@pytest.mark.parametrize("name", ["top/./data/t.csv", "top//data/t.csv", "./top/data/t.csv", DATA, "top/data/T.csv"])
@pytest.mark.parametrize("first", [True, False])
def test_an_archive_with_an_attackers_file_of_the_same_place_is_not_valid(
    name: str, first: bool, tmp_path: Path
) -> None:
    """Each program takes the first, the last, or the one whose name it looks up."""
    genuine = members_of(package(tmp_path / "p"))
    evil = Raw(name=DATA.encode(), data=EVIL)
    for member in genuine:
        member.name = name.encode() if member.name == DATA.encode() else member.name
    archive = tmp_path / "p.zip"
    archive.write_bytes(raw_zip([evil, *genuine] if first else [*genuine, evil]))
    done = CliRunner().invoke(app, ["verify", str(archive)])
    assert done.exit_code == 3, done.output
    assert "not an archive that all programs read alike" in done.output


def test_an_archive_between_other_bytes_is_not_valid(tmp_path: Path) -> None:
    good = zipped(package(tmp_path / "good"), tmp_path / "good.zip").read_bytes()
    evil = zipped(package(tmp_path / "evil", EVIL), tmp_path / "evil.zip").read_bytes()
    for content in (evil + good, good + evil, b"#!/bin/sh\n" + good, good + b"\n", good + bytes(70_000), good[:-1]):
        archive = tmp_path / "p.zip"
        archive.write_bytes(content)
        with pytest.raises(IntegrityViolation):
            verified(archive)


# Bounds -------------------------------------------------------------------------------------------------------------


def written(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of all files below the scratch folder when it is removed."""
    sizes: list[int] = []
    remove = shutil.rmtree

    def removing(path: Any, *arguments: Any, **options: Any) -> None:
        sizes.extend(found.stat().st_size for found in scratch.rglob("*") if found.is_file())
        remove(path, *arguments, **options)

    monkeypatch.setattr("tempfile._shutil.rmtree", removing)
    return sizes


@pytest.mark.parametrize("sealed", ["plain", "members", "hidden", "age"])
@pytest.mark.parametrize("what", ["a file more", "a longer file", "a longer file that says it is not"])
def test_nothing_is_written_that_the_manifest_does_not_list(
    sealed: str, what: str, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty megabytes of zeros, deflated to fifty thousand bytes."""
    folder = package(tmp_path / "p")
    bomb = folder / ("more.csv" if what == "a file more" else "data/t.csv")
    bomb.write_bytes(bytes(50_000_000))
    archive = tmp_path / "p.zip"
    sealing = {
        "plain": lambda sink: write_zip(sink, as_members(folder), folder="top"),
        "members": lambda sink: write_zip(sink, as_members(folder), folder="top", password=PASSWORD.encode()),
        "hidden": lambda sink: write_hiding_zip(
            sink, as_members(folder), folder="top", password=PASSWORD.encode(), inner_name=INNER_NAME
        ),
        "age": lambda sink: _sealed_by_age(sink, folder),
    }
    if what == "a longer file that says it is not":
        monkeypatch.setattr("export_pipelines.archives.zip_stream.ZipEntryStream.close", _close_smaller)
    with archive.open("wb") as sink:
        sealing[sealed](sink)
    assert archive.stat().st_size < 200_000
    sizes = written(scratch, monkeypatch)
    with pytest.raises(IntegrityViolation, match=r"not in the manifest|the manifest says|more bytes than it says"):
        verified(archive)
    assert sum(sizes) < 300_000
    assert list(scratch.iterdir()) == []


def _sealed_by_age(sink: BinaryIO, folder: Path) -> None:
    with age_for_recipients(sink, [OWNER.to_public()]) as plain:
        write_zip(plain, as_members(folder), folder="top")


def _close_smaller(stream: Any) -> None:
    entry = stream._entry
    if entry.size_bytes > 10_000_000:
        entry.size_bytes = len(GOOD)
    stream._store(stream._deflate.flush() if stream._deflate is not None else b"")
    if stream._cipher is not None:
        stream._count(stream._cipher.finish())
    stream._put(entry.descriptor)


def test_a_hidden_archive_that_is_deflated_is_not_unpacked(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be decrypted to any size before there is a manifest to ask."""
    archive = tmp_path / "p.zip"
    big = Member(path="x", size_bytes=1, content=cast("BinaryIO", io.BytesIO(bytes(50_000_000))), deflate=True)
    with archive.open("wb") as sink:
        write_zip(sink, [big], folder="top", password=PASSWORD.encode())
    archive.write_bytes(archive.read_bytes().replace(b"top/x", INNER_NAME.encode()[:5]))
    monkeypatch.setattr("export_pipelines.packaging.archive_encryption.INNER_NAME", INNER_NAME[:5])
    sizes = written(scratch, monkeypatch)
    with pytest.raises(IntegrityViolation, match="deflated"):
        verified(archive)
    assert sum(sizes) == 0


@pytest.mark.parametrize("behind", [b"x", b"PK\x05\x06" + bytes(18), bytes(70_000)], ids=["x", "end", "much"])
@pytest.mark.parametrize("length", [100, 64 * 1024])
def test_bytes_behind_an_age_file_are_refused_as_age_refuses_them(behind: bytes, length: int, tmp_path: Path) -> None:
    sealed, key = tmp_path / "p.zip.age", tmp_path / "key"
    recipients = [pyrage.x25519.Identity.generate().to_public(), OWNER.to_public()]
    with sealed.open("wb") as sink:
        with age_for_recipients(sink, recipients) as plain:
            plain.write(os.urandom(length))
        sink.write(behind)
    key.write_text(f"{OWNER}\n")
    assert subprocess.run(["age", "-d", "-i", key, sealed], capture_output=True, check=False).returncode == 1
    with pytest.raises(IntegrityViolation, match="was changed or cut"):
        verified(sealed)


def test_bytes_behind_an_age_file_for_a_passphrase_are_refused(tmp_path: Path) -> None:
    sealed = tmp_path / "p.zip.age"
    with sealed.open("wb") as sink:
        with age_for_passphrase(sink, PASSWORD.encode()) as plain:
            plain.write(os.urandom(64 * 1024))
        sink.write(b"x")
    with pytest.raises(IntegrityViolation, match="was changed or cut"):
        verified(sealed)


# Any change of the structure ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Local headers, data, descriptors, records of the directory, the end record: of a good archive, in order."""
    folder = package(tmp_path_factory.mktemp("pieces") / "p")
    (folder / "README.md").write_bytes(b"read me" * 100)
    write_manifest(folder, manifest_of(folder, "data/t.csv"))
    return _pieces(folder)


def _pieces(folder: Path) -> list[bytes]:
    sink = io.BytesIO()
    write_zip(cast("BinaryIO", sink), as_members(folder), folder="top")
    content = sink.getvalue()
    with zipfile.ZipFile(sink) as archive:
        entries, start = archive.infolist(), archive.start_dir
    cuts = {0, start, len(content) - 22, len(content)}
    record = start
    for entry in entries:
        data = entry.header_offset + 30 + len(entry.filename)
        cuts |= {entry.header_offset, data, data + entry.compress_size, record}
        record += 46 + len(entry.filename)
    places = sorted(cuts)
    return [content[one:other] for one, other in pairwise(places)]


def _evil_pieces() -> list[bytes]:
    evil = Raw(name=DATA.encode(), data=EVIL)
    other = Raw(name=b"top/data/./t.csv", data=EVIL, deflate=True)
    return [
        evil.local() + evil.stored,
        evil.record(0),
        other.local() + other.stored,
        b"PK\7\x08",
        raw_zip([evil]),
        b"x",
    ]


def _repaired(content: bytes) -> bytes:
    """The end record counts what there is now, so that a change goes further than the first check."""
    start, end = content.find(b"PK\1\2"), content.rfind(b"PK\5\6")
    if not 0 <= start < end:
        return content
    count = content.count(b"PK\1\2", start, end)
    fields = count.to_bytes(2, "little") * 2 + (end - start).to_bytes(4, "little") + start.to_bytes(4, "little")
    return content[: end + 8] + fields + content[end + 20 :]


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "drop", "double", "swap", "flip", "replace"]),
        st.integers(0, 40),
        st.integers(0, 40),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=3,
)


def _changed(pieces: list[bytes], changes: list[tuple[str, int, int, int]]) -> bytes:
    pieces, evil = [*pieces], _evil_pieces()
    for kind, one, other, value in changes:
        here, there = one % len(pieces), other % len(pieces)
        match kind:
            case "insert":
                pieces.insert(here, evil[other % len(evil)])
            case "replace":
                pieces[here] = evil[other % len(evil)]
            case "drop" if len(pieces) > 1:
                del pieces[here]
            case "double":
                pieces.insert(there, pieces[here])
            case "swap":
                pieces[here], pieces[there] = pieces[there], pieces[here]
            case "flip" if pieces[here]:
                piece = bytearray(pieces[here])
                piece[other % len(piece)] ^= value
                pieces[here] = bytes(piece)
    return b"".join(pieces)


@settings(max_examples=EXAMPLES, deadline=None)
@given(changes=CHANGES, repair=st.booleans())
def test_a_changed_archive_is_never_valid_where_python_reads_other_files(
    pieces: list[bytes], changes: list[tuple[str, int, int, int]], repair: bool
) -> None:
    changed = _changed(pieces, changes)
    content = _repaired(changed) if repair else changed
    if _is_valid(content):
        assert _read_by_python(content) == _read_by_python(b"".join(pieces))


ADDED = st.tuples(
    st.sampled_from([DATA, "top/./data/t.csv", "top/data/T.csv", "top/data/t.csv/x", "top/data", "t.csv", "top/x"]),
    st.integers(0, 3),
    st.sampled_from([GOOD, EVIL, b""]),
    st.booleans(),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    added=st.lists(ADDED, max_size=2),
    renamed=st.sampled_from([DATA, "top/./data/t.csv", "top//data/t.csv", "./top/data/t.csv", "top/data/t.csv "]),
    gap=st.sampled_from([b"", b"", b"PK\3\4"]),
    backwards=st.booleans(),
)
def test_an_archive_of_other_members_is_never_valid_where_python_reads_other_files(
    genuine: list[tuple[str, bytes]],
    added: list[tuple[str, int, bytes, bool]],
    renamed: str,
    gap: bytes,
    backwards: bool,
) -> None:
    """Sound headers and offsets throughout; names, order and what is listed vary."""
    members = [Raw(name=(renamed if name == DATA else name).encode(), data=data) for name, data in genuine]
    for name, place, data, listed in added:
        members.insert(place, Raw(name=name.encode(), data=data, deflate=True, listed=listed))
    members[-1].before = gap
    content = raw_zip(members[::-1] if backwards else members)
    if _is_valid(content):
        assert _read_by_python(content) == dict(genuine)


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    folder = package(tmp_path_factory.mktemp("genuine") / "p")
    return [(member.name.decode(), member.data) for member in members_of(folder)]


def _is_valid(content: bytes) -> bool:
    with tempfile.TemporaryDirectory() as place:
        archive = Path(place, "p.zip")
        archive.write_bytes(content)
        try:
            return verified(archive).valid
        except ExportError:
            return False


def _read_by_python(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


# Manifests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "data/../../evil", "/etc/passwd", "data//t2.csv", "./t2.csv", "data\\t2.csv", "C:t2.csv", "data/T.csv",
        "data/t.csv.", "data/t.csv/x", "data", "DATA/t2.csv", "data/t.csv;1", "manifest.json", "Manifest.JSON",
        "manifest.json/x", "data/t\n2.csv", "data/t\u202e.csv", "", "data/" + "x" * 300, "data/t.csv::$DATA",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_manifest_with_a_path_that_programs_read_differently_is_refused(path: str, form: str, tmp_path: Path) -> None:
    folder = package(tmp_path / "p")
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"].append({"path": path, "size_bytes": 0, "sha256": hashlib.sha256().hexdigest()})
    write_manifest(folder, manifest)
    given_path = folder if form == "folder" else zipped(folder, tmp_path / "p.zip")
    with pytest.raises((IntegrityViolation, RequestRejected), match=r"programs do not read alike|is not a manifest"):
        verified(given_path)


@pytest.mark.parametrize("path", ["../p.zip.age", "x/p.zip.age", "manifest.json", "p:zip"])
def test_an_encrypted_archive_lies_beside_its_manifest(path: str, tmp_path: Path) -> None:
    content = {"path": path, "method": "age", "size_bytes": 0, "sha256": hashlib.sha256().hexdigest()}
    write_manifest(tmp_path, {"manifest_version": 1, "export": {"id": "x"}, "sealed": content})
    try:
        assert verified(tmp_path).problems
    except IntegrityViolation as error:
        assert "programs do not read alike" in str(error)  # noqa: PT017 - either is a verdict


def test_checksums_of_other_files_than_the_manifests_are_a_problem(tmp_path: Path) -> None:
    folder = package(tmp_path / "p")
    digest = hashlib.sha256(GOOD).hexdigest()
    for line in (f"{digest}  ./data/t.csv\n", f"{digest}  data//t.csv\n", f"{digest} *data/t.csv\n"):
        (folder / CHECKSUMS).write_text(line)
        manifest = manifest_of(folder, "data/t.csv")
        entry = {"path": CHECKSUMS, "size_bytes": len(line), "sha256": hashlib.sha256(line.encode()).hexdigest()}
        write_manifest(folder, {**manifest, "files": [*manifest["files"], entry]})
        assert verified(folder).problems == [f"{CHECKSUMS} and the manifest disagree"]


# Folders ------------------------------------------------------------------------------------------------------------


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "data" / "pipe")


def _pipe_for_a_file(folder: Path) -> None:
    (folder / "data/t.csv").unlink()
    os.mkfifo(folder / "data/t.csv")


def _socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s"))


def _link_to_a_folder(folder: Path) -> None:
    (folder / "data").rename(folder.parent / "data")
    (folder / "data").symlink_to(folder.parent / "data")


def _other_spelling(folder: Path) -> None:
    (folder / "data" / unicodedata.normalize("NFD", "é")).write_bytes(EVIL)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (_pipe, "data/pipe is a pipe or a device and no file"),
    "a pipe for a file": (_pipe_for_a_file, "data/t.csv is a pipe or a device and no file"),
    "a socket": (_socket, "s is a pipe or a device and no file"),
    "a link to a folder": (_link_to_a_folder, "data is a symbolic link"),
    "a link that leads nowhere": (lambda f: (f / "x").symlink_to("nowhere"), "x is a symbolic link"),
    "a link to itself": (lambda f: (f / "x").symlink_to("x"), "x is a symbolic link"),
    "a file of other case": (lambda f: (f / "data/T.csv").write_bytes(EVIL), "data/T.csv is not in the manifest"),
    "a file of other spelling": (_other_spelling, "is not in the manifest"),
    "a hidden file": (lambda f: (f / ".psqlrc").write_bytes(b""), ".psqlrc is not in the manifest"),
    "an empty folder": (lambda f: (f / "DATA").mkdir(), "DATA is not in the manifest"),
    "a name that is no text": (lambda f: (f / os.fsdecode(b"\xff")).touch(), "udcff is not in the manifest"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", FOLDERS)
def test_what_is_no_file_of_the_manifest_is_a_problem_and_never_opened(what: str, tmp_path: Path) -> None:
    change, problem = FOLDERS[what]
    folder = package(tmp_path / "p")
    change(folder)
    done = CliRunner().invoke(app, ["verify", str(folder)])
    assert done.exit_code == 3, done.output
    assert problem in done.output


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [MANIFEST, "p.zip", "p.zip.age"])
def test_a_pipe_for_a_package_is_none(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(RequestRejected):
        verified(tmp_path / name)
    with pytest.raises(RequestRejected):
        verified(tmp_path)


def test_a_manifest_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    folder = package(tmp_path / "p")
    (folder / MANIFEST).rename(tmp_path / "elsewhere")
    (folder / MANIFEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityViolation, match="content is elsewhere"):
        verified(folder)


def test_a_published_archive_that_is_a_link_or_a_folder_is_a_problem(tmp_path: Path) -> None:
    inner = package(tmp_path / "inner")
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(inner / MANIFEST, published)
    zipped(inner, tmp_path / "export.zip")
    (published / "export.zip").symlink_to(tmp_path / "export.zip")
    assert any("symbolic link" in problem for problem in verified(published).problems)
    (published / "export.zip").unlink()
    shutil.copytree(inner, published / "export.zip")
    assert any("not in the manifest" in problem for problem in verified(published).problems)


def test_a_folder_without_end_is_not_walked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "p")
    monkeypatch.setattr(package_folders, "_MAX_ENTRIES", 100)
    for number in range(101):
        (folder / f"{number}").touch()
    with pytest.raises(IntegrityViolation, match="more than 100 files and folders"):
        verified(folder)


def test_what_is_restored_from_is_a_file_and_no_link(tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    inner = package(tmp_path / "inner")
    shutil.copy(inner / MANIFEST, published)
    zipped(inner, tmp_path / "export.zip")
    (published / "export.zip").symlink_to(tmp_path / "export.zip")
    with opened(published, Keys()) as folder:
        assert folder == published
