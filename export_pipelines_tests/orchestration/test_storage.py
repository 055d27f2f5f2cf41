"""Dagster's storage through kept connections: few of them, the same tables, and a server that was restarted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import yaml
from dagster import DagsterEventType, DagsterInstance, job, op
from dagster_postgres import DagsterPostgresStorage

from export_pipelines.embedded.workplace import DAGSTER_YAML, dagster_url
from export_pipelines.orchestration.storage import PooledPostgresStorage, _engine


@pytest.fixture
def url(database: Callable[[str], str]) -> Iterator[str]:
    """A database of its own, with the schema that Dagster's URL searches."""
    made = database("storage")
    with psycopg.connect(made, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster")
    yield made
    for engine in [_engine(dagster_url(made))]:
        engine.dispose()


@pytest.fixture
def home(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's own `dagster.yaml`."""
    (tmp_path / "dagster.yaml").write_text(DAGSTER_YAML.read_text())
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url(url))
    return tmp_path


@op
def work() -> None:
    pass


@job
def small_job() -> None:
    work()


def connections(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def opened(url: str) -> int:
    """Sessions since the database was made."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_clear_snapshot()")
        row = connection.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


def test_a_run_is_recorded_through_a_connection_that_stays(home: Path, url: str) -> None:
    with DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage._engine is _engine(dagster_url(url))  # type: ignore[attr-defined]
        assert small_job.execute_in_process(instance=instance).success
        before = opened(url)
        run = small_job.execute_in_process(instance=instance)
        events = instance.all_logs(run.run_id, of_type=DagsterEventType.RUN_SUCCESS)
    assert [event.run_id for event in events] == [run.run_id]
    assert opened(url) - before < 5  # one of them is of the counting
    assert connections(url) <= 2


def test_many_instances_of_a_process_hold_no_more_connections_than_one(home: Path, url: str) -> None:
    held = [DagsterInstance.from_config(str(home)) for _ in range(8)]
    assert all(instance.get_runs_count() == 0 for instance in held)
    assert connections(url) <= 2


def test_a_connection_that_was_cut_is_renewed(home: Path, url: str) -> None:
    with DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        assert small_job.execute_in_process(instance=instance).success


def test_dagsters_own_storage_reads_what_the_pooled_one_wrote(home: Path, url: str) -> None:
    with DagsterInstance.from_config(str(home)) as instance:
        run_id = small_job.execute_in_process(instance=instance).run_id
    plain = DagsterPostgresStorage(dagster_url(url))
    assert plain.run_storage.has_run(run_id)


def test_the_configuration_names_the_pooled_storage() -> None:
    chosen = yaml.safe_load(DAGSTER_YAML.read_text())["storage"]["custom"]
    assert (chosen["module"], chosen["class"]) == (PooledPostgresStorage.__module__, PooledPostgresStorage.__name__)


def test_several_that_start_on_a_new_database_make_its_tables_once(database: Callable[[str], str]) -> None:
    url = database("started")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster")
    address = dagster_url(url)
    together = threading.Barrier(4)

    def start(_: int) -> PooledPostgresStorage:
        together.wait()
        return PooledPostgresStorage(address)

    try:
        with ThreadPoolExecutor(4) as starting:
            made = list(starting.map(start, range(4)))
        assert [storage.run_storage.get_runs_count() for storage in made] == [0] * 4
    finally:
        _engine(address).dispose()
