"""The saved figures of the soak test as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.results import Measurement, SuiteResult
from benchmarks.soak.suite import second_half
from benchmarks.tables import grid


def soak(result: SuiteResult) -> str:
    """How long and how much; then each process at its start, in the middle, at its end, and how fast it grew."""
    found = [each for each in result.measurements if each.runs]
    detail = found[0].runs[0].detail
    errors = ", ".join(f"{count} × {words}" for words, count in sorted(detail["errors"].items())) or "no error"
    summary = f"{detail['exports']:,} exports in {found[0].runs[0].seconds / 3600:.1f} hours; {errors}."
    header = ("MB", "at first", "halfway", "at last", "most", "an hour", "1,000 exports", "descriptors", "threads")
    return f"{summary}\n\n{grid(header, [_row(each) for each in found])}"


def _row(each: Measurement) -> list[str]:
    run = each.runs[0]
    curve, detail = run.curve or [], run.detail
    restarted = f" (started {detail['starts']} times)" if detail.get("starts", 1) > 1 else ""
    sizes = (curve[0][1], second_half(curve)[0][1], curve[-1][1], run.peak_bytes)
    return [
        f"{each.label}{restarted}",
        *(f"{size / 1e6:,.0f}" for size in sizes),
        f"{detail['bytes_per_hour'] / 1e6:+,.1f}",
        f"{detail['bytes_per_export'] / 1e3:+,.1f}",
        _from_to(detail, "descriptors"),
        _from_to(detail, "threads"),
    ]


def _from_to(detail: dict[str, Any], name: str) -> str:
    return " → ".join(str(count) for count in detail[name]) if name in detail else ""
