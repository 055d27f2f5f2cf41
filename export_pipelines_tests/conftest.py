"""Real parts for every test: one embedded PostgreSQL a session, a fresh database on demand."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
from dagster_postgres import DagsterPostgresStorage
from psycopg import sql

from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.workplace import dagster_url
from export_pipelines.samples.loader import load_sample
from export_pipelines.settings import Settings
from export_pipelines.sources.copy_decoder.libpq import availability
from export_pipelines.sources.engines import Engine, choose_engine
from export_pipelines.stores.migrate import migrate
from export_pipelines_tests.control_database import as_before, shape
from export_pipelines_tests.host import Host, host_of
from export_pipelines_tests.lanes import examples
from export_pipelines_tests.workshop import (
    ClinicSource,
    FinishedExports,
    Workshop,
    login_url,
    make_workshop,
    open_workshop,
)

# How long an example takes depends on the machine's load, which no test may depend on.
hypothesis.settings.register_profile(
    "any machine", deadline=None, max_examples=examples(100), suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

pytest_plugins = ["export_pipelines_tests.servers.fixtures"]

ENGINES = ("native", "adbc")
MEMORY_BYTES = 2 * 1024**3  # free memory worth using for the test databases

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real server for the whole session (one for each test worker)."""
    with fast_folder(tmp_path_factory) as folder:
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
            server.delete_data()


@pytest.fixture(scope="session")
def engines_here() -> dict[str, str | None]:
    """Why an engine cannot run here, or None."""
    return {"native": availability(), "adbc": None}


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest, engines_here: dict[str, str | None]) -> Engine:
    """Both ways to read rows; the native one is skipped where it was not built."""
    if engines_here[request.param] is not None:
        pytest.skip(f"no {request.param} decoder: {engines_here[request.param]}")
    return choose_engine(request.param)


@contextmanager
def fast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is room: tests write much and keep nothing, and a disk's syncs only slow them."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES):
        yield tmp_path_factory.mktemp("postgres")
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="export-pipelines-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def database(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """``database(name)`` makes an empty database and answers its superuser URL."""

    def create(name: str) -> str:
        unique = f"{name}_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unique)))
        return postgres.url(unique)

    return create


@pytest.fixture(scope="session")
def clinic(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> ClinicSource:
    """The clinic sample with three tenants, and a login that may become the reader and the directory role."""
    admin_url = database("clinic")
    load_sample(admin_url, "clinic", tenants=3, rows=3_000)
    return ClinicSource(admin_url=admin_url, url=login_url(postgres, admin_url, "export_reader"))


@pytest.fixture(scope="session")
def control_template(database: Callable[[str], str]) -> str:
    """Name of a migrated control database to copy. Dagster's tables are in it, which its first run makes otherwise."""
    url = database("control_template")
    migrate(url)
    DagsterPostgresStorage(dagster_url(url))
    return urlsplit(url).path.removeprefix("/")


@pytest.fixture(scope="session")
def migrated_database(postgres: EmbeddedPostgres, control_template: str) -> Callable[[str], str]:
    """``migrated_database(name)`` makes an empty control database, which a module keeps; its superuser URL."""
    return lambda name: postgres.url(_copied(control_template, postgres, name))


@pytest.fixture(scope="session")
def control_shape(postgres: EmbeddedPostgres, control_template: str) -> tuple[object, ...]:
    """How a control database looks in which tests changed nothing but rows."""
    return shape(postgres.url(control_template))


@pytest.fixture(scope="session")
def idle_controls() -> list[str]:
    """Empty, migrated control databases that a test had before."""
    return []


@pytest.fixture
def control_url(
    postgres: EmbeddedPostgres, control_template: str, control_shape: tuple[object, ...], idle_controls: list[str]
) -> Iterator[str]:
    """An empty, migrated control database of the test's own."""
    name = idle_controls.pop() if idle_controls else _copied(control_template, postgres)
    yield postgres.url(name)
    if as_before(postgres.url(name), control_shape):
        idle_controls.append(name)
    else:
        administer(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _copied(template: str, postgres: EmbeddedPostgres, name: str = "control") -> str:
    name = f"{name}_{os.getpid()}_{next(_numbers)}"
    administer(
        postgres,
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)),
    )
    return name


def administer(postgres: EmbeddedPostgres, statement: sql.Composable) -> None:
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def workshop(clinic: ClinicSource, control_url: str, tmp_path: Path) -> Iterator[Workshop]:
    """Everything an export needs, on real databases and a local folder, with an instance of Dagster for one test."""
    settings = Settings(
        EXPORT_SOURCE_URL=clinic.url,
        EXPORT_CONTROL_URL=control_url,
        EXPORT_HOME=tmp_path,
        EXPORT_HEARTBEAT_SECONDS=0.2,
    )
    with make_workshop(settings) as made:
        yield made


@pytest.fixture(scope="session")
def finished(
    clinic: ClinicSource, migrated_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FinishedExports]:
    """Exports of the clinic that were made once, for tests of what is done with them."""
    settings = Settings(
        EXPORT_SOURCE_URL=clinic.url,
        EXPORT_CONTROL_URL=migrated_database("finished"),
        EXPORT_HOME=tmp_path_factory.mktemp("finished"),
        EXPORT_HEARTBEAT_SECONDS=0.2,
    )
    with open_workshop(settings) as made:
        yield FinishedExports(made)


@pytest.fixture
def case_host(postgres: EmbeddedPostgres, control_url: str, tmp_path: Path) -> Callable[..., Host]:
    """``case_host("reverse_fk")`` loads `cases/reverse_fk.sql` into a new database, of another ``server=`` if named."""
    numbers = itertools.count(1)

    def load(script: str, **options: Any) -> Host:
        folder = tmp_path / f"host-{next(numbers)}"
        folder.mkdir()
        return host_of(script, **{"server": postgres, "control_url": control_url, "folder": folder, **options})

    return load
