"""What the tests of the Dagster shell share: a control database a module, emptied for each test, and lakes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from dagster import DagsterInstance
from psycopg import sql

from export_pipelines.catalog.load import dump_catalog
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.workplace import DAGSTER_YAML, dagster_url
from export_pipelines.orchestration.storage import _engine
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.settings import Settings
from export_pipelines_tests.control_database import emptied
from export_pipelines_tests.orchestration.lake import Lake, OpenLake, Tables, changed
from export_pipelines_tests.workshop import ClinicSource, login_url, make_workshop

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    return migrated_database("orchestration")


@pytest.fixture
def control_url(migrated: str) -> str:
    return emptied(migrated)


@pytest.fixture
def instance(
    database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    """One by the project's own `dagster.yaml`, on a database of its own."""
    url = database("dagster")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster")
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML.read_text())
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", dagster_url(url))
    with DagsterInstance.from_config(str(home)) as made:
        yield made
    _engine(dagster_url(url)).dispose()


@pytest.fixture
def open_lake(clinic: ClinicSource, control_url: str, tmp_path: Path) -> Iterator[OpenLake]:
    """``open_lake(source=…, tables={"pets": {…}}, history_start=…)``: on the clinic, with changes to its catalog.

    ``home`` is that of another lake, to see it with another catalog.
    """
    with ExitStack() as stack:

        def opened(
            source: ClinicSource = clinic, tables: Tables | None = None, home: Path | None = None, **changes: Any
        ) -> Lake:
            catalog = changed(open_catalog(Settings(EXPORT_HOME=tmp_path)), tables or {}, **changes)
            home = home or tmp_path / f"home{next(_numbers)}"
            home.mkdir(exist_ok=True)
            path = home / "catalog.yaml"
            path.write_text(dump_catalog(catalog), encoding="utf-8")
            settings = Settings(
                EXPORT_SOURCE_URL=source.url, EXPORT_CONTROL_URL=control_url, EXPORT_HOME=home, EXPORT_CATALOG=path
            )
            return Lake(workshop=stack.enter_context(make_workshop(settings)), admin_url=source.admin_url)

        yield opened


@pytest.fixture
def lake(open_lake: OpenLake) -> Lake:
    return open_lake()


@pytest.fixture
def spare(postgres: EmbeddedPostgres, clinic: ClinicSource) -> Iterator[ClinicSource]:
    """A copy of the clinic to break."""
    template, name = urlsplit(clinic.admin_url).path[1:], f"spare_{next(_numbers)}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        connection.execute(copy)
        yield ClinicSource(admin_url=postgres.url(name), url=login_url(postgres, postgres.url(name), "export_reader"))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
