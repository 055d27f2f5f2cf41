"""The suite of many partitions on a few: Dagster reads rows that were copied as its own, and the figures are told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dagster import AssetCheckKey, AssetRecordsFilter

from benchmarks.results import SuiteResult
from benchmarks.scale import history
from benchmarks.scale.cases import CASES, Case, cases, sample_catalog
from benchmarks.scale.history import Partitions, fill, monthly_keys, read_model, run_model
from benchmarks.scale.place import Place, place
from benchmarks.scale.suite import Size, measure
from benchmarks.scale.tables import scale
from export_pipelines.orchestration.partitions import dimension_tags, tenant_partitions_name
from export_pipelines.pipeline.lake.partition_checks import ROWS
from export_pipelines_tests.benchmarks.test_report import MACHINE
from export_pipelines_tests.lanes import EXHAUSTIVE

pytestmark = [pytest.mark.process, EXHAUSTIVE]

SMALL = Case(name="small", label="3 tenants", tenants=3, months=2)
_CHANGING = ("records", "timestamp", "storage_id")


@pytest.fixture(params=[None, 2], ids=["tenants", "buckets"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A place whose event log was filled from one real run."""
    case = Case(name="small", label="", tenants=3, months=2, buckets=request.param)
    with place(tmp_path / "home", case) as made:
        name = tenant_partitions_name(made.catalog)
        made.instance.add_dynamic_partitions(name, list(made.tenants))
        model = read_model(made, run_model(made, history.model_owner(made, made.tenants[0])))
        history.remove_model(made, model)
        made.instance.add_dynamic_partitions(name, list(made.tenants))
        fill(made, model, Partitions.of(made))
        yield made


def copied_run(found: Place, owner: str) -> str:
    """The run that is said to have made an owner's partitions."""
    key = str(Partitions.of(found).owned_by(owner)[0])
    with psycopg.connect(found.dagster_url) as connection:
        rows = connection.execute("SELECT DISTINCT run_id FROM event_logs WHERE partition = %s", (key,)).fetchall()
    ((run_id,),) = rows
    return str(run_id)


def shape(value: Any) -> Any:
    """Names and types of a stored event, without what differs from run to run."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items() if key not in _CHANGING}
    return [shape(each) for each in value] if isinstance(value, list) else type(value).__name__


def test_dagster_reads_copies_as_its_own_and_they_are_as_a_real_run_writes_them(found: Place) -> None:
    partitions, instance = Partitions.of(found), found.instance
    keys = set(map(str, partitions.keys))
    assert len(keys) == len(partitions.owners) * 2
    assert len(monthly_keys(found.catalog)) == 12
    for asset in monthly_keys(found.catalog):
        assert instance.get_materialized_partitions(asset) == keys
        assert len(instance.fetch_materializations(asset, limit=1000).records) == len(keys)
        for key in partitions.keys:
            wanted = AssetRecordsFilter(asset_key=asset, asset_partitions=[key])
            (record,) = instance.fetch_materializations(wanted, limit=2).records
            made = record.asset_materialization
            assert made is not None
            assert made.partition == key
            assert made.tags is not None
            assert dimension_tags(key).items() <= made.tags.items()
            (indexed,) = instance.get_event_tags_for_asset(asset, filter_event_id=record.storage_id)
            assert dimension_tags(key).items() <= indexed.items() <= made.tags.items()
    check = AssetCheckKey(monthly_keys(found.catalog)[0], ROWS)
    (execution,) = instance.event_log_storage.get_latest_asset_check_execution_by_key([check]).values()
    (newest,) = instance.fetch_materializations(check.asset_key, limit=1).records
    reported = execution.event.dagster_event.event_specific_data  # type: ignore[union-attr]
    assert (execution.run_id, reported.target_materialization_data.storage_id) == (newest.run_id, newest.storage_id)

    # Of a bucket with other tenants a run tells other things, so there it is the model's own.
    buckets = found.catalog.tenant_buckets
    owner = partitions.owners[-1] if buckets is None else history.model_owner(found, found.tenants[0])
    copies, real = read_model(found, copied_run(found, owner)), read_model(found, run_model(found, owner))
    assert (copies.key, copies.period, copies.owner) == (real.key, real.period, real.owner)
    assert (copies.first, copies.last) == (real.first, real.last)
    assert len(copies.tags) == len(real.tags)
    for ours, theirs in zip(copies.materializations, real.materializations, strict=True):
        assert shape(json.loads(ours["event"])) == shape(json.loads(theirs["event"]))
        assert [ours[name] for name in ("asset_key", "partition", "step_key", "dagster_event_type")] == [
            theirs[name] for name in ("asset_key", "partition", "step_key", "dagster_event_type")
        ]
    for ours, theirs in zip(copies.checks, real.checks, strict=True):
        assert shape(json.loads(ours["event"])) == shape(json.loads(theirs["event"]))
    assert shape(json.loads(copies.run["run_body"])) == shape(json.loads(real.run["run_body"]))


@pytest.mark.filterwarnings("ignore:Non-compliant tag keys:DeprecationWarning")  # Dagster's own, in its daemon
def test_the_suite_measures_a_few_partitions_and_its_table_tells_them(tmp_path: Path) -> None:
    size = Size(cases=[SMALL], repeat=1, schedules=10, due=4)
    found = {each.name: each for each in measure(tmp_path, size)}
    volumes = found["paper"].runs[0].detail
    assert (volumes["owners"], volumes["keys"], volumes["materializations"]) == (3, 6, 72)
    assert found["close.tick"].runs[0].detail["runs"] == found["close.evaluated"].runs[0].detail["runs"] == 3
    assert found["export_requests.queued"].runs[0].detail["runs"] == 4
    assert "4 exports due" in found["due_schedules.due"].runs[0].detail["said"]
    assert found["sync.none"].runs[0].detail["said"] == "0 tenants added, 0 removed, 3 known"
    reported = scale(
        SuiteResult(
            suite="scale", rows=size.rows, repeat=1, started_at="2026-01-02T03:04:05+00:00", seconds=1.0,
            preliminary=False, loaded=False, machine=MACHINE, measurements=tuple(found.values()),
        )
    )  # fmt: skip
    assert "| partitions of an asset | 6 |" in reported
    assert "| partitions page of one asset, first look |" in reported


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_history_has_as_many_months_as_the_case_says(case: Case) -> None:
    catalog = case.catalog(sample_catalog(), dt.date(2026, 3, 31))
    assert catalog.history_start == dt.date(2021, 4, 1)
    assert len(monthly_keys(catalog)) == (1 if case.one_table else 12)


def test_a_trial_has_a_share_of_tenants_and_buckets() -> None:
    (trial,) = cases(["buckets"], share=0.1, months=3)
    assert (trial.tenants, trial.buckets, trial.months) == (1_000, 13, 3)
