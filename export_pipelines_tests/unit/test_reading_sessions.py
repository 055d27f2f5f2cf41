"""A reader's DuckDB is as new, although the database below it has served others."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest

from export_pipelines.formats.parsing import reading_session


def test_what_a_reader_registers_is_not_there_for_the_next() -> None:
    with reading_session() as session:
        session.register("rows_of_somebody", pa.table({"a": [1]}))
        session.execute("CREATE TEMP TABLE kept AS SELECT * FROM rows_of_somebody")
    for name in ("rows_of_somebody", "kept"):
        with reading_session() as session, pytest.raises(duckdb.CatalogException):
            session.execute(f"SELECT * FROM {name}")


def test_a_database_whose_reader_failed_serves_nobody_else() -> None:
    spoil = "CREATE TABLE spoiled AS SELECT 1 AS a; SELECT nothing"  # a table of the database, not of the session
    with pytest.raises(duckdb.BinderException), reading_session() as session:
        session.execute(spoil)
    with reading_session() as session, pytest.raises(duckdb.CatalogException):
        session.execute("SELECT * FROM spoiled")


def test_two_readers_at_once_have_a_database_each() -> None:
    with reading_session() as first, reading_session() as second:
        first.execute("CREATE TABLE ours AS SELECT 1 AS a")
        with pytest.raises(duckdb.CatalogException):
            second.execute("SELECT * FROM ours")
        first.execute("DROP TABLE ours")
