"""How many calls of a process may do the same costly thing at once, and how many of them for one user."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from export_pipelines.core.errors import TooMany


class ConcurrencyLimit:
    """``at_once`` work, ``waiting`` more wait for them in order of luck; everybody else is told to come back.

    Waiting keeps a thread of the server, so ``waiting`` is small. Enter it outside of transactions: a connection of the
    pool that waits is one that nobody else has.
    """

    def __init__(self, what: str, *, at_once: int, waiting: int, per_subject: int, retry_seconds: float) -> None:
        self._what = what
        self._most = at_once + waiting
        self._per_subject = per_subject
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._total = 0
        self._working = threading.BoundedSemaphore(at_once)

    @contextmanager
    def held(self, *subjects: str) -> Iterator[None]:
        """A place of each subject's. `TooMany` at once when one of them has as many as it may, or all are taken."""
        self._enter(subjects)
        try:
            with self._working:
                yield
        finally:
            self._leave(subjects)

    def _enter(self, subjects: tuple[str, ...]) -> None:
        with self._lock:
            own = any(self._held[subject] >= self._per_subject for subject in subjects)
            if own or self._total >= self._most:
                whose = f"at most {self._per_subject} of one user" if own else f"at most {self._most}"
                raise TooMany(
                    f"too many {self._what} at once ({whose}); try again shortly",
                    retry_after_seconds=self._retry_seconds,
                )
            self._held.update(subjects)
            self._total += 1

    def _leave(self, subjects: tuple[str, ...]) -> None:
        with self._lock:
            self._held.subtract(subjects)
            for subject in subjects:
                if not self._held[subject]:
                    del self._held[subject]
            self._total -= 1
