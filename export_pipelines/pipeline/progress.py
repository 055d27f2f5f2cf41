"""Tells the request table that a run is alive and how far it is, and tells the run when to stop.

A thread writes at most once a heartbeat, whatever the rows do; the run itself only counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from export_pipelines.core.errors import Cancelled, Unavailable
from export_pipelines.core.ports import Progress
from export_pipelines.pipeline.memory import release_unused
from export_pipelines.stores.requests import RequestStore

_log = structlog.get_logger(__name__)

# Share of the whole that is done when a step ends; measured on 1M rows to CSV, close enough for the others.
STEP_ENDS = {"plan": 2.0, "stage": 45.0, "convert": 70.0, "validate": 92.0, "package": 97.0, "publish": 99.0}
STEPS = tuple(STEP_ENDS)


class Unwatched:
    """Progress that nobody reads and nobody can stop: a lake partition is reported when it is whole."""

    def advance(self, *, table: str, rows: int) -> None:
        """Counted by whoever reads the rows."""

    def expect(self, rows: int) -> None:
        """Nobody waits for it."""

    def file_created(self) -> None:
        """A partition is one object."""


@dataclass
class RunProgress:
    """Counts of one step of one run; `export_pipelines.core.ports.Progress`."""

    step: str
    expected_rows: int
    rows: int = 0
    files: int | None = None
    table: str | None = None
    stop: str | None = None  # why the run must stop
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def advance(self, *, table: str, rows: int) -> None:
        """Count rows; `Cancelled` when somebody asked to stop or the request belongs to another run."""
        if self.stop is not None:
            raise Cancelled(self.stop)
        with self._lock:
            self.table = table
            self.rows += rows

    def expect(self, rows: int) -> None:
        """How many rows this step will see; a planner's guess is good enough."""
        self.expected_rows = rows

    def file_created(self) -> None:
        with self._lock:
            self.files = (self.files or 0) + 1

    @property
    def percentage(self) -> float:
        """Of the whole export, by the rows of this step."""
        position = STEPS.index(self.step)
        start = STEP_ENDS[STEPS[position - 1]] if position else 0.0
        share = min(1.0, self.rows / self.expected_rows) if self.expected_rows else 0.0
        return round(start + (STEP_ENDS[self.step] - start) * share, 2)


@dataclass
class Rereading:
    """Progress of rows that are read again: only what was not told before is told."""

    progress: Progress
    reported: int = 0
    rows: int = 0

    def again(self) -> None:
        """From the first row."""
        self.rows = 0

    def advance(self, *, table: str, rows: int) -> None:
        self.rows += rows
        self.progress.advance(table=table, rows=max(0, self.rows - self.reported))
        self.reported = max(self.reported, self.rows)

    def expect(self, rows: int) -> None:
        self.progress.expect(rows)

    def file_created(self) -> None:
        self.progress.file_created()


@dataclass
class Together:
    """Progress of several readers at once, which one failure stops."""

    progress: Progress
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self) -> None:
        """`Cancelled` from the next `advance` of each reader."""
        self._stopped.set()

    def advance(self, *, table: str, rows: int) -> None:
        if self._stopped.is_set():
            raise Cancelled("another table could not be read")
        with self._lock:
            self.progress.advance(table=table, rows=rows)

    def expect(self, rows: int) -> None:
        self.progress.expect(rows)

    def file_created(self) -> None:
        self.progress.file_created()


@contextmanager
def reporting(
    requests: RequestStore, request_id: str, run_id: str, *, step: str, expected_rows: int, every_seconds: float
) -> Iterator[RunProgress]:
    """Progress of one step, written every ``every_seconds`` and once at the end.

    After the last step the request is complete and takes no more reports.
    """
    progress = RunProgress(step=step, expected_rows=expected_rows)
    ended = threading.Event()

    def report() -> None:
        held = requests.record_progress(
            request_id,
            run_id=run_id,
            rows_processed=progress.rows if step == "stage" else None,
            # A guess may be too low; a total below what has been read would be nonsense.
            total_rows=max(progress.rows, progress.expected_rows) if step == "stage" else None,
            current_table=progress.table,
            files_created=progress.files,
            percentage=progress.percentage,
        )
        if held is None:
            progress.stop = "another run has taken this request over"
        elif held:
            progress.stop = "cancelled on request"

    def keep_reporting() -> None:
        while not ended.wait(every_seconds):
            try:
                report()
            except Unavailable as error:  # the next beat may succeed; the reconciler judges a silence
                _log.warning("heartbeat_failed", request_id=request_id, error=str(error))

    thread = threading.Thread(target=keep_reporting, name=f"heartbeat-{request_id}", daemon=True)
    report()
    thread.start()
    try:
        progress.advance(table=progress.table or "", rows=0)
        progress.table = progress.table or None
        yield progress
        if step == STEPS[-1]:
            return
        report()
        if progress.stop is not None:
            raise Cancelled(progress.stop)
    finally:
        ended.set()
        thread.join()
        release_unused()
