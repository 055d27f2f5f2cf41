"""What the tests of the Dagster shell share: one control database a module, emptied for each test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
