"""`validate` of a package whose objects somebody else has changed in the store: what it fetches, and what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.ports import ObjectStore
from export_pipelines.formats.registry import find_format
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.s3 import S3Store
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.pipeline.verification import published as inspection
from export_pipelines.pipeline.verification.findings import Depth, Verification
from export_pipelines.pipeline.verification.published import inspect_package
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.tenancy.test_hostile_packages import package, zipped

PREFIX = "exports/t/full/2026/01/01/x"


class Watched(LocalStore):
    """Notes what is fetched."""

    fetched: list[str]

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        self.fetched.append(key.removeprefix(f"{PREFIX}/"))
        with super().local(key) as path:
            yield path


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    made = Watched(tmp_path / "objects")
    made.fetched = []
    return made


def published(store: ObjectStore, folder: Path) -> ExportRequest:
    """The folder's files as a completed export; of its row only what an inspection reads."""
    size = 0
    for path in sorted(found for found in folder.rglob("*") if found.is_file()):
        put(store, path.relative_to(folder).as_posix(), path.read_bytes())
        size += path.stat().st_size
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    row: dict[str, Any] = dict.fromkeys(field.name for field in fields(ExportRequest))
    return ExportRequest(
        **{**row, "id": "x", "package_prefix": PREFIX, "manifest_sha256": digest, "package_bytes": size}
    )


def put(store: ObjectStore, name: str, content: bytes) -> None:
    with store.writing(f"{PREFIX}/{name}") as sink:
        sink.write(content)


def inspected(export: ExportRequest, store: ObjectStore, scratch: Path) -> Verification:
    found = inspect_package(
        export, store, find_format, trusted={}, depth=Depth.CHECKSUM, sample_rows=0, keys=Keys(), scratch=scratch
    )
    assert list(scratch.iterdir()) == []
    return found


def test_nothing_is_fetched_that_the_manifest_does_not_list(store: Watched, tmp_path: Path) -> None:
    export = published(store, package(tmp_path / "p"))
    assert inspected(export, store, tmp_path / "scratch").problems == []
    assert store.fetched == [MANIFEST, "data/t.csv"]
    store.fetched.clear()
    put(store, "data/T.csv", bytes(5_000_000))
    put(store, "data/t.csv", bytes(5_000_000))
    assert inspected(export, store, tmp_path / "scratch").problems == [
        "data/T.csv is not in the manifest",
        "data/t.csv has 5000000 bytes, the manifest says 9",
    ]
    assert store.fetched == [MANIFEST]


def test_no_more_is_fetched_than_was_published(store: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the manifest was changed, and of an archive, of which the manifest lists only the content."""
    monkeypatch.setattr(inspection, "MAX_BYTES", 100_000)
    export = published(store, package(tmp_path / "p"))
    published(store, package(tmp_path / "other", b"a\r\n" + bytes(1_000_000)))
    found = inspected(export, store, tmp_path / "scratch")
    assert found.problems == [
        "data/t.csv is larger than the package that was published",
        "manifest.json is not the one that was published",
    ]
    assert store.fetched == [MANIFEST]


def test_a_published_archive_is_fetched_alone_and_bounded(
    store: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MAX_BYTES", 100_000)
    folder, outer = package(tmp_path / "p"), tmp_path / "outer"
    outer.mkdir()
    zipped(folder, outer / "export.zip")
    (outer / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())
    export = published(store, outer)
    assert inspected(export, store, tmp_path / "scratch").problems == []
    put(store, "more/export.zip", b"PK")
    assert inspected(export, store, tmp_path / "scratch").problems == ["more/export.zip is not part of the package"]
    put(store, "export.zip", bytes(5_000_000))
    store.fetched.clear()
    assert "export.zip is larger than the package that was published" in (
        inspected(export, store, tmp_path / "scratch").problems
    )
    assert store.fetched == [MANIFEST]


def test_more_objects_than_a_package_has_are_not_listed_to_the_end(
    store: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = published(store, package(tmp_path / "p"))
    monkeypatch.setattr(inspection, "MAX_FILES", 10)
    for number in range(12):
        put(store, f"{number}", b"")
    assert "the package has more than 10 objects" in inspected(export, store, tmp_path / "scratch").problems[0]
    assert store.fetched == []


def test_keys_that_no_folder_can_hold_are_problems_and_are_not_fetched(
    s3_api: Any, s3_bucket: str, tmp_path: Path
) -> None:
    store = S3Store(s3_api, s3_bucket)
    export = published(store, package(tmp_path / "p"))
    assert inspected(export, store, tmp_path / "scratch").problems == []
    names = ["/data/t.csv", "data//t.csv", "data/t.csv/more", "data/", "DATA/t.csv", str(tmp_path / "evil"), "data/;"]
    for name in names:
        s3_api.put_object(Bucket=s3_bucket, Key=f"{PREFIX}/{name}", Body=b"")
    found = inspected(export, store, tmp_path / "scratch")
    assert sorted(found.problems) == sorted(f"{name} is not in the manifest" for name in names)
    assert not (tmp_path / "evil").exists()
