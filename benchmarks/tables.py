"""Saved results as Markdown tables: medians with their range, and ratios of medians."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks import floor
from benchmarks.ours import CSV_GZ
from benchmarks.results import Measurement, Run, Spread, SuiteResult
from benchmarks.suites.small import COMMAND
from benchmarks.targets import TARGETS, Results, Verdict, flatness

_REASON_CHARACTERS = 160
_NAMES = {"inv": "narrow", "act": "wide"}


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    marks = ["---", *("---:" for _ in header[1:])]
    lines = ([cell.replace("|", "\\|") for cell in line] for line in (header, marks, *rows))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def seconds(spread: Spread) -> str:
    """The median, and least to greatest when there were several."""
    middle = figure(spread.median)
    return middle if spread.low == spread.high else f"{middle} ({figure(spread.low)}–{figure(spread.high)})"


def figure(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _unavailable(measurement: Measurement, width: int) -> list[str]:
    return [
        measurement.label,
        f"not available: {_short(measurement.unavailable or '')}",
        *("" for _ in range(width - 2)),
    ]


def _short(reason: str) -> str:
    return reason if len(reason) <= _REASON_CHARACTERS else f"{reason[:_REASON_CHARACTERS].rsplit(' ', 1)[0]} …"


def targets(results: Results) -> str:
    """Every target with our figure."""
    return grid(("Target", "Measured", "Verdict"), ([*_verdict(target.judge(results))] for target in TARGETS))


def _verdict(verdict: Verdict) -> tuple[str, str, str]:
    found = "" if verdict.figure is None else f"{figure(verdict.figure)} {verdict.target.unit}"
    return verdict.target.promise, found, _short(verdict.sentence())


def stages(result: SuiteResult) -> str:
    """Floors first, then our steps; the ratio is to binary COPY."""
    parts = []
    for dataset, found in _by_dataset(result):
        base = result.find(floor.BINARY, dataset)
        rows = []
        for each in found:
            if not each.runs:
                rows.append(_unavailable(each, 7))
            elif "steps" in each.runs[0].detail:
                steps = [figure(each.step(name)) for name in ("stage", "convert", "validate", "package")]
                rows.append([each.label, seconds(each.spread()), *steps, _megabytes(each)])
            else:
                ratio = f"{each.seconds / base.seconds:.1f} × COPY" if base else ""
                rows.append([each.label, seconds(each.spread()), ratio, "", "", "", _megabytes(each)])
        header = (_title(dataset, found), "seconds", "extract", "convert", "validate", "package", "peak MB")
        parts.append(grid(header, rows))
    return "\n\n".join(parts)


def jobs(result: SuiteResult) -> str:
    """Whole jobs: seconds, their steps, rows a second, memory."""
    parts = []
    for dataset, found in _by_dataset(result):
        rows = [_job(each) if each.runs else _unavailable(each, 10) for each in found]
        header = (
            _title(dataset, found),
            "job, s",
            "rows/s",
            "CPU, s",
            "stage",
            "convert",
            "validate",
            "package",
            "other",
        )
        parts.append(grid((*header, "peak MB"), rows))
    return "\n\n".join(parts)


def _job(each: Measurement) -> list[str]:
    main = ("stage", "convert", "validate", "package")
    other = each.spread(lambda run: run.seconds - sum(run.detail["steps"][name] for name in main)).median
    return [
        each.label,
        seconds(each.spread()),
        f"{each.rows / each.seconds:,.0f}",
        figure(each.spread(lambda run: run.cpu_seconds).median),
        *(figure(each.step(name)) for name in main),
        figure(other),
        _megabytes(each),
    ]


def peers(result: SuiteResult) -> str:
    """Each program with its time as a multiple of our CSV.gz job."""
    parts = []
    for dataset, found in _by_dataset(result):
        ours = result.find(CSV_GZ.name, dataset)
        rows = [
            [
                each.label,
                seconds(each.spread()),
                f"{each.seconds / ours.seconds:.2f} ×" if ours else "",
                figure(each.spread(_cpu).median),
                _written(each),
                _megabytes(each),
            ]
            if each.runs
            else _unavailable(each, 6)
            for each in found
        ]
        parts.append(
            grid((_title(dataset, found), "seconds", "to our CSV.gz", "CPU, s", "written MB", "peak MB"), rows)
        )
    return "\n\n".join(parts)


def sheets(result: SuiteResult) -> str:
    """Only the conversion of ours is compared: the others start from the same Parquet file."""
    rows = []
    ours = result.find("xlsx", "inv")
    for each in result.measurements:
        if not each.runs:
            rows.append(_unavailable(each, 4))
            continue
        spread = each.spread(_conversion)
        ratio = f"{spread.median / ours.spread(_conversion).median:.1f} ×" if ours else ""
        rows.append([each.label, seconds(spread), ratio, _megabytes(each)])
    return grid((_title("inv", list(result.measurements)), "convert, s", "to ours", "peak MB"), rows)


def _conversion(run: Run) -> float:
    return float(run.detail["steps"]["convert"]) if "steps" in run.detail else run.seconds


def small(result: SuiteResult) -> str:
    """Median of all exports, of the first in its process, and the process."""
    rows = []
    for each in result.measurements:
        if not each.runs:
            rows.append(_unavailable(each, 4))
            continue
        if each.name == COMMAND:
            rows.append([each.label, seconds(each.spread(lambda run: run.process_seconds)), "", _megabytes(each)])
            continue
        every = Spread.of(second for run in each.runs for second in run.detail["each"])
        first = Spread.of(run.detail["first"] for run in each.runs)
        rows.append([each.label, seconds(every), figure(first.median), _megabytes(each)])
    return grid((_title("inv", list(result.measurements)), "seconds", "first, s", "peak MB"), rows)


def growth(result: SuiteResult) -> str:
    """Milliseconds for a partition."""
    rows = [
        [
            each.label,
            f"{each.runs[0].detail['partitions']}",
            seconds(each.spread()),
            f"{1000 * each.spread(lambda run: run.detail['partition_seconds']).median:.1f}",
            _megabytes(each),
        ]
        if each.runs
        else _unavailable(each, 5)
        for each in result.measurements
    ]
    return grid(("partitions of", "count", "seconds", "ms each", "peak MB"), rows)


def memory(result: SuiteResult) -> str:
    """Peaks by rows, and how flat they are."""
    parts = []
    for dataset, found in _by_dataset(result):
        sizes = sorted({each.rows for each in found})
        ratios = flatness([each for each in found if each.runs])
        rows = []
        for name, label in {each.name: each.label for each in found}.items():
            peaks = [next((m for m in found if (m.name, m.rows) == (name, size) and m.runs), None) for size in sizes]
            last = f"{ratios[name]:.2f}" if name in ratios else ""
            rows.append([label, *(_megabytes(peak) if peak else "" for peak in peaks), last])
        header = (f"{_NAMES[dataset]}, peak MB", *(f"{size:,} rows" for size in sizes), "most : fewest")
        parts.append(grid(header, rows))
    return "\n\n".join(parts)


def _cpu(run: Run) -> float:
    return run.cpu_seconds


def _megabytes(measurement: Measurement) -> str:
    return f"{measurement.peak_bytes / 1e6:,.0f}"


def _written(measurement: Measurement) -> str:
    size_bytes = measurement.runs[-1].detail.get("size_bytes")
    return "" if size_bytes is None else f"{size_bytes / 1e6:,.1f}"


def _title(dataset: str, found: Sequence[Measurement]) -> str:
    return f"{_NAMES[dataset]}, {max(each.rows for each in found):,} rows"


def _by_dataset(result: SuiteResult) -> list[tuple[str, list[Measurement]]]:
    names = dict.fromkeys(each.dataset for each in result.measurements)
    return [(name, [each for each in result.measurements if each.dataset == name]) for name in names]
