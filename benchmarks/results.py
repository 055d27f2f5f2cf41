"""What was measured, as records, and their JSON: one small file for each suite, tracked by git.

The report is made from these files alone, so it can be made again without measuring.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

RESULTS = Path(__file__).with_name("results")
FULL_ROWS = 2_000_000  # what the targets speak of; fewer rows make a preliminary result


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of one program."""

    seconds: float  # of the work itself where the program says it, else of its process
    process_seconds: float  # from start to exit
    cpu_seconds: float
    peak_bytes: int
    failure: str | None = None
    curve: list[tuple[float, int]] | None = None  # (seconds since start, resident bytes)
    detail: dict[str, Any] = field(default_factory=dict)

    def with_detail(self, **more: Any) -> Self:
        return dataclasses.replace(self, detail={**self.detail, **more})

    def summary(self) -> str:
        if self.failure:
            return f"not available: {self.failure}"
        return f"{self.seconds:.2f} s · {self.cpu_seconds:.2f} s CPU · {self.peak_bytes / 1e6:.0f} MB"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, least and greatest of some figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        found = sorted(values)
        return cls(median=statistics.median(found), low=found[0], high=found[-1])


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """All runs of one program on one dataset, or why there are none."""

    name: str
    label: str
    dataset: str
    rows: int
    runs: tuple[Run, ...] = ()
    unavailable: str | None = None

    def spread(self, figure: Callable[[Run], float] = lambda run: run.seconds) -> Spread:
        return Spread.of(figure(run) for run in self.runs)

    @property
    def seconds(self) -> float:
        return self.spread().median

    @property
    def peak_bytes(self) -> int:
        """The greatest of all runs: memory that was needed once is needed."""
        return max(run.peak_bytes for run in self.runs)

    def step(self, *names: str) -> float:
        """Median seconds of these steps of a job together."""
        return self.spread(lambda run: sum(run.detail["steps"][name] for name in names)).median


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """A suite that was run, and on what."""

    suite: str
    rows: int  # main size
    repeat: int
    started_at: str
    seconds: float
    preliminary: bool  # fewer than FULL_ROWS: fixed costs weigh too much for its ratios
    loaded: bool  # other work was on the machine at the start
    machine: dict[str, Any]
    measurements: tuple[Measurement, ...]

    def find(self, name: str, dataset: str, rows: int | None = None) -> Measurement | None:
        """The measurement, if it was made and succeeded; without ``rows`` the one with most."""
        found = [m for m in self.measurements if (m.name, m.dataset) == (name, dataset) and m.runs]
        found = [m for m in found if rows is None or m.rows == rows]
        return max(found, key=lambda m: m.rows, default=None)


def save(result: SuiteResult, folder: Path) -> None:
    """Replace the suite's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.suite}.json"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(_text(dataclasses.asdict(result)), encoding="utf-8")
    unfinished.replace(path)


def _text(record: dict[str, Any]) -> str:
    """One line for each run: small, and a diff shows which program changed."""
    measurements = record.pop("measurements")
    head = json.dumps(record, indent=2, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(f"    {json.dumps(_rounded(each), ensure_ascii=False)}" for each in measurements)
    return f'{head},\n  "measurements": [\n{lines}\n  ]\n}}\n'


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


def load(folder: Path) -> dict[str, SuiteResult]:
    """Every suite that was saved, by name."""
    return {path.stem: _suite(json.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.json"))}


def _suite(record: dict[str, Any]) -> SuiteResult:
    measurements = tuple(
        Measurement(**{**each, "runs": tuple(Run(**run) for run in each["runs"])}) for each in record["measurements"]
    )
    return SuiteResult(**{**record, "measurements": measurements})
