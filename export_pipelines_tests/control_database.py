"""Control databases that many tests share, emptied between them: to copy one for each takes five times as long."""

from __future__ import annotations

import psycopg

# Newest and number of what describes the database: any change of a table, a right, a function or a setting shows.
_SHAPE = """
SELECT max(xmin::text::bigint), count(*) FROM (
    SELECT xmin FROM pg_class UNION ALL SELECT xmin FROM pg_attribute UNION ALL SELECT xmin FROM pg_attrdef
    UNION ALL SELECT xmin FROM pg_type UNION ALL SELECT xmin FROM pg_proc UNION ALL SELECT xmin FROM pg_trigger
    UNION ALL SELECT xmin FROM pg_constraint UNION ALL SELECT xmin FROM pg_policy
    UNION ALL SELECT xmin FROM pg_namespace UNION ALL SELECT xmin FROM pg_db_role_setting
) described
"""
_EMPTY = """
DO $$
DECLARE place regclass; filled boolean;
BEGIN
    FOR place IN
        SELECT c.oid FROM pg_class c WHERE c.relkind = 'r'
        AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('export_control', 'dagster'))
        AND c.relname NOT IN ('schema_version', 'alembic_version', 'secondary_indexes', 'instance_info')
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', place) INTO filled;
        IF filled THEN
            EXECUTE format('DELETE FROM %s', place);
        END IF;
    END LOOP;
END $$
"""
_RESTART = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
FROM pg_sequences WHERE schemaname IN ('export_control', 'dagster') AND last_value IS NOT NULL
"""


def emptied(url: str) -> str:
    """The same URL, whose database has no rows left and numbers them from the start."""
    with psycopg.connect(url) as connection:
        _empty(connection)
    return url


def shape(url: str) -> tuple[object, ...]:
    """What differs once a test has changed more than rows."""
    with psycopg.connect(url) as connection:
        return _shape(connection)


def as_before(url: str, before: tuple[object, ...]) -> bool:
    """Empty the database, unless its shape is another one; what a test left connected is cut off."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if _shape(connection) != before:
            return False
        _empty(connection)
    return True


def _shape(connection: psycopg.Connection) -> tuple[object, ...]:
    found = connection.execute(_SHAPE).fetchone()
    assert found is not None
    return found


def _empty(connection: psycopg.Connection) -> None:
    connection.execute("SET session_replication_role = replica")  # the history refuses it otherwise
    connection.execute(_EMPTY)
    connection.execute(_RESTART)
