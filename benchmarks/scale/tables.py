"""The saved figures of many partitions as Markdown: a column for each case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.results import Measurement, SuiteResult
from benchmarks.tables import figure, grid, seconds

PAPER = "paper"  # the measurement that holds counts and sizes
ADVICE_KEYS = 100_000  # partitions of an asset, by Dagster's documentation at most
_UI = "ui."


def scale(result: SuiteResult) -> str:
    """Counts and sizes, ticks, pages."""
    papers = {each.dataset: each.runs[0].detail for each in result.measurements if each.name == PAPER}
    rest = [each for each in result.measurements if each.name != PAPER]
    parts = [
        _paper(papers),
        _pivot("ticks, s", [each for each in rest if not each.name.startswith(_UI)], papers, _tick),
        _pivot("pages of Dagster's UI, s", [each for each in rest if each.name.startswith(_UI)], papers, _page),
    ]
    return "\n\n".join(parts)


def _paper(papers: Mapping[str, dict[str, Any]]) -> str:
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "tenants": lambda paper: f"{paper['tenants']:,}",
        "owners (tenants or buckets)": lambda paper: f"{paper['owners']:,}",
        "partitions of an asset": lambda paper: f"{paper['keys']:,}",
        f"of the {ADVICE_KEYS:,} that Dagster advises": lambda paper: f"{paper['keys'] / ADVICE_KEYS:.0%}",
        "assets filled": lambda paper: f"{paper['assets']}",
        "materializations": lambda paper: f"{paper['materializations']:,}",
        "events stored": lambda paper: f"{paper['events']:,}",
        "Dagster's tables, MB": lambda paper: _megabytes(sum(paper["database_bytes"].values())),
        "bytes a materialization": lambda paper: (
            f"{sum(paper['database_bytes'].values()) / paper['materializations']:,.0f}"
        ),
        "webserver, MB before and after": lambda paper: _memory(paper, "webserver"),
        "code server, MB before and after": lambda paper: _memory(paper, "code"),
    }
    rows = [[label, *(line(paper) for paper in papers.values())] for label, line in lines.items()]
    return grid(("counts and sizes", *(paper["label"] for paper in papers.values())), rows)


def _pivot(
    title: str,
    found: list[Measurement],
    papers: Mapping[str, dict[str, Any]],
    cell: Callable[[Measurement], str],
) -> str:
    labels = {each.name: each.label for each in reversed(found)}  # of the first case that has it
    order = dict.fromkeys(each.name for each in found)
    cells = {(each.name, each.dataset): cell(each) for each in found if each.runs}
    rows = [[labels[name], *(cells.get((name, case), "–") for case in papers)] for name in order]
    return grid((title, *(paper["label"] for paper in papers.values())), rows)


def _tick(each: Measurement) -> str:
    runs = int(each.runs[0].detail.get("runs", 0))
    return seconds(each.spread()) + (f", {runs:,} runs" if runs else "")


def _page(each: Measurement) -> str:
    return f"{seconds(each.spread())}, {_octets(each.runs[0].detail['size_bytes'])}"


def _octets(size: int) -> str:
    return f"{figure(size / 1e6)} MB" if size >= 10**6 else f"{size / 1e3:,.0f} kB"


def _memory(paper: dict[str, Any], name: str) -> str:
    before, after = (paper["resident_bytes"][when][name] for when in ("before", "after"))
    return f"{_megabytes(before)}, {_megabytes(after)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"
