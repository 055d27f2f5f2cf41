"""Rows from PostgreSQL as Arrow batches, through ADBC's binary COPY: what works wherever wheels do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import adbc_driver_postgresql.dbapi as adbc
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from export_pipelines.sources.stream import BATCH_BYTES, joining_snapshot, translated

_QUOTING = "-c quote_all_identifiers=off"


class AdbcReader:
    """A connection on which ``statements`` opened a transaction."""

    def __init__(self, url: str, statements: Sequence[str]) -> None:
        self._url = url
        with translated(url):
            self._connection = _opened(url)
            try:
                with self._connection.cursor() as cursor:
                    for statement in statements:
                        self._begin(cursor, statement)
            except BaseException:
                self._connection.close()
                raise

    def _begin(self, cursor: adbc.Cursor, statement: str) -> None:
        with joining_snapshot(self._url, statement):
            cursor.execute(statement)
        if statement.startswith("SELECT"):
            cursor.fetchall()

    def read(self, query: str, _schema: pa.Schema, _table: str) -> Iterator[pa.RecordBatch]:
        with translated(self._url), self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(BATCH_BYTES)})
            cursor.execute(query)
            yield from cursor.fetch_record_batch()

    def close(self) -> None:
        self._connection.close()


def _opened(url: str) -> adbc.Connection:
    """A connection that knows text for text.

    ADBC finds out about types when it connects, by names that PostgreSQL prints quoted under quote_all_identifiers, and
    takes every type for an unknown one. Then it is told at the start; not always, since poolers may refuse options.
    """
    connection = adbc.connect(url, autocommit=True)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT ''::pg_catalog.text")
            known = cursor.fetch_arrow_table().schema.field(0).type == pa.string()
    except BaseException:
        connection.close()
        raise
    if known:
        return connection
    connection.close()
    given = conninfo_to_dict(url).get("options", "")
    return adbc.connect(make_conninfo(url, options=f"{given} {_QUOTING}".strip()), autocommit=True)
