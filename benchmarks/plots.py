"""Plots as SVG, readable on light and on dark pages: no background, middle tones, text as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import floor
from benchmarks.results import Measurement, SuiteResult

THROUGHPUT, MEMORY, SMALL = "bench-throughput.svg", "bench-memory.svg", "bench-small.svg"
SOAK = "bench-soak.svg"
_INK = "#808890"
_OURS, _FLOOR, _OTHERS = "#2f81f7", "#8b949e", "#d29922"
_SIZES = ("#7ee0c0", "#35a57c", "#2f81f7", "#a371f7")
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "font.size": 9,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_TITLES = {"inv": "narrow rows", "act": "wide rows"}


def draw(results: Mapping[str, SuiteResult], folder: Path) -> list[Path]:
    """Every plot there are results for."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    if "peers" in results:
        made.append(_throughput(results["peers"], results.get("stages"), folder / THROUGHPUT))
    if "memory" in results:
        made.append(_memory(results["memory"], folder / MEMORY))
    if "small" in results and "growth" in results:
        made.append(_small(results["small"], results["growth"], folder / SMALL))
    if "soak" in results:
        made.append(_soak(results["soak"], folder / SOAK))
    return made


@contextmanager
def _figure(path: Path, *, columns: int, height: float) -> Iterator[list[Axes]]:
    """Axes side by side; saved without date, so that the same results make the same file."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, height), layout="constrained")
        found = figure.subplots(1, columns, squeeze=False)[0]
        yield list(found)
        figure.savefig(path, transparent=True, metadata={"Date": None})


def _throughput(peers: SuiteResult, stages: SuiteResult | None, path: Path) -> Path:
    """Rows a second of everything that ends in a file, and of COPY to nowhere."""
    with _figure(path, columns=2, height=3.6) as axes:
        for each, dataset in zip(axes, ("inv", "act"), strict=True):
            found = [m for m in peers.measurements if m.dataset == dataset and m.runs and not _archive(m)]
            copy = stages.find(floor.BINARY, dataset) if stages else None
            shown = sorted([*found, *([copy] if copy else [])], key=lambda m: m.rows / m.seconds)
            speeds = [m.rows / m.seconds / 1000 for m in shown]
            each.barh([m.label for m in shown], speeds, color=[_colour(m) for m in shown])
            each.set_title(_TITLES[dataset])
            each.set_xlabel("thousand rows a second")
    return path


def _archive(measurement: Measurement) -> bool:
    return "zip" in measurement.name.replace("gzip", "").replace("igzip", "")


def _colour(measurement: Measurement) -> str:
    if measurement.label.startswith("ours"):
        return _OURS
    return _FLOOR if measurement.label.startswith(("psql", "pg_dump")) else _OTHERS


def _memory(result: SuiteResult, path: Path) -> Path:
    """A panel for each format; a line for each size, over the share of the run, so that lengths compare."""
    found = [m for m in result.measurements if m.dataset == "inv" and m.runs and m.runs[0].curve]
    most = max(m.rows for m in found)
    names = [m.name for m in found if m.rows == most][:3]
    with _figure(path, columns=len(names), height=2.8) as axes:
        for each, name in zip(axes, names, strict=True):
            for number, m in enumerate(sorted((m for m in found if m.name == name), key=lambda m: m.rows)):
                curve = m.runs[0].curve or []
                end = curve[-1][0] or 1.0
                each.plot(
                    [100 * at / end for at, _ in curve],
                    [resident / 1e6 for _, resident in curve],
                    color=_SIZES[number % len(_SIZES)],
                    linewidth=1.2,
                    label=f"{m.rows:,} rows",
                )
            each.set_title(name)
            each.set_xlabel("% of the run")
            each.set_ylim(bottom=0)
        axes[0].set_ylabel("resident MB")
        axes[0].legend(loc="lower right")
    return path


def _small(small: SuiteResult, growth: SuiteResult, path: Path) -> Path:
    """Seconds of a small export; milliseconds of a partition over how many there are."""
    with _figure(path, columns=2, height=2.6) as (left, right):
        found = [m for m in small.measurements if m.runs]
        left.barh([m.label for m in found], [m.seconds for m in found], color=_OURS)
        left.set_title("export of 1,000 rows")
        left.set_xlabel("seconds")
        for dagster, colour in ((False, _OURS), (True, _OTHERS)):
            lines = [m for m in growth.measurements if m.runs and m.name.endswith(".dagster") is dagster]
            points = sorted(
                (m.runs[0].detail["partitions"], 1000 * m.runs[0].detail["partition_seconds"]) for m in lines
            )
            right.plot(
                [count for count, _ in points],
                [each for _, each in points],
                "o",
                color=colour,
                label="by Dagster" if dagster else "functions only",
            )
        right.set_title("a partition of the lake")
        right.set_xlabel("partitions in all")
        right.set_ylabel("ms each")
        right.set_ylim(bottom=0)
        right.legend()
    return path


def _soak(result: SuiteResult, path: Path) -> Path:
    """Memory of each long-lived process over the hours."""
    found = [m for m in result.measurements if m.runs and "rss" in m.runs[0].detail]
    with _figure(path, columns=1, height=3.2) as (axes,):
        for each in found:
            curve = each.runs[0].curve or []
            hours, sizes = [at / 3600 for at, _ in curve], [size / 1e6 for _, size in curve]
            axes.plot(hours, sizes, linewidth=1.2, label=each.label.replace("`", ""))
        axes.set_title(f"{result.measurements[0].rows:,} exports")
        axes.set_xlabel("hours")
        axes.set_ylabel("proportional set size, MB")
        axes.set_ylim(bottom=0)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return path
