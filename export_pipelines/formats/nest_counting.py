"""How many nested rows a batch of records holds, for files that hold only some of a document's records.

DuckDB counts the elements of the JSON arrays, which polars wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import pyarrow as pa

from export_pipelines.formats.nesting import Route
from export_pipelines.formats.parsing import quoted, reading_session


class NestedCounter:
    """Adds up the rows below each route; `rows` starts at 0 for all of them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.rows = dict.fromkeys(routes, 0)
        self._opened = reading_session()

    def __enter__(self) -> Self:
        self._session = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)

    def add(self, batch: pa.RecordBatch) -> None:
        counts = [_count(route) for route in self.rows]
        columns = sorted({route[0] for route in self.rows})
        records = pa.table({name: batch.column(name) for name in columns})
        self._session.register("records", records)
        (found,) = self._session.execute(f"SELECT {', '.join(counts)} FROM records").fetchall()  # noqa: S608 - names of the catalog
        self._session.unregister("records")
        for route, rows in zip(self.rows, found, strict=True):
            self.rows[route] += int(rows)


def _count(route: Route) -> str:
    """SQL for the rows of a batch below a route; field names are of the catalog's plain kind."""
    column = f'"{route[0]}"'
    if len(route) == 1:
        return f"coalesce(sum(json_array_length({column})), 0)"
    path = "$[*]" + "".join(f'."{field}"[*]' for field in route[1:])
    return f"coalesce(sum(len(json_extract({column}, {quoted(path)}))), 0)"
