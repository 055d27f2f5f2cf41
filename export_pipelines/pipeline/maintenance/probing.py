"""Whether what exports need works now, by using it: the source is asked, the object store is written to and read."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime

from export_pipelines.core.errors import ExportError, Unavailable
from export_pipelines.core.naming import probe_key
from export_pipelines.core.ports import ObjectStore

TIMEOUT_SECONDS = 5.0
FRESH_SECONDS = 5.0
_BYTES = 1024  # a file system without space still takes an empty file


def probe_store(store: ObjectStore) -> None:
    """Write an object, read it back and delete it; `Unavailable` when any of that fails.

    What a killed process leaves behind, the nightly cleanup sweeps.
    """
    content = secrets.token_bytes(_BYTES)
    key = probe_key(secrets.token_hex(16))
    try:
        with store.writing(key) as sink:
            sink.write(content)
        with store.reading(key) as source:
            found = source.read()
        store.delete(key)
    except (ExportError, OSError) as error:
        raise Unavailable(f"the object store takes no objects: {error}") from error
    if found != content:
        raise Unavailable("the object store gives back other bytes than were written")


class Probe:
    """A probe that many may ask at once: one runs at a time, nobody waits long, and its answer is good for a while."""

    def __init__(
        self,
        probe: Callable[[], None],
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        fresh_seconds: float = FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._timeout_seconds = timeout_seconds
        self._fresh_seconds = fresh_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: Future[None] | None = None
        self._ended_at = 0.0

    def __call__(self) -> None:
        """`Unavailable` when the probe fails, or has not ended in time."""
        asked = self._fresh()
        try:
            asked.result(self._timeout_seconds)
        except NotInTime as error:
            raise Unavailable(f"no answer within {self._timeout_seconds:g} s") from error

    def _fresh(self) -> Future[None]:
        """The one that runs, or has ended lately, or else a new one; in a thread, for what hangs cannot be ended."""
        with self._lock:
            asked = self._asked
            if asked is None or (asked.done() and self._clock() - self._ended_at > self._fresh_seconds):
                asked = self._asked = Future()
                threading.Thread(target=self._run, args=(asked,), name="probe", daemon=True).start()
            return asked

    def _run(self, asked: Future[None]) -> None:
        problem: BaseException | None = None
        try:
            self._probe()
        except Exception as error:  # noqa: BLE001 - those who wait are told
            problem = error if isinstance(error, Unavailable) else Unavailable(f"{type(error).__name__}: {error}")
        self._ended_at = self._clock()
        if problem is None:
            asked.set_result(None)
        else:
            asked.set_exception(problem)
