"""What one case has given so far, told as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measuring import tell
from benchmarks.results import Measurement, Run


@dataclass(kw_only=True)
class Record:
    """Measurements of one case."""

    dataset: str
    repeat: int
    keys: int  # of an asset that is cut by month
    found: list[Measurement] = field(default_factory=list)

    def note(self, name: str, label: str, runs: Iterable[Run]) -> None:
        made = Measurement(name=name, label=label, dataset=self.dataset, rows=self.keys, runs=tuple(runs))
        self.found.append(made)
        tell(f"  {label}: {made.seconds:.3f} s {made.runs[-1].detail}")

    def repeated(self, name: str, label: str, once: Callable[[], Run], *, times: int | None = None) -> None:
        """The same several times."""
        self.note(name, label, [once() for _ in range(times or self.repeat)])


def run_of(seconds: float, **detail: Any) -> Run:
    """A run in other processes, of which only the time is known."""
    return Run(seconds=seconds, process_seconds=seconds, cpu_seconds=0.0, peak_bytes=0, detail=detail)
