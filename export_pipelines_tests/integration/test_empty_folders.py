"""A folder store is left without empty folders: by moves, by deletes, by writes that failed, and by the sweep."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest

from export_pipelines.object_stores.local import LocalStore

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def put(store: LocalStore, *keys: str) -> None:
    for key in keys:
        with store.writing(key) as sink:
            sink.write(b"x")


def listing(folder: Path) -> set[str]:
    """Files and folders."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def aged(folder: Path, days: float = 2) -> None:
    at = (NOW - days * DAY).timestamp()
    for path in folder.rglob("*"):
        os.utime(path, (at, at))


def test_what_is_moved_away_leaves_no_folder(store: LocalStore, tmp_path: Path) -> None:
    put(store, "stage/r/1/package/a", "stage/r/1/package/b")
    store.move("stage/r/1/package/a", "exports/t/a")
    assert "stage/r/1/package/b" in listing(tmp_path)
    store.move("stage/r/1/package/b", "exports/t/b")
    assert listing(tmp_path) == {"exports", "exports/t", "exports/t/a", "exports/t/b"}


def test_what_is_deleted_leaves_no_folder(store: LocalStore, tmp_path: Path) -> None:
    put(store, "exports/t/2026/01/02/r/a", "exports/t/2026/01/03/r/a")
    store.delete("exports/t/2026/01/02/r")
    assert "exports/t/2026/01/02" not in listing(tmp_path)
    store.delete("exports/t/2026/01/03/r/a")
    assert listing(tmp_path) == set()


def test_a_write_that_fails_leaves_no_folder(store: LocalStore, tmp_path: Path) -> None:
    def fail() -> None:
        with store.writing("stage/r/1/a") as sink:
            sink.write(b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert listing(tmp_path) == set()


@pytest.mark.parametrize("area", ["stage", "stage/lake", "lake/clinic/pets", "exports/t/selective", "canonical/t"])
def test_the_sweep_takes_old_empty_folders_and_nothing_else(area: str, store: LocalStore, tmp_path: Path) -> None:
    put(store, f"{area}/full/a", "notes.txt")
    (tmp_path / area / "one" / "two" / "three").mkdir(parents=True)
    (tmp_path / area / "one" / "four").mkdir()
    (tmp_path / "others" / "own").mkdir(parents=True)
    aged(tmp_path)
    top = area.partition("/")[0]
    before = listing(tmp_path)
    assert store.drop_unfinished(top, before=NOW - DAY, dry_run=True).items == 0
    assert listing(tmp_path) == before
    assert store.drop_unfinished(top, before=NOW - DAY).items == 0
    gone = {f"{area}/{name}" for name in ("one", "one/two", "one/two/three", "one/four")}
    assert listing(tmp_path) == before - gone


def test_a_folder_in_which_something_changed_lately_stays(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "stage" / "old" / "new").mkdir(parents=True)
    aged(tmp_path)
    (tmp_path / "stage" / "old" / "new").touch()
    store.drop_unfinished("stage", before=NOW - DAY)
    assert listing(tmp_path) == {"stage", "stage/old", "stage/old/new"}


def test_the_stores_own_folder_stays_however_empty(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    aged(tmp_path)
    os.utime(tmp_path, (0, 0))
    store.drop_unfinished("", before=NOW - DAY)
    assert tmp_path.is_dir()
    assert listing(tmp_path) == set()


def test_links_are_not_followed(store: LocalStore, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "empty").mkdir()
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "link").symlink_to(elsewhere)
    aged(elsewhere)
    store.drop_unfinished("stage", before=NOW + DAY)
    assert (elsewhere / "empty").is_dir()
