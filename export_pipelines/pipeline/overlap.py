"""Work on two cores at a time: items made ahead of who needs them, calls made behind who asked for them.

Both keep the order, hold at most two items or calls, and hand errors to the other side. Decoding, parsing, hashing and
compressing leave Python's lock, so that a thread each is enough.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Argument = TypeVar("_Argument")
_LOOK_SECONDS = 0.1  # how often a maker that waits looks whether anybody still wants its items


@dataclass(frozen=True)
class _Ended:
    """The last thing in a queue."""

    error: BaseException | None = None


def ahead(items: Iterable[_Item]) -> Iterator[_Item]:
    """The same items; while one is worked on, a thread makes the next. What ends their making is raised here."""
    made: queue.Queue[Any] = queue.Queue(1)
    unwanted = threading.Event()

    def put(item: object) -> bool:
        while not unwanted.is_set():
            with suppress(queue.Full):
                made.put(item, timeout=_LOOK_SECONDS)
                return True
        return False

    def make() -> None:
        iterator = iter(items)
        try:
            all(put(item) for item in iterator)
            put(_Ended())
        except BaseException as error:  # noqa: BLE001 - handed over
            put(_Ended(error))
        finally:
            getattr(iterator, "close", lambda: None)()

    maker = threading.Thread(target=make, name="ahead", daemon=True)
    maker.start()
    try:
        while not isinstance(item := made.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        unwanted.set()
        maker.join()


@contextmanager
def behind(call: Callable[[_Argument], object]) -> Iterator[Callable[[_Argument], None]]:
    """``call`` in a thread, one behind its caller.

    A failure surfaces at the next call, or at the end; when the caller fails, a call at work is waited for.
    """
    with ThreadPoolExecutor(1, "behind") as thread:
        last: Future[object] | None = None

        def submit(argument: _Argument) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = thread.submit(call, argument)

        yield submit
        if last is not None:
            last.result()
