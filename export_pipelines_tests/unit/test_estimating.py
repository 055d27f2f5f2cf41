"""The arithmetic of estimates, and what of a run follows from them."""

from __future__ import annotations

import datetime as dt
from dataclasses import fields
from typing import Any

import pytest

from export_pipelines.core.estimating import (
    Basis,
    History,
    Past,
    TableEstimate,
    built_in,
    estimate_table,
    learned,
    selection_kind,
    shares,
    volume,
    weakest,
)
from export_pipelines.core.model import PlannerGuess, TableSelection
from export_pipelines.core.status import RequestStatus
from export_pipelines.core.windows import Window
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.planning.runs import run_tags
from export_pipelines.stores.requests import ExportRequest

CSV = find_format("csv")
GUESS = PlannerGuess(rows=1_000_000, width_bytes=76)
NO_PAST = History()
MUCH = Past(exports=3, volume_bytes=300e6, size_bytes=600e6, seconds=30)
LITTLE = Past(exports=1, volume_bytes=1_000, size_bytes=50_000, seconds=0.4)


def estimate(history: History = NO_PAST) -> TableEstimate:
    return estimate_table("pets", GUESS, history, built_in(CSV, "none"))


def test_without_any_past_the_built_in_factors_are_taken() -> None:
    found = estimate()
    assert (found.rows, found.basis, found.past_exports, found.corrected) == (1_000_000, Basis.BUILT_IN, 0, False)
    assert found.size_bytes == pytest.approx(1.22 * volume(1_000_000, 76))


@pytest.mark.parametrize(
    ("history", "basis", "exports"),
    [
        (History(by_format=MUCH), Basis.PLANNER, 0),
        (History(by_format=LITTLE, by_table={"pets": MUCH}), Basis.PAST_EXPORTS, 3),
        (History(by_table={"pets": LITTLE}, by_tenant={"pets": MUCH}), Basis.PAST_EXPORTS, 3),
    ],
)
def test_the_nearest_past_with_much_to_show_decides(history: History, basis: Basis, exports: int) -> None:
    found = estimate(history)
    assert (found.basis, found.past_exports) == (basis, exports)
    assert found.size_bytes == pytest.approx(2 * volume(1_000_000, 76), rel=0.01)
    assert found.seconds == pytest.approx(10, rel=0.1)


def test_the_past_of_another_table_says_nothing_of_this_one() -> None:
    assert estimate(History(by_table={"clients": MUCH}, by_tenant={"clients": MUCH})) == estimate()


def test_a_few_rows_of_the_past_do_not_outweigh_what_is_known_of_many() -> None:
    """0.4 s for a kilobyte would be eleven hours for a million rows."""
    assert estimate(History(by_tenant={"pets": LITTLE})).seconds < 3 * estimate().seconds


def test_a_layer_without_volume_changes_nothing() -> None:
    rates = built_in(CSV, "none")
    assert learned(rates, Past(exports=1, volume_bytes=0, size_bytes=0, seconds=0)) == rates


@pytest.mark.parametrize(("ratio", "rows"), [(2.0, 2_000_001), (0.5, 499_999), (1e9, 1_000_000_999), (0.0, 999)])
def test_rows_are_corrected_by_what_past_exports_had_within_reason(ratio: float, rows: int) -> None:
    found = estimate(History(ratios={"pets": ratio}))
    assert (found.rows, found.corrected) == (rows, True)


def test_a_conversion_takes_less_time_and_as_many_bytes() -> None:
    exported, converted = built_in(CSV, "gzip"), built_in(CSV, "gzip", converted=True)
    assert (converted.seconds < exported.seconds, converted.size == exported.size) == (True, True)


@pytest.mark.parametrize("format_name", list(all_formats()))
@pytest.mark.parametrize("compression", ["zip", *CODECS])
def test_compression_takes_time_and_never_makes_more_of_it(format_name: str, compression: str) -> None:
    spec = find_format(format_name)
    plain, pressed = built_in(spec, "none"), built_in(spec, compression)
    assert pressed.seconds > plain.seconds
    assert pressed.size < plain.size or not spec.compressible


def test_an_estimate_is_as_good_as_the_weakest_of_its_tables() -> None:
    assert weakest([Basis.PAST_EXPORTS, Basis.BUILT_IN, Basis.PLANNER]) is Basis.BUILT_IN


@pytest.mark.parametrize(("volumes", "parts"), [([3, 1], [0.75, 0.25]), ([0, 0], [0.5, 0.5]), ([], [])])
def test_shares_follow_the_volumes(volumes: list[float], parts: list[float]) -> None:
    assert shares(volumes) == parts


def test_selections_of_a_kind_are_told_apart_from_others() -> None:
    window = Window(start_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    whole = TableSelection(table="pets", columns=("id",))
    part = TableSelection(table="pets", columns=("id",), window=window, window_column="at")
    live = TableSelection(table="pets", columns=("id",), include_deleted=False)
    assert len({selection_kind(selection) for selection in (whole, part, live)}) == 3


def request(**given: Any) -> ExportRequest:
    values: dict[str, Any] = {field.name: None for field in fields(ExportRequest)}
    values |= {"id": "r", "tenant_id": "t", "config": {}, "status": RequestStatus.QUEUED, "attempt": 1, "priority": 0}
    return ExportRequest(**{**values, **given})


@pytest.mark.parametrize(
    ("seconds", "runtime", "priority", "size"),
    [
        (None, 6 * 3600, "0", None),
        (0.3, 1800, "1", None),
        (200.0, 4000, "0", None),
        (400.0, 8000, "0", "large"),
        (1e7, 24 * 3600, "0", "large"),
    ],
)
def test_the_limits_of_a_run_follow_its_estimate(
    seconds: float | None, runtime: int, priority: str, size: str | None
) -> None:
    tags = run_tags(request(estimated_seconds=seconds))
    assert tags["dagster/max_runtime"] == str(runtime)
    assert (tags["dagster/priority"], tags.get("export/size")) == (priority, size)


def test_what_was_asked_for_goes_before_what_is_quick() -> None:
    urgent = run_tags(request(priority=1, estimated_seconds=5_000.0))
    quick = run_tags(request(priority=0, estimated_seconds=0.3))
    assert int(urgent["dagster/priority"]) > int(quick["dagster/priority"])
