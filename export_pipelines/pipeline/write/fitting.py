"""How many rows go into a file that may not be larger than a limit: guess, write, measure, and write again if need be.

The size of a finished file is known only when it is finished, since formats and codecs hold bytes back. What was
learned from one file makes the next guess, so rewriting is rare: at the start, and where rows change their nature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.wording import readable_size

AIM = 0.94  # of the limit
_SPARSE = 0.75  # a file below this is worth writing again
_GROWTHS = 2  # but not more often, since each is a rewrite
_PROPORTIONAL_TRIES = 3  # then rows are halved, for data of which some rows are much larger than others
MAX_FILES = 10_000

_File = TypeVar("_File")


class Misfit(Exception):
    """Raised while a file is written, so that the store drops it."""

    def __init__(self, *, rows: int, size_bytes: int) -> None:
        super().__init__(f"{rows} rows make {size_bytes} bytes")
        self.rows = rows
        self.size_bytes = size_bytes


class TooLarge(Misfit):
    """These rows are more than the limit."""


class TooSmall(Misfit):
    """These rows leave much of the limit unused, though there are more."""


@dataclass(frozen=True, kw_only=True)
class SizeLimit:
    """What the writer of one file must observe."""

    limit_bytes: int | None
    worth_growing: bool  # more rows are there, and it was not tried yet

    def check(self, rows: int, size_bytes: int, *, finished: bool = False) -> None:
        """Call while writing and once at the end; raises `Misfit`."""
        if self.limit_bytes is None:
            return
        if size_bytes > self.limit_bytes:
            raise TooLarge(rows=rows, size_bytes=size_bytes)
        if finished and self.worth_growing and size_bytes < _SPARSE * self.limit_bytes:
            raise TooSmall(rows=rows, size_bytes=size_bytes)


Write = Callable[[int, int, int, SizeLimit], _File]
"""(first row, rows, number of the file, limit) → the file."""


def fitted(
    total: int, write: Write[_File], *, limit_bytes: int | None, max_rows: int | None, guess_bytes: float, what: str
) -> Iterator[_File]:
    """Files that hold ``total`` rows one after another; one file when there are none.

    ``guess_bytes`` is what a row may take, ``what`` names the rows in errors. `RequestRejected` when a single row is
    larger than the limit.
    """
    start, number = 0, 1
    while start < total or number == 1:
        most = min(total - start, max_rows or total)
        rows = most if limit_bytes is None else _clamped(AIM * limit_bytes / max(guess_bytes, 1e-9), 1, most)
        file, rows, size_bytes = _fit(write, start, rows, most, number, limit_bytes, what)
        yield file
        guess_bytes = size_bytes / max(rows, 1)
        start, number = start + rows, number + 1
        if number > MAX_FILES and start < total:
            raise RequestRejected(
                f"{what} would make more than {MAX_FILES:,} files; choose a larger size", field="split_files"
            )


def _fit(
    write: Write[_File], start: int, rows: int, most: int, number: int, limit_bytes: int | None, what: str
) -> tuple[_File, int, float]:
    """One file, its rows, and its size as the next guess shall know it."""
    tries, ceiling, growths = 0, most, 0
    while True:
        tries += 1
        try:
            limit = SizeLimit(limit_bytes=limit_bytes, worth_growing=growths < _GROWTHS and rows < ceiling)
            file = write(start, rows, number, limit)
        except TooLarge as found:
            if rows <= 1:
                raise _too_large_row(what, rows, limit_bytes or 0) from None
            growths, ceiling = _GROWTHS, rows - 1
            fitting = AIM * found.rows * (limit_bytes or 0) / found.size_bytes
            rows = _clamped(fitting if tries <= _PROPORTIONAL_TRIES else rows / 2, 1, ceiling)
        except TooSmall as found:
            growths += 1
            rows = _clamped(AIM * found.rows * (limit_bytes or 0) / max(found.size_bytes, 1), rows + 1, ceiling)
        else:
            return file, rows, getattr(file, "size_bytes", 0)


def _too_large_row(what: str, rows: int, limit_bytes: int) -> RequestRejected:
    subject = "one row of it alone" if rows else "its frame alone, without a row,"
    return RequestRejected(
        f"{what}: {subject} makes a file larger than {readable_size(limit_bytes)}; "
        "choose a larger size, another format or a stronger compression",
        field="split_files.max_size_mb",
    )


def _clamped(wanted: float, least: int, most: int) -> int:
    return max(min(least, most), min(int(wanted), most))
