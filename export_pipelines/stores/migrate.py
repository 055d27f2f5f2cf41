"""Brings the control database to the schema this version needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from export_pipelines.core.errors import Unavailable

SCHEMA = "export_control"
DAGSTER_SCHEMA = "dagster"
_LOCK = 7_283_001  # any fixed number: two processes that migrate at once take turns


def migrate(url: str) -> tuple[str | None, str]:
    """Apply all steps; (revision before, revision after). Safe to call from several processes at once."""
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    config = _config()
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            for schema in (SCHEMA, DAGSTER_SCHEMA):
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
            before = _current(connection)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        raise Unavailable(f"control database does not answer: {str(error.orig).strip()}") from error
    return before, head()


def head() -> str:
    """The newest revision this version knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": "schema_version", "version_table_schema": SCHEMA})
    return context.get_current_revision()
