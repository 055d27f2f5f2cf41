"""Take away what nobody needs any more and nobody took away: leftovers of killed processes and given up attempts.

`export_pipelines.core.retention` has the rule. Folders are looked at one after another, never all at once; each is
judged again under the lock that publishing holds before anything in it goes, so an export that completes meanwhile is
safe. Sweeping can be killed at any point and run again, or twice at a time.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from export_pipelines.core.naming import (
    Area,
    RequestFolder,
    lake_run,
    lake_stage_prefix,
    probe_prefix,
    request_folder,
)
from export_pipelines.core.ports import Freed, StoredObject
from export_pipelines.core.retention import Patience, is_leftover
from export_pipelines.pipeline.lake.generations import retire_all
from export_pipelines.pipeline.publish.removal import clear_package, publishing
from export_pipelines.pipeline.services import ExportServices

_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)
_ASKED_AT_ONCE = 500  # folders of whose requests the database is asked together


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of the store: what it holds, and when that was written last."""

    prefix: str
    size_bytes: int
    newest_at: dt.datetime


@dataclass(kw_only=True)
class Swept:
    """What was, or would be, taken away: objects by area, the rest by kind."""

    dry_run: bool
    freed: dict[str, Freed] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, what: str, freed: Freed) -> None:
        self.freed[what] = self.freed.get(what, Freed()) + freed

    @property
    def size_bytes(self) -> int:
        return sum(freed.size_bytes for freed in self.freed.values())

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "size_bytes": self.size_bytes}


def sweep(
    services: ExportServices, *, now: dt.datetime, at_work: Callable[[str], bool], dry_run: bool = False
) -> Swept:
    """Everything below; ``at_work`` says whether a run of Dagster still writes into the lake's stage."""
    patience = Patience(now=now, grace=services.settings.sweep_after, keep=services.settings.keep)
    swept = Swept(dry_run=dry_run)
    for area in (Area.STAGE, Area.CANONICAL, Area.EXPORTS):
        swept.add(area, _request_folders(area, services, patience, dry_run=dry_run))
    swept.add("stage of the lake", _lake_stage(services, patience, at_work, dry_run=dry_run))
    swept.add("probes", _probes(services, patience, dry_run=dry_run))
    for area in Area:
        unfinished = services.store.drop_unfinished(area, before=patience.before, dry_run=dry_run)
        swept.add("unfinished writes", unfinished)
    past = retire_all(services.catalog, services.store, services.lake_retention, now=now, dry_run=dry_run)
    swept.add("past of the lake", past)
    swept.add("scratch", sweep_folder(services.settings.scratch, before=patience.before, dry_run=dry_run))
    swept.rows = services.retention.forget(dry_run=dry_run)
    return swept


def sweep_folder(
    folder: Path, *, before: dt.datetime, dry_run: bool, needed: Callable[[str], bool] = lambda _name: False
) -> Freed:
    """Entries of a local folder in which nothing was written since ``before``, but those whose name is needed."""
    freed = Freed()
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        size_bytes, newest_at = _of_entry(entry)
        if newest_at < before and not needed(entry.name):
            freed += Freed(items=1, size_bytes=size_bytes)
            if not dry_run:
                _remove(entry)
    return freed


def _request_folders(area: Area, services: ExportServices, patience: Patience, *, dry_run: bool) -> Freed:
    freed = Freed()
    quiet = (
        (owner, folder)
        for folder in _folders(services.store.scan(area), _prefix_of_request)
        if folder.newest_at <= patience.before and (owner := request_folder(f"{folder.prefix}/")) is not None
    )
    while some := list(islice(quiet, _ASKED_AT_ONCE)):
        holders = services.retention.holders({owner.request_id for owner, _ in some})
        for owner, folder in some:
            if is_leftover(owner, holders.get(owner.request_id), folder.newest_at, patience) and (
                dry_run or _removed(owner, folder, services, patience)
            ):
                freed += Freed(items=1, size_bytes=folder.size_bytes)
    return freed


def _removed(owner: RequestFolder, folder: Folder, services: ExportServices, patience: Patience) -> bool:
    """Whether it was a leftover still, once nobody could publish any more."""
    with services.exclusively(publishing(owner.request_id)):
        holder = services.retention.holders([owner.request_id]).get(owner.request_id)
        if not is_leftover(owner, holder, folder.newest_at, patience):
            return False
        clear_package(folder.prefix, services.store)
    return True


def _lake_stage(
    services: ExportServices, patience: Patience, at_work: Callable[[str], bool], *, dry_run: bool
) -> Freed:
    freed = Freed()
    for folder in _folders(services.store.scan(lake_stage_prefix()), _prefix_of_run):
        run_id = lake_run(f"{folder.prefix}/")
        if run_id is not None and folder.newest_at <= patience.before and not at_work(run_id):
            freed += Freed(items=1, size_bytes=folder.size_bytes)
            if not dry_run:
                services.store.delete(folder.prefix)
    return freed


def _probes(services: ExportServices, patience: Patience, *, dry_run: bool) -> Freed:
    """Of processes that were killed while they asked whether the store takes objects."""
    freed = Freed()
    for found in list(services.store.scan(probe_prefix())):
        if found.modified_at < patience.before:
            freed += Freed(items=1, size_bytes=found.size_bytes)
            if not dry_run:
                services.store.delete(found.key)
    return freed


def _prefix_of_request(key: str) -> str | None:
    found = request_folder(key)
    return found.prefix if found else None


def _prefix_of_run(key: str) -> str | None:
    run_id = lake_run(key)
    return lake_stage_prefix(run_id) if run_id else None


def _folders(objects: Iterable[StoredObject], prefix_of: Callable[[str], str | None]) -> Iterator[Folder]:
    """Objects that lie together as one; what is in no folder of ours is passed over."""
    for prefix, together in groupby(objects, key=lambda found: prefix_of(found.key)):
        if prefix is None:
            continue
        size_bytes, newest_at = 0, _LONG_AGO
        for found in together:
            size_bytes, newest_at = size_bytes + found.size_bytes, max(newest_at, found.modified_at)
        yield Folder(prefix=prefix, size_bytes=size_bytes, newest_at=newest_at)


def _of_entry(entry: Path) -> tuple[int, dt.datetime]:
    """Bytes in it and the latest change in it; never through a symbolic link."""
    size_bytes, newest = 0, 0.0
    for path in (entry, *_below(entry)):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        size_bytes += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        newest = max(newest, status.st_mtime)
    return size_bytes, dt.datetime.fromtimestamp(newest, dt.UTC)


def _below(entry: Path) -> Iterator[Path]:
    for folder, folders, files in () if entry.is_symlink() else os.walk(entry):
        yield from (Path(folder, name) for name in (*folders, *files))


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)  # a neighbour may be at it, and what is left waits for the next time
    else:
        entry.unlink(missing_ok=True)
