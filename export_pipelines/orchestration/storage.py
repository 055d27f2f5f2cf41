"""Dagster's PostgreSQL storage with connections that stay open, as `dagster.yaml` names it.

dagster-postgres opens a connection for each statement, about 150 for a small export: more work for both sides than the
statements. Here all instances in a process share one engine, so nothing accumulates.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, Self, cast

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import pg_url_from_config
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

_KEPT, _MORE = 1, 20  # connections; a process has few threads that write events at the same time
_RENEWED_AFTER_SECONDS = 600
_MAKING_TABLES = 7_283_003  # any number that no other lock has
_WITH_TABLES: set[str] = set()  # URLs that this process has seen the tables at


class PooledPostgresStorage(DagsterPostgresStorage):
    """The same tables, read and written through the process's engine."""

    def __init__(self, postgres_url: str, *, inst_data: ConfigurableClassData | None = None) -> None:
        # Only a process's first instance looks whether there are tables; code servers make one for each tick.
        looks = postgres_url not in _WITH_TABLES
        with _alone(postgres_url) if looks else nullcontext():
            super().__init__(postgres_url, should_autocreate_tables=looks, inst_data=inst_data)
        _WITH_TABLES.add(postgres_url)
        engine: Any = _engine(postgres_url)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine  # noqa: SLF001 - the one place where they keep it

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """What Dagster calls with the configuration of `dagster.yaml`."""
        return cls(pg_url_from_config(cast("PostgresStorageConfig", config_value)), inst_data=inst_data)


@contextmanager
def _alone(url: str) -> Iterator[None]:
    """Of all processes on this database: on the first start each finds no tables, and two that make them fail."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _MAKING_TABLES})
        yield  # the lock goes with its connection


@cache
def _engine(url: str) -> Engine:
    return create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=_KEPT,
        max_overflow=_MORE,
        pool_recycle=_RENEWED_AFTER_SECONDS,
        pool_pre_ping=True,  # the server may have been restarted
    )
