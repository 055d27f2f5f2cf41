"""The saved figures of many partitions as Markdown: a column for each case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.results import Measurement, SuiteResult
from benchmarks.tables import figure, grid, seconds

VOLUMES = "paper"  # the measurement that holds counts and sizes
ADVICE_KEYS = 100_000  # partitions of an asset, by Dagster's documentation at most
_UI = "ui."


def scale(result: SuiteResult) -> str:
    """Counts and sizes, ticks, pages."""
    volumess = {each.dataset: each.runs[0].detail for each in result.measurements if each.name == VOLUMES}
    rest = [each for each in result.measurements if each.name != VOLUMES]
    parts = [
        _volumes(volumess),
        _pivot("ticks, s", [each for each in rest if not each.name.startswith(_UI)], volumess, _tick),
        _pivot("pages of Dagster's UI, s", [each for each in rest if each.name.startswith(_UI)], volumess, _page),
    ]
    return "\n\n".join(parts)


def _volumes(volumess: Mapping[str, dict[str, Any]]) -> str:
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "tenants": lambda volumes: f"{volumes['tenants']:,}",
        "owners (tenants or buckets)": lambda volumes: f"{volumes['owners']:,}",
        "partitions of an asset": lambda volumes: f"{volumes['keys']:,}",
        f"of the {ADVICE_KEYS:,} that Dagster advises": lambda volumes: f"{volumes['keys'] / ADVICE_KEYS:.0%}",
        "assets filled": lambda volumes: f"{volumes['assets']}",
        "materializations": lambda volumes: f"{volumes['materializations']:,}",
        "events stored": lambda volumes: f"{volumes['events']:,}",
        "Dagster's tables, MB": lambda volumes: _megabytes(sum(volumes["database_bytes"].values())),
        "bytes a materialization": lambda volumes: (
            f"{sum(volumes['database_bytes'].values()) / volumes['materializations']:,.0f}"
        ),
        "webserver, MB before and after": lambda volumes: _memory(volumes, "webserver"),
        "code server, MB before and after": lambda volumes: _memory(volumes, "code"),
    }
    rows = [[label, *(line(volumes) for volumes in volumess.values())] for label, line in lines.items()]
    return grid(("counts and sizes", *(volumes["label"] for volumes in volumess.values())), rows)


def _pivot(
    title: str,
    found: list[Measurement],
    volumess: Mapping[str, dict[str, Any]],
    cell: Callable[[Measurement], str],
) -> str:
    labels = {each.name: each.label for each in reversed(found)}  # of the first case that has it
    order = dict.fromkeys(each.name for each in found)
    cells = {(each.name, each.dataset): cell(each) for each in found if each.runs}
    rows = [[labels[name], *(cells.get((name, case), "–") for case in volumess)] for name in order]
    return grid((title, *(volumes["label"] for volumes in volumess.values())), rows)


def _tick(each: Measurement) -> str:
    runs = int(each.runs[0].detail.get("runs", 0))
    return seconds(each.spread()) + (f", {runs:,} runs" if runs else "")


def _page(each: Measurement) -> str:
    return f"{seconds(each.spread())}, {_octets(each.runs[0].detail['size_bytes'])}"


def _octets(size: int) -> str:
    return f"{figure(size / 1e6)} MB" if size >= 10**6 else f"{size / 1e3:,.0f} kB"


def _memory(volumes: dict[str, Any], name: str) -> str:
    before, after = (volumes["resident_bytes"][when][name] for when in ("before", "after"))
    return f"{_megabytes(before)}, {_megabytes(after)}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"
