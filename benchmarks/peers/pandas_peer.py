"""pandas: read_sql in chunks through a server-side cursor, so that it need not hold the table twice."""

import argparse

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import create_engine

CHUNK_ROWS = 100_000


def export(arguments: argparse.Namespace) -> None:
    engine = create_engine(arguments.url.replace("postgresql://", "postgresql+psycopg2://"))
    write = {"csv.gz": _csv, "parquet": _parquet}[arguments.format]
    with engine.connect().execution_options(stream_results=True, max_row_buffer=CHUNK_ROWS) as connection:
        write(pd.read_sql(arguments.query, connection, chunksize=CHUNK_ROWS), arguments)


def _csv(chunks, arguments: argparse.Namespace) -> None:
    target = arguments.folder / "rows.csv.gz"
    for number, chunk in enumerate(chunks):
        chunk.to_csv(target, mode="ab" if number else "wb", header=not number, index=False, compression="gzip")


def _parquet(chunks, arguments: argparse.Namespace) -> None:
    writer = None
    for chunk in chunks:
        for name in chunk.select_dtypes("object").columns:
            kinds = {type(value).__name__ for value in chunk[name].head(1000)}
            if kinds & {"UUID", "dict", "list"}:  # pyarrow takes none of them from a column of objects
                chunk[name] = chunk[name].astype(str)
        table = pa.Table.from_pandas(chunk, preserve_index=False, schema=writer.schema if writer else None)
        writer = writer or pq.ParquetWriter(arguments.folder / "rows.parquet", table.schema)
        writer.write_table(table)
    writer.close()
