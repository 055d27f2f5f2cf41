"""Rows from PostgreSQL as Arrow batches, through psycopg's connection and our own decoder of binary COPY."""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import suppress

import psycopg
import pyarrow as pa
from psycopg import pq
from psycopg.errors import error_from_result

from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.sources.conform import decimal_misfit
from export_pipelines.sources.copy_decoder._decoder import Decoder, Malformed, Misfit
from export_pipelines.sources.copy_decoder.batches import open_decoder, take_batch
from export_pipelines.sources.copy_decoder.columns import DecodedColumn, decoded_columns
from export_pipelines.sources.copy_decoder.libpq import functions
from export_pipelines.sources.session import CONNECT_TIMEOUT_SECONDS, describe
from export_pipelines.sources.stream import BATCH_BYTES, joining_snapshot, translated

BATCH_ROWS = 64 * 1024
_CANCEL_TIMEOUT_SECONDS = 5
_POLL_MILLISECONDS = 100


class CopyReader:
    """A connection on which ``statements`` opened a transaction."""

    def __init__(self, url: str, statements: Sequence[str]) -> None:
        self._url = url
        with translated(url):
            self._connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS)
            try:
                for statement in statements:
                    with joining_snapshot(url, statement):
                        self._connection.execute(statement.encode())
            except BaseException:
                self._connection.close()
                raise

    def read(self, query: str, schema: pa.Schema, table: str) -> Iterator[pa.RecordBatch]:
        with translated(self._url):
            names, columns = self._describe(query, schema)
            decoder = open_decoder(columns, max_rows=BATCH_ROWS, max_bytes=BATCH_BYTES)
            try:
                self._connection.pgconn.send_query(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode())
                self._answer(pq.ExecStatus.COPY_OUT)
                while self._receive(decoder, schema, table):
                    yield take_batch(decoder, columns, names)
                self._end_copy(decoder)
            except BaseException:
                self._abandon()
                raise
            if decoder.rows:
                yield take_batch(decoder, columns, names)

    def close(self) -> None:
        self._connection.close()

    def _describe(self, query: str, schema: pa.Schema) -> tuple[list[str], list[DecodedColumn]]:
        """Names and types of the result, by the server's parser: the stream itself tells no types."""
        connection = self._connection.pgconn
        connection.send_prepare(b"", query.encode())
        self._answer(pq.ExecStatus.COMMAND_OK)
        connection.send_describe_prepared(b"")
        described = self._answer(pq.ExecStatus.COMMAND_OK)
        names = [(described.fname(i) or b"").decode() for i in range(described.nfields)]
        return names, decoded_columns([described.ftype(i) for i in range(described.nfields)], schema)

    def _answer(self, status: pq.ExecStatus) -> pq.abc.PGresult:
        """What the server answers to the last thing sent; signals are heard while it takes its time."""
        connection = self._connection.pgconn
        waiting = select.poll()
        waiting.register(connection.socket, select.POLLIN)
        while connection.is_busy():
            waiting.poll(_POLL_MILLISECONDS)
            connection.consume_input()
        result = connection.get_result()
        if result is None:
            raise psycopg.OperationalError(connection.get_error_message())
        if result.status != status:
            raise error_from_result(result)
        while status != pq.ExecStatus.COPY_OUT and connection.get_result() is not None:
            pass
        return result

    def _receive(self, decoder: Decoder, schema: pa.Schema, table: str) -> bool:
        """Fill a batch; False when the stream is at its end."""
        try:
            return decoder.receive(self._connection.pgconn.pgconn_ptr or 0, functions())  # type: ignore[attr-defined]
        except Misfit as error:
            field = schema.field(error.args[1])
            raise decimal_misfit(field, f"{table}.{field.name}") from error
        except Malformed as error:
            problem, column = error.args
            where = f" in column {column + 1} of the query" if column >= 0 else ""
            raise IntegrityViolation(
                f"{table}: the rows from {describe(self._url)} cannot be decoded, {problem}{where}; "
                "EXPORT_DECODER=adbc reads without this decoder"
            ) from error

    def _end_copy(self, decoder: Decoder) -> None:
        self._answer(pq.ExecStatus.COMMAND_OK)
        if not decoder.finished:
            raise psycopg.OperationalError("the stream ended before its trailer")

    def _abandon(self) -> None:
        """Have the server stop; whoever holds the connection closes it."""
        with suppress(psycopg.Error):
            self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT_SECONDS)
