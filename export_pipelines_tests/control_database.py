"""A control database that many tests share, emptied between them."""

from __future__ import annotations

import psycopg


def emptied(url: str) -> str:
    """The same URL. A database for each test would cost the server minutes to stop."""
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # the history refuses it otherwise
        connection.execute("TRUNCATE export_control.export_requests CASCADE")
        connection.execute("TRUNCATE export_control.export_schedules, export_control.export_templates CASCADE")
        connection.execute("TRUNCATE export_control.api_keys, export_control.rate_limits, export_control.audit_log")
        connection.execute("TRUNCATE export_control.signing_keys")  # sealed with the key of a home that is gone
    return url
