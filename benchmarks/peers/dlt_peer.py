"""dlt: the sql_database source with the ConnectorX backend, its fastest, into files in a folder."""

import argparse
import os

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "CRITICAL"

import dlt
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_table
from sqlalchemy import create_engine, text

KINDS = {"parquet": "parquet", "csv.gz": "csv"}


def export(arguments: argparse.Namespace) -> None:
    table = arguments.query.split(" FROM ")[1].split()[0]
    schema, _, name = table.partition(".")
    condition = arguments.query.split(" WHERE ")[1]
    source = sql_table(
        credentials=create_engine(arguments.url.replace("postgresql://", "postgresql+psycopg2://")),
        schema=schema,
        table=name,
        backend="connectorx",
        reflection_level="minimal",
        backend_kwargs={"conn": arguments.url, "return_type": "arrow_stream"},
        query_adapter_callback=lambda query, _table: query.where(text(condition)),
    )
    pipeline = dlt.pipeline(
        pipeline_name=f"bench_{name}",
        pipelines_dir=str(arguments.folder / "state"),
        destination=filesystem(bucket_url=(arguments.folder / "files").as_uri()),
        dataset_name="bench",
    )
    pipeline.run(source, loader_file_format=KINDS[arguments.format]).raise_on_failed_jobs()
