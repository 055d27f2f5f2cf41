"""Packages from strangers: `verify` says what is wrong with them, and does nothing else that they want."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from export_pipelines.cli import app
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.naming import CHECKSUMS, MANIFEST
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.pipeline.verification import unpacking
from export_pipelines.pipeline.verification.verify import verify_package

Manifest = dict[str, Any]
COLUMN = {"name": "a", "type": "integer", "kind": "integer", "nullable": True}
NOTHING_LEFT_OUT = {
    "table": "t",
    "exported_rows": {"rows": 2},
    "all_rows": {"rows": 2},
    "deleted": None,
    "window": None,
    "filters": {},
    "columns": [],
}
GOOD = b"a\r\n1\r\n2\r\n"


def manifest_of(folder: Path, data: str, format_name: str = "csv") -> Manifest:
    """A manifest that describes one table of two rows in ``data``."""
    part = {"table": "t", "rows": 2}
    files = [
        {
            "path": path.relative_to(folder).as_posix(),
            "media_type": "x",
            "size_bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "rows": 0,
            "parts": [part] if path.relative_to(folder).as_posix() == data else [],
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, CHECKSUMS)
    ]
    figures = {"a": {"non_null": 2, "total": "3"}}
    table = {"name": "t", "rows": 2, "columns": [COLUMN], "aggregates": figures, "left_out": NOTHING_LEFT_OUT}
    return {
        "left_out": {"other_tables": [], "compared_with_database": True},
        "manifest_version": 1,
        "export": {"id": "x"},
        "format": {"name": format_name},
        "tables": [table],
        "files": files,
    }


def package(folder: Path, data: bytes = GOOD, name: str = "data/t.csv", format_name: str = "csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    write_manifest(folder, manifest_of(folder, name, format_name))
    return folder


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def zipped(folder: Path, target: Path, top: str = "top") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, f"{top}/{path.relative_to(folder).as_posix()}")
    return target


def problems(path: Path) -> list[str]:
    return verify_package(path, find_format).problems


def test_the_made_up_package_is_valid_before_it_is_made_hostile(tmp_path: Path) -> None:
    folder = package(tmp_path / "p")
    assert problems(folder) == []
    assert problems(zipped(folder, tmp_path / "p.zip")) == []


BROKEN: dict[str, Callable[[Manifest], Any]] = {
    "a list": lambda _: [],
    "null": lambda _: None,
    "no tables": lambda m: {key: value for key, value in m.items() if key != "tables"},
    "tables of text": lambda m: m | {"tables": "t"},
    "files as an object": lambda m: m | {"files": {"path": "x"}},
    "a file without a checksum": lambda m: m | {"files": [{"path": "data/t.csv", "size_bytes": 1}]},
    "a file twice": lambda m: m | {"files": m["files"] * 2},
    "a table twice": lambda m: m | {"tables": m["tables"] * 2},
    "rows of an unknown table": lambda m: m | {"files": [m["files"][0] | {"parts": [{"table": "other", "rows": 1}]}]},
    "figures of nothing": lambda m: m | {"tables": [m["tables"][0] | {"aggregates": {}}]},
    "a type as long as a book": lambda m: (
        m | {"tables": [m["tables"][0] | {"columns": [COLUMN | {"type": "(" * 10**6}]}]}
    ),
    "a route without end": lambda m: (
        m | {"files": [m["files"][0] | {"parts": [{"table": "t", "rows": 1, "route": ["a"] * 10**5}]}]}
    ),
    "rows below zero": lambda m: m | {"tables": [m["tables"][0] | {"rows": -1}]},
    "a format that is code": lambda m: m | {"format": {"name": "../../os"}},
}


@pytest.mark.parametrize("forge", BROKEN.values(), ids=BROKEN)
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, forge: Callable[[Manifest], Any]) -> None:
    folder = package(tmp_path)
    write_manifest(folder, forge(json.loads((folder / MANIFEST).read_bytes())))
    with pytest.raises(RequestRejected):
        problems(folder)


@pytest.mark.parametrize("content", [b"[" * 10**6, b'{"a":' * 10**6, b"1" * 10**6, b"\xff\xfe", b"", b"NaN"])
def test_json_that_breaks_parsers_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = package(tmp_path)
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(RequestRejected, match="is not a manifest"):
        problems(folder)


@pytest.mark.parametrize(
    "kind", ["numeric(0,0)", "numeric(99999,5)", "numeric(-1)", "numeric(38,39)", "x'; --", "[]", "("]
)
def test_made_up_types_give_a_verdict(tmp_path: Path, kind: str) -> None:
    folder = package(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["tables"][0]["columns"][0]["type"] = kind
    write_manifest(folder, manifest)
    try:
        assert problems(folder)
    except ExportError as error:
        assert not isinstance(error, Unavailable)  # noqa: PT017 - either is a verdict


GARBAGE = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00\x01" * 100,
    "an open quote": b'"' * 1000,
    "deep": b'{"a":' + b"[" * 50_000,
    "an archive of nothing": b"PK\x05\x06" + b"\0" * 18,
    "a Parquet of nothing": b"PAR1PAR1",
    "entities": b'<?xml version="1.0"?><!DOCTYPE t [<!ENTITY e SYSTEM "file:///etc/passwd">]><t><row><a>&e;</a></row></t>',
    "a header of a megabyte": b"a" * 1_000_000,
}


@pytest.mark.parametrize("format_name", list(all_formats()))
@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_with_correct_checksums_gives_a_verdict(tmp_path: Path, format_name: str, content: bytes) -> None:
    folder = package(tmp_path, content, f"data/t.{format_name}", format_name)
    found = " ".join(problems(folder))
    assert found
    assert "root:" not in found


@pytest.mark.parametrize(
    "content", [b"\x1f\x8b", gzip.compress(GOOD, mtime=0)[:-9], b"plain"], ids=["mark", "cut", "plain"]
)
def test_a_broken_gzip_file_gives_a_verdict(tmp_path: Path, content: bytes) -> None:
    [found] = problems(package(tmp_path, content, "data/t.csv.gz"))
    assert "not a whole gzip file" in found


def test_a_gzip_file_that_would_fill_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path, gzip.compress(b"a\r\n" + b"1\r\n" * 3_000_000), "data/t.csv.gz")
    monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: 4_000_000)
    with pytest.raises(Unavailable, match="has room for"):
        problems(folder)


def test_an_archive_that_would_fill_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zipped(package(tmp_path / "p", b"0" * 20_000_000), tmp_path / "p.zip")
    assert bomb.stat().st_size < 100_000
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    written: list[Path] = []
    monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: 10_000_000)
    monkeypatch.setattr(unpacking, "_write", lambda target, _pieces: written.append(target))
    with pytest.raises(Unavailable, match="has room for"):
        problems(bomb)
    assert written == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("part", ["docProps/custom.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels"])
def test_a_workbook_that_unpacks_to_more_than_memory_is_not_unpacked(tmp_path: Path, part: str) -> None:
    book = io.BytesIO()
    with zipfile.ZipFile(book, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("docProps/custom.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels"):
            archive.writestr(name, b"<a>" + b" " * (17 << 20 if name == part else 1) + b"</a>")
    folder = package(tmp_path, book.getvalue(), "data/t.xlsx", "xlsx")
    [found] = problems(folder)
    assert "too large" in found


def test_an_archive_inside_an_archive_is_not_opened(tmp_path: Path) -> None:
    inner = package(tmp_path / "inner")
    outer = tmp_path / "outer"
    outer.mkdir()
    shutil.copy(inner / MANIFEST, outer)
    zipped(inner, outer / "again.zip")
    with pytest.raises(IntegrityViolation, match=r"again\.zip is not in the manifest"):
        problems(zipped(outer, tmp_path / "outer.zip"))


def test_what_lies_beside_an_archive_is_not_covered_by_it(tmp_path: Path) -> None:
    inner = package(tmp_path / "inner")
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(inner / MANIFEST, published)
    zipped(inner, published / "export.zip")
    assert problems(published) == []
    (published / "setup.exe").write_bytes(b"MZ")
    assert problems(published) == ["setup.exe is not part of the package"]


MEMBERS = {
    "climbs out": ["top/../../evil"],
    "absolute": ["/evil"],
    "for Windows": ["top\\..\\evil"],
    "twice": ["top/data/t.csv"],
    "beside the folder": ["evil.exe"],
    "in another folder": ["other/evil.exe"],
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", MEMBERS.values(), ids=MEMBERS)
def test_an_archive_in_which_others_would_find_other_files_is_refused(tmp_path: Path, names: list[str]) -> None:
    archive = zipped(package(tmp_path / "p"), tmp_path / "p.zip")
    with zipfile.ZipFile(archive, "a") as more:
        for name in names:
            more.writestr(name, b"a\r\n8\r\n9\r\n")
    with pytest.raises(IntegrityViolation):
        problems(archive)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("flag", ["encrypted", "unknown method", "cut"])
def test_an_archive_that_cannot_be_read_is_refused(tmp_path: Path, flag: str) -> None:
    archive = zipped(package(tmp_path / "p"), tmp_path / "p.zip")
    content = bytearray(archive.read_bytes())
    if flag == "cut":
        content = content[20:]
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while flag != "cut" and start >= 0:
            content[start + offset + (2 if flag == "unknown method" else 0)] = 77 if flag == "unknown method" else 1
            start = content.find(signature, start + 1)
    archive.write_bytes(content)
    with pytest.raises(RequestRejected if flag == "encrypted" else IntegrityViolation):
        problems(archive)


@pytest.mark.parametrize("name", ["data/t.csv", "README.md"])
def test_a_file_that_is_a_link_to_elsewhere_is_not_read(tmp_path: Path, name: str) -> None:
    folder = package(tmp_path / "p")
    (folder / "README.md").write_bytes(b"read me")
    write_manifest(folder, manifest_of(folder, "data/t.csv"))
    assert problems(folder) == []
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert problems(folder) == [f"{name} is a symbolic link, its content is elsewhere"]


def test_a_parquet_file_with_an_asterisk_stands_for_itself(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = tmp_path / "p" / "x=1"
    data.mkdir(parents=True)
    for name, values in (("other.parquet", [8, 9]), ("*.parquet", [1, 2])):
        pq.write_table(pa.table({"a": pa.array(values, pa.int32())}), data / name)
    content = (data / "*.parquet").read_bytes()
    folder = package(tmp_path / "p", content, "x=1/*.parquet", "parquet")
    assert problems(folder) == []


@pytest.mark.parametrize("name", ["[/x]", "\x1b]0;mine\x07", "\\[/x]\nVALID: forged"])
def test_names_in_a_package_do_not_speak_to_the_terminal(tmp_path: Path, name: str) -> None:
    folder = package(tmp_path)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["export"]["id"] = name
    manifest["files"].append(manifest["files"][0] | {"path": name})
    write_manifest(folder, manifest)
    done = CliRunner().invoke(app, ["verify", str(folder)])
    assert done.exit_code == 3, done.output
    said = io.StringIO(done.output).getvalue()
    assert not any(char in said for char in "\x1b\x07")
    assert "\nVALID" not in said
