"""Makes the schema of a new control database, or applies alembic's steps to an old one.

`export_pipelines.stores.migrate` decides whether there is anything to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.stores.control_schema import API_ROLE, DAGSTER_SCHEMA, SCHEMA, head, schema_script

_LOCK = 7_283_001  # any fixed number: two processes that migrate at once take turns
_SETTING = "EXPORT_CONTROL_URL"


def upgrade(url: str) -> tuple[str | None, str]:
    """`export_pipelines.stores.migrate.migrate`, once there is something to do."""
    engine = create_engine(_address(url), poolclass=NullPool)
    config = _config()
    with _explained(), engine.begin() as connection:
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        for schema in (SCHEMA, DAGSTER_SCHEMA):
            _ensure_schema(connection, schema)
        before = _current(connection)
        _refuse_unknown(before)
        config.attributes["connection"] = connection
        if before is None:
            with closing(connection.connection.cursor()) as cursor:  # the driver's: SQLAlchemy reads % as a placeholder
                cursor.execute(schema_script())
            command.stamp(config, "head")
        else:
            command.upgrade(config, "head")
    return before, head()


def _address(url: str) -> URL:
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except ArgumentError as error:
        raise RequestRejected("is not a postgresql:// URL", field=_SETTING) from error


def _ensure_schema(connection: Connection, name: str) -> None:
    """Looks first: CREATE SCHEMA IF NOT EXISTS wants the right to create even where there is nothing to do."""
    if connection.execute(text("SELECT to_regnamespace(:name)"), {"name": name}).scalar() is None:
        connection.execute(text(f"CREATE SCHEMA {name}"))


def _refuse_unknown(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise RequestRejected(
            f"the control database has schema version {revision}, which this program (up to {head()}) does not know; "
            "install the version that made it, or name another database",
            field=_SETTING,
        )


@contextmanager
def _explained() -> Iterator[None]:
    """Steps go straight to the driver, the rest through SQLAlchemy, so an error comes in either dress."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = str(cause).strip()
        if isinstance(cause, psycopg.errors.InsufficientPrivilege):
            raise RequestRejected(
                f"the login may not set up the schemas or the API's role ({message}); as an administrator run "
                f"CREATE SCHEMA {SCHEMA} AUTHORIZATION <login>; CREATE SCHEMA {DAGSTER_SCHEMA} AUTHORIZATION <login>; "
                f"CREATE ROLE {API_ROLE} NOLOGIN; GRANT {API_ROLE} TO <login>; then migrate again",
                field=_SETTING,
            ) from error
        if isinstance(cause, psycopg.OperationalError):
            raise Unavailable(f"control database does not answer: {message}") from error
        raise


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    where = {"version_table": "schema_version", "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=where).get_current_revision()
