"""Backups of a point in time: from the newest snapshots before it, all of them or none, and honest about which."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import ExportPlan, LakeRetention, TenantScope
from export_pipelines.core.naming import generation_time, lake_generation
from export_pipelines.core.windows import midnight, next_period
from export_pipelines.formats.registry import find_format
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.extract.lake_stage import stage_lake
from export_pipelines.pipeline.lake.generations import at_point, generations, retire, retire_all
from export_pipelines.pipeline.lake.materialize import writing_lake
from export_pipelines.pipeline.planning.orders import Order, plan_order
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.samples.loader import load_sample
from export_pipelines.settings import Settings
from export_pipelines_tests.workshop import TENANTS, Workshop, login_url, make_workshop

OURS, THEIRS = TENANTS[:2]
MONTHS = [dt.date(2024, month, 1) for month in (1, 2, 3)]
TABLES = ["pets", "products"]  # by month, and as a whole
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def spare(database: Callable[[str], str]) -> str:
    url = database("past")
    load_sample(url, "clinic", tenants=3, rows=1_500)
    return url


@pytest.fixture
def made(spare: str, postgres: Any, control_url: str, tmp_path: Path) -> Iterator[Workshop]:
    """A workshop whose history begins with the month it is, so that few partitions are all."""
    settings = Settings(
        EXPORT_SOURCE_URL=login_url(postgres, spare, "export_reader"),
        EXPORT_CONTROL_URL=control_url,
        EXPORT_HOME=tmp_path,
    )
    raw = open_catalog(settings).model_dump(by_alias=True, mode="json")
    raw["history_start"] = _month().isoformat()
    file = tmp_path / "catalog.yaml"
    file.write_text(json.dumps(raw))
    with make_workshop(settings.model_copy(update={"catalog": file})) as short:
        yield short


def _month() -> dt.date:
    return dt.datetime.now(dt.UTC).date().replace(day=1)


def materialize(workshop: Workshop, tenant: str = OURS, tables: list[str] = TABLES, **options: Any) -> dt.datetime:
    """All partitions of these tables, from one snapshot; when it was taken."""
    services, scope = workshop.services, TenantScope(tenant_id=tenant)
    with (
        services.source.snapshot(scope) as snapshot,
        writing_lake(
            services.catalog, services.store, run_id="run", scratch=services.settings.scratch, **options
        ) as writer,
    ):
        for table in tables:
            period = None if services.catalog.tables[table].partition_column is None else _month()
            assert writer.materialize(table, scope, period, snapshot).valid
        return snapshot.shared.info.taken_at


def rename(url: str, name: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE clinic.pets SET name = %s WHERE clinic_id = %s", (name, OURS))


def backup(at: dt.datetime, **changes: Any) -> dict[str, Any]:
    order = {"export_type": "full_backup", "format": "csv", "tables": TABLES, "point_in_time": at.isoformat()}
    return {**order, **changes}


def planned(config: dict[str, Any], workshop: Workshop) -> ExportPlan:
    order = Order(configuration=Configuration.of(config), scope=TenantScope(tenant_id=OURS))
    return plan_order(order, workshop.catalog).plan


def test_a_backup_of_a_time_has_the_rows_of_then_and_names_every_snapshot(made: Workshop, spare: str) -> None:
    rename(spare, "Before")
    first = materialize(made)
    rename(spare, "After")
    second = materialize(made)
    for at, name in ((first, "Before"), (second - dt.timedelta(microseconds=1), "Before"), (second, "After")):
        done = made.export(backup(at))
        assert done.error_message is None
        folder = made.package(done)
        assert verify_package(folder, find_format).valid
        lines = (folder / "data" / "pets.csv").read_text().splitlines()
        assert len(lines) > 1
        assert all(f",{name}," in line for line in lines[1:])
        source = json.loads((folder / "manifest.json").read_text())["source"]
        assert source["snapshot"] is None
        taken = {part["snapshot"]["taken_at"] for part in source["parts"]}
        assert taken == {(second if name == "After" else first).isoformat()}
        assert {(part["table"], part["partition"]) for part in source["parts"]} == {
            ("pets", f"month={_month():%Y-%m}"),
            ("products", ""),
        }
        assert "not one consistent state" in (folder / "README.md").read_text()


def test_parts_of_several_moments_are_told_apart(made: Workshop) -> None:
    first = materialize(made, tables=["pets"])
    second = materialize(made, tables=["products"])
    done = made.export(backup(second))
    parts = json.loads((made.package(done) / "manifest.json").read_text())["source"]["parts"]
    assert [part["snapshot"]["taken_at"] for part in parts] == [first.isoformat(), second.isoformat()]


@pytest.mark.parametrize("missing", TABLES)
def test_without_a_snapshot_of_every_partition_nothing_is_exported(made: Workshop, missing: str) -> None:
    taken = materialize(made, tables=[table for table in TABLES if table != missing])
    never = made.export(backup(taken))
    assert (never.status, never.error_type) == ("failed", "request_rejected")
    assert f"{missing} " in str(never.error_message)
    assert "never materialised" in str(never.error_message)
    assert "switch on the schedule read_" in str(never.error_message)
    later = materialize(made, tables=[missing])
    early = made.export(backup(taken))
    assert later.isoformat() in str(early.error_message)
    assert made.export(backup(later)).error_message is None


def test_a_period_that_begins_at_the_very_time_has_no_past_to_ask_for(made: Workshop) -> None:
    """Midnight of the first is what people name, and nothing of that month was there by then."""
    taken = materialize(made)
    plan = planned(backup(taken), made)
    following = next_period(_month(), Grain.MONTH)
    at = midnight(following, made.catalog.timezone)
    chosen = at_point(plan, at, made.catalog, made.services.store)
    assert [part.partition for part in chosen["pets"]] == [f"month={_month():%Y-%m}"]
    with pytest.raises(RequestRejected, match=f"month={following:%Y-%m} has no snapshot"):
        at_point(plan, at + dt.timedelta.resolution, made.catalog, made.services.store)


def test_another_tenants_snapshots_are_none_of_ours(made: Workshop) -> None:
    taken = materialize(made, THEIRS)
    assert "never materialised" in str(made.export(backup(taken)).error_message)
    plan = planned(backup(taken), made)
    with pytest.raises(RequestRejected):
        at_point(plan, taken, made.catalog, made.services.store)


def test_a_part_with_another_tenants_rows_is_not_exported(made: Workshop) -> None:
    """Somebody has moved a file by hand."""
    taken = materialize(made, THEIRS)
    store = made.services.store
    for key, _ in store.list("lake"):
        store.move(key, key.replace(THEIRS, OURS))
    plan = planned(backup(taken), made)
    with pytest.raises(IntegrityViolation, match="another tenant"):
        stage_lake(plan, taken, made.services, Unwatched())


def test_a_time_when_the_catalog_was_another_is_refused(made: Workshop) -> None:
    taken = materialize(made)
    raw = made.catalog.model_dump(by_alias=True, mode="json")
    raw["tables"]["pets"]["columns"]["name"]["exclude"] = "not any longer"
    (made.settings.home / "catalog.yaml").write_text(json.dumps(raw))
    settings = made.settings.model_copy(update={"catalog": made.settings.home / "catalog.yaml"})
    with make_workshop(settings, Catalog.model_validate(raw)) as changed:
        done = changed.export(backup(taken))
    assert (done.status, done.error_type) == ("failed", "request_rejected")
    assert "describes pets otherwise" in str(done.error_message)


@pytest.mark.parametrize(("snapshots", "days", "left"), [(1, 0, 1), (2, 0, 2), (1, 1, 4)])
def test_the_past_is_kept_as_long_as_the_settings_say(made: Workshop, snapshots: int, days: int, left: int) -> None:
    retention = LakeRetention(snapshots=snapshots, days=days)
    taken = [materialize(made, tables=["products"], retention=retention) for _ in range(4)]
    scope = TenantScope(tenant_id=OURS)
    kept = generations(made.catalog, "products", scope, made.services.store)[""]
    assert [generation.taken_at for generation in kept] == taken[-left:]
    far = NOW + dt.timedelta(days=400)
    assert (retire_all(made.catalog, made.services.store, retention, now=far).items > 0) == (left > snapshots)
    kept = generations(made.catalog, "products", scope, made.services.store)[""]
    assert [generation.taken_at for generation in kept] == taken[-snapshots:]


@pytest.mark.parametrize(("days", "kept"), [(29, [35, 0]), (31, [35, 0]), (34, [35, 0]), (36, [65, 35, 0]), (0, [0])])
def test_any_time_within_the_days_that_are_kept_can_be_gone_back_to(tmp_path: Path, days: int, kept: list[int]) -> None:
    """What was the newest when those days began is needed until the next one was taken."""
    store = LocalStore(tmp_path)
    ages = {f"lake/clinic/products/{lake_generation(NOW - dt.timedelta(days=age))}/part": age for age in (65, 35, 0)}
    for key in ages:
        with store.writing(key) as sink:
            sink.write(b"rows")
    now = NOW + dt.timedelta(seconds=1)
    retire(store, "lake/clinic/products", LakeRetention(snapshots=1, days=days), now=now)
    assert [ages[key] for key, _ in store.list("")] == kept


def test_a_part_from_before_there_were_generations_goes_when_there_is_one(made: Workshop) -> None:
    folder = f"lake/clinic/products/tenant={OURS}"
    with made.services.store.writing(f"{folder}/part-00000.parquet") as sink:
        sink.write(b"old")
    materialize(made, tables=["products"])
    (key,) = [key for key, _ in made.services.store.list(folder)]
    assert "/snapshot=" in key


@pytest.mark.parametrize("name", ["", "snapshot=", "snapshot=yesterday", "part-00000.parquet", "month=2024-03"])
def test_only_folders_of_generations_have_a_time(name: str) -> None:
    assert generation_time(name) is None
    assert generation_time(lake_generation(NOW)) == NOW
