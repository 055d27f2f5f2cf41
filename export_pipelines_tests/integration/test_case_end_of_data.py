"""A value that looks like the end of COPY's data is a value: on PostgreSQL 15 and 18, and with psql of either."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pyarrow as pa
import pytest

from export_pipelines.core.migration import LOAD_FILE, LoadColumn, LoadTable, MigrationScripts
from export_pipelines.core.types import field_of
from export_pipelines.embedded.binaries import locate
from export_pipelines.packaging.migration_scripts import copy_statement, migration_files
from export_pipelines_tests.chain import written
from export_pipelines_tests.host import create_database
from export_pipelines_tests.servers.debian_postgres import INSTALLATIONS

OLDEST = min(INSTALLATIONS.glob("*/bin"), key=lambda path: int(path.parent.name)) / "psql"
NEWEST = locate().program("psql")
ALONE, INSIDE = ["a", r"\.", None, "", "c"], ["first\n\\.\nlast", "after"]


def package(folder: Path, values: list[str | None]) -> MigrationScripts:
    """A migration of one table with one column, in the folder."""
    rows = pa.table([pa.array(values, pa.string())], schema=pa.schema([field_of("code", "text")]))
    path, _ = written(rows, "csv", folder, "codes")
    column = LoadColumn(name="code", type="text")
    scripts = MigrationScripts(
        schema="moved",
        before=("CREATE TABLE codes (code text)",),
        after=(),
        tables=(LoadTable(table="codes", schema=None, name="codes", columns=(column,)),),
    )
    plan = cast("Any", SimpleNamespace(request_id="r", format="csv"))
    file = cast("Any", SimpleNamespace(path=path.name, parts=[SimpleNamespace(table="codes", rows=len(values))]))
    for name, content in migration_files(plan, scripts, [file]).items():
        (folder / name).write_bytes(content)
    return scripts


def load(psql: Path | str, url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(psql), "-X", "-q", "-d", url, "-f", LOAD_FILE]
    environment = {**os.environ, "LC_ALL": "C", "PGOPTIONS": "-c default_transaction_read_only=on -c array_nulls=off"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def found(url: str, table: str = "moved.codes") -> list[str | None]:
    with psycopg.connect(url) as connection:
        return [code for (code,) in connection.execute(f"SELECT code FROM {table}")]


@pytest.mark.parametrize("psql", [OLDEST, NEWEST], ids=["old psql", "new psql"])
@pytest.mark.parametrize("server", ["postgres", "debian_postgres"])
def test_psql_loads_all_rows_or_none(
    request: pytest.FixtureRequest, tmp_path: Path, server: str, psql: Path | str
) -> None:
    running = request.getfixturevalue(server)
    url = create_database(running, "end_of_data")
    package(tmp_path, ALONE)
    assert (done := load(psql, url, tmp_path)).returncode == 0, done.stderr
    assert found(url) == ALONE
    url = create_database(running, "end_of_data")
    package(tmp_path, INSIDE)
    done = load(psql, url, tmp_path)
    if psql == OLDEST:
        assert "unterminated CSV quoted field" in done.stderr
        assert done.returncode == 3
        with pytest.raises(psycopg.errors.UndefinedTable):
            found(url)
    else:
        assert done.returncode == 0, done.stderr
        assert found(url) == INSIDE


@pytest.mark.parametrize("server", ["postgres", "debian_postgres"])
def test_copy_of_any_server_takes_such_values(request: pytest.FixtureRequest, tmp_path: Path, server: str) -> None:
    url = create_database(request.getfixturevalue(server), "end_of_data")
    (table,) = package(tmp_path, ALONE + INSIDE).tables
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE codes (code text)")
        with connection.cursor() as cursor, cursor.copy(copy_statement(table).encode()) as copy:
            copy.write((tmp_path / "codes.csv").read_bytes().partition(b"\r\n")[2])
    assert found(url, "public.codes") == ALONE + INSIDE


def test_rows_that_are_missing_undo_the_whole_load(database: Callable[[str], str], tmp_path: Path) -> None:
    url = database("missing_rows")
    package(tmp_path, ALONE)
    path = tmp_path / "codes.csv"
    path.write_bytes(path.read_bytes().replace(b'"\\."\r\n', b""))
    done = load(NEWEST, url, tmp_path)
    assert done.returncode == 3
    assert "codes: not all 5 rows of its files arrived, nothing is kept" in done.stderr
    with pytest.raises(psycopg.errors.UndefinedTable):
        found(url)
