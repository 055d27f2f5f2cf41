"""Sweeping on real stores and a real control database: leftovers go, everything else stays, whenever it is killed."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.core.model import Package, TenantScope
from export_pipelines.core.naming import canonical_prefix, export_prefix, lake_stage_prefix, probe_key, stage_prefix
from export_pipelines.core.ports import Freed, ObjectStore
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.maintenance.sweep import Swept, sweep
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings
from export_pipelines.stores.control import ControlDatabase

CONFIG: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
TENANT = TenantScope(tenant_id="clinic 1/ü")
DAY = dt.timedelta(days=1)
UNKNOWN = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Killed(BaseException):
    """The process ends here."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A store with packages, stages and leftovers, looked at days later."""

    control: ControlDatabase
    store: ObjectStore
    services: ExportServices

    def order(self) -> str:
        return self.services.requests.insert(tenant_id=TENANT.tenant_id, config=CONFIG)

    def put(self, *keys: str) -> None:
        for key in keys:
            with self.store.writing(key) as sink:
                sink.write(b"content")

    def folders(self, request_id: str, attempt: int = 1) -> list[str]:
        """A file in each of its places: stage, kept rows, package."""
        package = export_prefix(TENANT, "selective", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), request_id)
        keys = [
            f"{stage_prefix(request_id, attempt)}/canonical/pets.parquet",
            f"{canonical_prefix(TENANT, request_id)}/pets.parquet",
            f"{package}/pets.csv",
            f"{package}/manifest.json",
        ]
        self.put(*keys)
        return keys

    def claimed(self) -> str:
        request_id = self.order()
        assert self.services.requests.claim(request_id, attempt=1, run_id=f"run-{request_id}")
        return request_id

    def completed(self) -> str:
        request_id = self.claimed()
        prefix = export_prefix(TENANT, "selective", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), request_id)
        package = Package(prefix=prefix, files=(), manifest_sha256="", rows=0, size_bytes=0)
        requests = self.services.requests
        assert requests.complete(request_id, run_id=f"run-{request_id}", package=package, deliveries=(), keep=30 * DAY)
        return request_id

    def failed(self) -> str:
        request_id = self.order()
        assert self.services.requests.fail(request_id, attempt=1, run_id=None, error_type="lost", message="gone")
        return request_id

    def sweep(self, days: float = 2, **options: Any) -> Swept:
        """As if that much time had gone by."""
        return sweep(
            self.services, now=dt.datetime.now(dt.UTC) + days * DAY, **{"at_work": lambda _run: False, **options}
        )

    def listed(self) -> set[str]:
        return {key for key, _ in self.store.list("")}


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "local":
        return LocalStore(tmp_path / "objects")
    made: ObjectStore = request.getfixturevalue("s3_store")
    return made


@pytest.fixture
def scene(store: ObjectStore, control_url: str, tmp_path: Path) -> Iterator[Scene]:
    with closing(ControlDatabase(control_url)) as control:
        services = open_services(Settings(EXPORT_HOME=tmp_path), control=control, store=store)
        yield Scene(control=control, store=store, services=services)


def filled(scene: Scene) -> tuple[set[str], set[str]]:
    """Keys that stay and keys that are leftovers."""
    stays, goes = set(), set()
    stage, kept, *package = scene.folders(scene.completed())
    stays |= {kept, *package}
    goes |= {stage}
    stays |= set(scene.folders(scene.claimed())) | set(scene.folders(scene.order()))
    goes |= set(scene.folders(scene.failed()))
    again = scene.failed()
    scene.services.requests.retry(again)
    stage, *others = scene.folders(again, attempt=1)
    stays |= {*others, scene.folders(again, attempt=2)[0]}
    goes |= {stage}
    stage, kept, *package = scene.folders(UNKNOWN)
    stays |= {kept, *package}
    goes |= {stage}
    others_own = {"notes.txt", "exports/readme.txt", "lake/clinic/pets/tenant=t/part-00000.parquet"}
    scene.put(*others_own, f"{lake_stage_prefix('run-1')}/part", f"{lake_stage_prefix('run-2')}/part")
    scene.put(probe_key("of-a-killed-process"))
    goes |= {probe_key("of-a-killed-process")}
    return stays | others_own | {f"{lake_stage_prefix('run-1')}/part"}, goes | {f"{lake_stage_prefix('run-2')}/part"}


def at_work(run_id: str) -> bool:
    return run_id == "run-1"


def test_leftovers_go_and_everything_else_stays(scene: Scene) -> None:
    stays, goes = filled(scene)
    reported = scene.sweep(at_work=at_work, dry_run=True)
    assert scene.listed() == stays | goes
    swept = scene.sweep(at_work=at_work)
    assert scene.listed() == stays
    assert swept.freed == reported.freed
    assert swept.size_bytes == len(b"content") * len(goes)
    assert scene.sweep(at_work=at_work).size_bytes == 0


def test_nothing_is_touched_before_the_grace_is_over(scene: Scene) -> None:
    stays, goes = filled(scene)
    assert scene.sweep(days=0.9).size_bytes == 0
    assert scene.listed() == stays | goes


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_packages_of_a_forgotten_request_go_when_any_package_would_have(scene: Scene) -> None:
    scene.folders(UNKNOWN)
    scene.sweep(days=91)
    assert scene.listed() == set()


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_an_export_that_completes_while_it_is_looked_at_stays(scene: Scene) -> None:
    """Between the look at its failed request and the removal somebody retries it, and it publishes."""
    request_id = scene.failed()
    stage, kept, *package = scene.folders(request_id)
    for other in (stage, kept):
        scene.store.delete(other)
    locked = scene.services.exclusively

    def completing(name: str) -> Any:
        if scene.services.requests.get(request_id).status == "failed":
            attempt = scene.services.requests.retry(request_id)
            assert scene.services.requests.claim(request_id, attempt=attempt, run_id="run-2")
            made = Package(prefix="p", files=(), manifest_sha256="", rows=0, size_bytes=0)
            scene.services.requests.complete(request_id, run_id="run-2", package=made, deliveries=(), keep=DAY)
        return locked(name)

    replace(scene, services=scene.services.having(exclusively=completing)).sweep()
    assert set(package) <= scene.listed()


@pytest.mark.parametrize(
    ("store", "deletions"), [*(("local", number) for number in range(1, 7)), ("s3", 3)], indirect=["store"]
)
def test_a_sweep_that_is_killed_anywhere_is_finished_by_the_next(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    stays, _ = filled(scene)
    done: list[str] = []
    delete = type(scene.store).delete

    def dying(self: ObjectStore, prefix: str) -> int:
        if len(done) == deletions:
            raise Killed
        done.append(prefix)
        return delete(self, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(type(scene.store), "delete", dying)
        with pytest.raises(Killed):
            scene.sweep(at_work=at_work)
    packages = {key.rpartition("/")[0] for key in scene.listed() if key.endswith("pets.csv")}
    manifests = {key.rpartition("/")[0] for key in scene.listed() if key.endswith("manifest.json")}
    assert manifests <= packages  # what still has its manifest is whole
    scene.sweep(at_work=at_work)
    assert scene.listed() == stays


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_scratch_that_nobody_writes_to_goes(scene: Scene, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    for name in ("nest-old", "nest-new"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "spill.arrow").write_bytes(b"12345")
    (scratch / "sealed.zip").write_bytes(b"123")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"stays")
    (scratch / "link").symlink_to(tmp_path / "outside")
    long_ago = (dt.datetime.now(dt.UTC) - 3 * DAY).timestamp()
    for path in (
        scratch / "nest-old" / "spill.arrow",
        scratch / "nest-old",
        scratch / "nest-new",
        scratch / "sealed.zip",
    ):
        os.utime(path, (long_ago, long_ago))
    os.utime(scratch / "link", (long_ago, long_ago), follow_symlinks=False)
    swept = scene.sweep(days=0)
    assert swept.freed["scratch"].items == 3
    assert [path.name for path in scratch.iterdir()] == ["nest-new"]
    assert (tmp_path / "outside" / "file").read_bytes() == b"stays"


@pytest.mark.parametrize("store", ["local"], indirect=True)
def test_rows_of_small_tables_go_by_their_age(scene: Scene, control_url: str) -> None:
    request_id = scene.completed()
    with psycopg.connect(control_url, autocommit=True) as owner:
        for age in ("23 hours", "25 hours", "6 days", "8 days", "29 days", "31 days"):
            owner.execute(
                f"""
                INSERT INTO export_control.api_replies (tenant_id, user_id, key, fingerprint, created_at)
                VALUES ('t', 'u', '{age}', '', now() - interval '{age}');
                INSERT INTO export_control.rate_limits VALUES ('{age}', 1, now() - interval '{age}', true);
                INSERT INTO export_control.export_links (request_id, token_sha256, expires_at, revoked_at)
                VALUES ('{request_id}', 'expired {age}', now() - interval '{age}', NULL),
                       ('{request_id}', 'revoked {age}', now() + interval '9 days', now() - interval '{age}'),
                       ('{request_id}', 'lives {age}', now() + interval '{age}', NULL)
                """
            )
        reported = scene.sweep(dry_run=True).rows
        assert scene.sweep().rows == reported == {"api_replies": 5, "rate_limits": 3, "export_links": 2}
        left = owner.execute("SELECT key FROM export_control.api_replies").fetchall()
        assert left == [("23 hours",)]
        gone = "SELECT count(*) FROM export_control.export_links WHERE token_sha256 LIKE '%ed 31 days'"
        assert owner.execute(gone).fetchone() == (0,)
    assert scene.sweep().rows == {"api_replies": 0, "rate_limits": 0, "export_links": 0}


def test_freed_things_add_up() -> None:
    assert Freed(items=1, size_bytes=2) + Freed(items=3, size_bytes=4) == Freed(items=4, size_bytes=6)
