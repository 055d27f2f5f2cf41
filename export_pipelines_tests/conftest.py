"""Real parts for every test: one embedded PostgreSQL a session, a fresh database on demand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from export_pipelines.embedded.postgres import EmbeddedPostgres

pytest_plugins = ["export_pipelines_tests.servers.fixtures"]

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real server for the whole session (one for each test worker)."""
    server = EmbeddedPostgres(Path(tmp_path_factory.mktemp("postgres")))
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.delete_data()


@pytest.fixture(scope="session")
def database(postgres: EmbeddedPostgres) -> Callable[[str], str]:
    """``database(name)`` makes an empty database and answers its superuser URL."""

    def create(name: str) -> str:
        unique = f"{name}_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unique)))
        return postgres.url(unique)

    return create
