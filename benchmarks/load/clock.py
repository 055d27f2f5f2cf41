"""Every call that was made: its kind, how long it took, whether it went wrong."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx


class WentWrong(Exception):
    """An answer that a user of the API should never see, in a few words."""


@dataclass
class Clock:
    """Latencies by kind of call, exports by how long they took, errors by their words."""

    started: float = field(default_factory=time.perf_counter)
    calls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    exports: list[float] = field(default_factory=list)  # seconds from POST to completed, as the user saw it
    errors: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows: int = 0
    size_bytes: int = 0  # downloaded and found to have the checksum

    @contextmanager
    def timing(self, kind: str) -> Iterator[None]:
        """One call; an error is counted and handed on as `WentWrong`."""
        began = time.perf_counter()
        try:
            yield
        except (httpx.HTTPError, WentWrong) as error:
            raise self.wrong(kind, str(error) if isinstance(error, WentWrong) else type(error).__name__) from error
        self.calls[kind].append(time.perf_counter() - began)

    def wrong(self, kind: str, words: str) -> WentWrong:
        """Counts an error; the exception to raise."""
        self.errors[f"{kind}: {words}"] += 1
        return WentWrong(words)

    def reported(self) -> dict[str, Any]:
        """The figures, as they are saved."""
        seconds = time.perf_counter() - self.started
        made = sum(map(len, self.calls.values())) + sum(self.errors.values())
        return {
            "seconds": seconds,
            "requests": made,
            "requests_per_second": made / seconds,
            "error_rate": sum(self.errors.values()) / made if made else 0.0,
            "errors": dict(self.errors),
            "calls": {kind: {"per_second": len(each) / seconds, **spread(each)} for kind, each in self.calls.items()},
            "exports": {"count": len(self.exports), "per_minute": 60 * len(self.exports) / seconds}
            | spread(self.exports),
            "rows": self.rows,
            "downloaded_bytes": self.size_bytes,
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, p95 and p99 by nearest rank, and the longest; nothing of nothing."""
    if not values:
        return {}
    found = sorted(values)
    return {
        "median": statistics.median(found),
        **{f"p{share}": found[-(-len(found) * share // 100) - 1] for share in (95, 99)},
        "longest": found[-1],
    }
