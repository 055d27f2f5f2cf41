"""How many nested rows a batch of records holds, for files that hold only some of a document's records.

DuckDB counts the elements of the JSON arrays, which polars wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from export_pipelines.formats.nesting import Route
from export_pipelines.formats.parsing import quoted, reading_session

CountNested = Callable[[pa.RecordBatch, Iterable[Route]], dict[Route, int]]


@contextmanager
def nested_counting() -> Iterator[CountNested]:
    """A function that counts the rows below each route of a batch; usable until the context ends."""
    with reading_session() as session:

        def count(batch: pa.RecordBatch, routes: Iterable[Route]) -> dict[Route, int]:
            wanted = list(routes)
            columns = sorted({route[0] for route in wanted})
            session.register("records", pa.table({name: batch.column(name) for name in columns}))
            query = f"SELECT {', '.join(map(_elements, wanted))} FROM records"  # noqa: S608 - names of the catalog
            (found,) = session.execute(query).fetchall()
            session.unregister("records")
            return dict(zip(wanted, map(int, found), strict=True))

        yield count


def _elements(route: Route) -> str:
    """SQL for the rows of a batch below a route; field names are of the catalog's plain kind."""
    column = f'"{route[0]}"'
    if len(route) == 1:
        return f"coalesce(sum(json_array_length({column})), 0)"
    path = "$[*]" + "".join(f'."{field}"[*]' for field in route[1:])
    return f"coalesce(sum(len(json_extract({column}, {quoted(path)}))), 0)"
