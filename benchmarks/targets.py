"""What the project set out to reach, and whether the saved results reach it. Nothing is rounded in our favour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import floor
from benchmarks.ours import AES_ZIP, CSV_GZ, PARQUET, ZIP
from benchmarks.results import Measurement, SuiteResult
from benchmarks.suites.small import JOBS

Results = Mapping[str, SuiteResult]
_MEGABYTE = 1e6


class NotMeasured(Exception):
    """Why there is no figure."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A promise with one figure."""

    promise: str
    limit: float
    figure: Callable[[Results], float]
    at_least: bool = False  # else at most
    unit: str = "×"

    def judge(self, results: Results) -> Verdict:
        try:
            figure = self.figure(results)
        except NotMeasured as reason:
            return Verdict(target=self, missing=str(reason))
        return Verdict(target=self, figure=figure)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A target and what was found."""

    target: Target
    figure: float | None = None
    missing: str | None = None

    @property
    def met(self) -> bool | None:
        """None when nothing was measured."""
        if self.figure is None:
            return None
        limit = self.target.limit
        return self.figure >= limit if self.target.at_least else self.figure <= limit

    def sentence(self) -> str:
        """Met or missed, and by how much of the limit."""
        if self.figure is None:
            return f"not measured: {self.missing}"
        distance = abs(self.figure / self.target.limit - 1)
        return f"{'met' if self.met else '**missed**'} by {distance:.0%}"


def measured(results: Results, suite: str, name: str, dataset: str = "inv") -> Measurement:
    """A measurement that succeeded, or `NotMeasured` with the reason the result gives."""
    result = results.get(suite)
    if result is None:
        raise NotMeasured(f"suite {suite} was not run")
    found = result.find(name, dataset)
    if found is None:
        why = next((m.unavailable for m in result.measurements if (m.name, m.dataset) == (name, dataset)), None)
        raise NotMeasured(why or f"{name} is not in suite {suite}")
    return found


def _extraction(dataset: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        ours = measured(results, "stages", PARQUET.name, dataset)
        return ours.step("stage") / measured(results, "stages", floor.BINARY, dataset).seconds

    return figure


def _times_faster(peer: str, order: str, dataset: str = "inv") -> Callable[[Results], float]:
    """How many times as long the other program takes as our whole, validated export."""

    def figure(results: Results) -> float:
        return measured(results, "peers", peer, dataset).seconds / measured(results, "peers", order, dataset).seconds

    return figure


def _sheet(peer: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        return measured(results, "sheets", peer).seconds / measured(results, "sheets", "xlsx").step("convert")

    return figure


def _encryption(results: Results) -> float:
    """The steps that make the archive; the rest of the job is the same."""
    encrypted, plain = (measured(results, "peers", order.name).step("convert", "package") for order in (AES_ZIP, ZIP))
    return encrypted / plain


def _validation(dataset: str) -> Callable[[Results], float]:
    def figure(results: Results) -> float:
        ours = measured(results, "stages", CSV_GZ.name, dataset)
        return ours.step("validate") / ours.step("stage", "convert")

    return figure


def _peak(dataset: str) -> Callable[[Results], float]:
    """The most that any format needed at any size."""

    def figure(results: Results) -> float:
        return max(m.peak_bytes for m in _memory(results, dataset)) / _MEGABYTE

    return figure


def _growth_of_memory(results: Results) -> float:
    """The worst format's peak at its largest size over that at its smallest."""
    found = [ratio for ratio in flatness(_memory(results, "inv")).values() if ratio]
    if not found:
        raise NotMeasured("one size only")
    return max(found)


def flatness(measurements: list[Measurement]) -> dict[str, float]:
    """By format: peak with the most rows over peak with the fewest."""
    by_name: dict[str, list[Measurement]] = {}
    for each in sorted(measurements, key=lambda m: m.rows):
        by_name.setdefault(each.name, []).append(each)
    return {name: sizes[-1].peak_bytes / sizes[0].peak_bytes for name, sizes in by_name.items() if len(sizes) > 1}


def _memory(results: Results, dataset: str) -> list[Measurement]:
    found = (
        [m for m in results["memory"].measurements if m.dataset == dataset and m.runs] if "memory" in results else []
    )
    if not found:
        raise NotMeasured("suite memory was not run")
    return found


def _partition(*, dagster: bool) -> Callable[[Results], float]:
    """Milliseconds that each further partition takes: the worst way to grow, beside the smallest run."""

    def figure(results: Results) -> float:
        found = results["growth"].measurements if "growth" in results else ()
        same = [m for m in found if m.runs and m.name.endswith(".dagster") is dagster]
        by_count = sorted((m.runs[0].detail["partitions"], m.seconds) for m in same)
        if len(by_count) < 2:
            raise NotMeasured("suite growth was not run")
        (fewest, least), *others = by_count
        return 1000 * max((seconds - least) / (partitions - fewest) for partitions, seconds in others)

    return figure


TARGETS = (
    Target(promise="Extraction to Parquet, narrow: ≤ 1.5 × `psql` binary COPY", limit=1.5, figure=_extraction("inv")),
    Target(promise="Extraction to Parquet, wide: ≤ 1.2 × `psql` binary COPY", limit=1.2, figure=_extraction("act")),
    Target(
        promise="Validated CSV.gz package: faster than `psql | pigz -p2`",
        limit=1.0,
        figure=_times_faster(floor.PIGZ, CSV_GZ.name),
        at_least=True,
    ),
    *(
        Target(
            promise=f"Validated CSV.gz package: ≥ {limit} × faster than {peer}",
            limit=limit,
            figure=_times_faster(f"{peer}.csv.gz", CSV_GZ.name),
            at_least=True,
        )
        for peer, limit in (("sling", 4), ("dlt", 3), ("pandas", 10))
    ),
    *(
        Target(
            promise=f"XLSX: ≥ {limit} × faster than {label}",
            limit=limit,
            figure=_sheet(f"{peer}.xlsx"),
            at_least=True,
        )
        for peer, label, limit in (("xlsxwriter", "xlsxwriter, constant memory", 8), ("openpyxl", "openpyxl", 10))
    ),
    Target(promise="AES-256 ZIP: ≤ 1.5 × the same ZIP unencrypted", limit=1.5, figure=_encryption),
    Target(promise="Validation of CSV.gz, narrow: ≤ 40 % of writing it", limit=0.4, figure=_validation("inv")),
    Target(promise="Validation of CSV.gz, wide: ≤ 40 % of writing it", limit=0.4, figure=_validation("act")),
    Target(promise="Peak memory of a run, narrow: ≤ 450 MB", limit=450, figure=_peak("inv"), unit="MB"),
    Target(promise="Peak memory of a run, wide: ≤ 600 MB", limit=600, figure=_peak("act"), unit="MB"),
    Target(
        promise="Peak memory, most rows over fewest: ≤ 1.1 ×",
        limit=1.1,
        figure=_growth_of_memory,
    ),
    Target(
        promise="Export of 1,000 rows, job in a warm process: ≤ 0.6 s",
        limit=0.6,
        figure=lambda results: measured(results, "small", JOBS).seconds,
        unit="s",
    ),
    Target(
        promise="1,000 rows through the API, POST to completed, one at a time: ≤ 4 s",
        limit=4,
        figure=lambda results: measured(results, "api", "alone.dagster", "clinic").seconds,
        unit="s",
    ),
    Target(
        promise="A further partition beyond its rows, functions: ≤ 25 ms",
        limit=25,
        figure=_partition(dagster=False),
        unit="ms",
    ),
    Target(
        promise="A further partition beyond its rows, by Dagster: ≤ 25 ms",
        limit=25,
        figure=_partition(dagster=True),
        unit="ms",
    ),
)
