"""Brings the control database to the schema this version needs."""

from __future__ import annotations

import psycopg

from export_pipelines.core.errors import Unavailable
from export_pipelines.stores.control_schema import head


def migrate(url: str) -> tuple[str | None, str]:
    """Apply all steps; (revision before, revision after). Safe to call from several processes at once.

    All or nothing. `RequestRejected` for a role without the rights or a schema of a newer version, `Unavailable`
    when the server does not answer.
    """
    if _is_current(url):
        return head(), head()
    # Late: alembic is half a second, and nearly every process finds nothing to do.
    from export_pipelines.stores.upgrade import upgrade

    return upgrade(url)


def _is_current(url: str) -> bool:
    """One look; whatever it cannot answer is for the upgrade to find and to explain."""
    try:
        with psycopg.connect(url) as connection:
            found = connection.execute(
                "SELECT version_num, to_regnamespace('dagster') IS NOT NULL FROM export_control.schema_version"
            ).fetchall()
    except psycopg.OperationalError as error:
        raise Unavailable(f"control database does not answer: {str(error).strip()}") from error
    except psycopg.Error:
        return False
    return found == [(head(), True)]
