"""Which way rows are read: by our own decoder of binary COPY where it was built, else through ADBC.

Both give the same batches. They differ in speed, and in which columns the query has to cast to text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from export_pipelines.core.errors import RequestRejected
from export_pipelines.sources.copy_decoder.columns import UNCAST
from export_pipelines.sources.copy_decoder.libpq import availability
from export_pipelines.sources.query import NO_CASTS, Casts
from export_pipelines.sources.stream import RowReader

Choice = Literal["auto", "native", "adbc"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A way to read rows."""

    name: str
    open: Callable[[str, Sequence[str]], RowReader]  # (url, statements that open the session)
    uncast: Casts  # that it makes itself
    note: str = ""  # why it was chosen, where one might wonder

    def __str__(self) -> str:
        return f"{self.name} decoder{self.note and f' ({self.note})'}"


def choose_engine(choice: Choice = "auto") -> Engine:
    """The engine of that name; `RequestRejected` when it is wanted and cannot work here."""
    problem = availability()
    if choice == "native" and problem is not None:
        raise RequestRejected(
            f"the native decoder is not available ({problem}); or set auto, which falls back to adbc",
            field="EXPORT_DECODER",
        )
    if choice == "adbc" or problem is not None:
        note = f"native: {problem}" if problem and choice == "auto" else ""
        from export_pipelines.sources.adbc_stream import AdbcReader  # imports polars, which not every process needs

        return Engine(name="adbc", open=AdbcReader, uncast=NO_CASTS, note=note)
    from export_pipelines.sources.copy_stream import CopyReader  # only where its C part was built

    return Engine(name="native", open=CopyReader, uncast=UNCAST)
