"""The report says what the saved results say: figures, verdicts, reasons, reservations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.__main__ import count
from benchmarks.report import rendered, write
from benchmarks.results import RESULTS, Measurement, Run, SuiteResult, load, save
from benchmarks.targets import TARGETS, Target

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
MACHINE = {
    "cores": 2,
    "processor": "Z80",
    "memory_bytes": 2**31,
    "system": "CP/M",
    "python": "3.11",
    "postgresql": "18",
    "libraries": {"pyarrow": "26"},
    "revision": "abc",
    "decoder": "default",
    "load_average": 0.1,
}


def measured(name: str, *seconds: float, dataset: str = "inv", rows: int = 2_000_000, **figures: Any) -> Measurement:
    peak = figures.pop("peak_bytes", 10**8)
    runs = tuple(
        Run(seconds=each, process_seconds=each + 1, cpu_seconds=each, peak_bytes=peak, detail=figures)
        for each in seconds
    )
    return Measurement(name=name, label=name, dataset=dataset, rows=rows, runs=runs)


def suite(name: str, *measurements: Measurement, **changes: Any) -> dict[str, SuiteResult]:
    result = SuiteResult(
        suite=name,
        rows=2_000_000,
        repeat=3,
        started_at="2026-01-02T03:04:05+00:00",
        seconds=1.0,
        preliminary=False,
        loaded=False,
        machine=MACHINE,
        measurements=measurements,
    )
    return {name: dataclasses.replace(result, **changes)}


def target(words: str) -> Target:
    (found,) = (each for each in TARGETS if words in each.promise)
    return found


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [(2.0, "met by 25%"), (2.5, "met by 0%"), (2.51, "**missed** by 0%"), (5.0, "**missed** by 50%")],
)
def test_a_target_at_least_is_met_or_missed(ours: float, verdict: str) -> None:
    results = suite("peers", measured("csv.gzip", ours), measured("sling.csv.gz", 10.0))
    assert target("faster than sling").judge(results).sentence() == verdict


@pytest.mark.parametrize(("milliseconds", "met"), [(12.0, True), (24.9, True), (25.1, False)])
def test_a_target_at_most_is_met_or_missed_by_the_worst_growth(milliseconds: float, met: bool) -> None:
    growth = [
        measured("lake.1x1x10", 1.0, partitions=10),
        measured("lake.1x1x50", 1.0 + 0.010 * 40, partitions=50),
        measured("lake.4x1x50", 1.0 + milliseconds / 1000 * 190, partitions=200),
    ]
    verdict = target("partition beyond its rows, functions").judge(suite("growth", *growth))
    assert verdict.figure == pytest.approx(milliseconds)
    assert verdict.met is met


def test_ratios_are_of_medians() -> None:
    results = suite("peers", measured("csv.gzip", 9.0, 1.0, 2.0), measured("dlt.csv.gz", 8.0, 1.0, 100.0))
    assert target("faster than dlt").judge(results).figure == pytest.approx(4.0)


def test_the_worst_format_decides_about_memory() -> None:
    peaks = {("csv", 10): 100, ("csv", 50): 104, ("xml", 10): 100, ("xml", 50): 130}
    found = [measured(name, 1.0, rows=rows, peak_bytes=peak * 10**6) for (name, rows), peak in peaks.items()]
    results = suite("memory", *found)
    assert target("most rows over fewest").judge(results).figure == pytest.approx(1.3)
    assert target("run, narrow").judge(results).figure == 130


@pytest.mark.parametrize("each", TARGETS, ids=lambda each: each.promise)
def test_without_results_no_target_is_met(each: Target) -> None:
    verdict = each.judge({})
    assert verdict.met is None
    assert verdict.sentence().startswith("not measured")


def test_a_refusal_is_the_reason_why_a_target_was_not_measured() -> None:
    refused = dataclasses.replace(measured("csv.zip.aes"), unavailable="no encryption here")
    results = suite("peers", measured("csv.zip", 1.0, steps={"convert": 1, "package": 1}), refused)
    assert target("AES-256").judge(results).sentence() == "not measured: no encryption here"


def test_results_come_back_as_they_were_saved(tmp_path: Path) -> None:
    run = Run(seconds=1.5, process_seconds=2.0, cpu_seconds=1.0, peak_bytes=5, curve=[[0.1, 5]], detail={"steps": {}})  # type: ignore[list-item]
    result = suite("memory", Measurement(name="csv", label="csv", dataset="inv", rows=1, runs=(run,)))
    save(result["memory"], tmp_path)
    assert load(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]


def test_the_page_tells_reservations_ranges_and_what_was_not_available() -> None:
    steps = dict.fromkeys(("stage", "convert", "validate", "package"), 0.5)
    gone = dataclasses.replace(measured("psql | pigz"), unavailable="pigz is not installed")
    field = [measured("copy.binary", 1.0), measured("csv", 3.0, 2.0, 4.0, steps=steps), gone]
    results = suite("stages", *field, preliminary=True, loaded=True, rows=100_000)
    page = rendered(
        "# T\n<!-- measured: stages -->\nold\n<!-- end -->\n<!-- measured: peers -->\n<!-- end -->\n", results
    )
    assert "| csv | 3.00 (2.00–4.00) | 0.50 | 0.50 | 0.50 | 0.50 | 100 |" in page
    assert r"| psql \| pigz | not available: pigz is not installed |" in page
    assert "other work was on the machine" in page
    assert "a small run of 100,000 rows" in page
    assert "Not measured yet" in page
    assert "old" not in page


def test_the_page_in_the_repository_is_what_the_saved_results_say() -> None:
    page = PAGE.read_text("utf-8")
    assert rendered(page, load(RESULTS)) == page


def test_every_plot_is_drawn_and_the_same_results_draw_the_same(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        page = tmp_path / name / "page.md"
        page.parent.mkdir()
        page.write_text("<!-- measured: targets -->\n<!-- end -->\n")
        drawn.append([path.read_bytes() for path in write(RESULTS, page)])
    assert drawn[0] == drawn[1]
    plots = sorted((tmp_path / "a" / "images").iterdir())
    assert [path.name for path in plots] == [
        "bench-memory.svg",
        "bench-small.svg",
        "bench-soak.svg",
        "bench-throughput.svg",
    ]
    for path in plots:
        assert ET.parse(path).getroot().tag.endswith("svg")
        assert path.stat().st_size < 150_000


@pytest.mark.parametrize(("text", "rows"), [("100k", 100_000), ("2M", 2_000_000), ("0.5M", 500_000), ("42", 42)])
def test_sizes_are_written_short(text: str, rows: int) -> None:
    assert count(text) == rows
