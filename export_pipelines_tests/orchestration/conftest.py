"""What the tests of the Dagster shell share: one control database a module, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from dagster import DagsterInstance

from export_pipelines.embedded.workplace import DAGSTER_YAML, dagster_url
from export_pipelines.orchestration.storage import _engine
from export_pipelines.stores.migrate import migrate
from export_pipelines_tests.control_database import emptied


@pytest.fixture(scope="module")
def migrated(database: Callable[[str], str]) -> str:
    url = database("orchestration")
    migrate(url)
    return url


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
