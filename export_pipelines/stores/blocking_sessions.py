"""Sessions of the API's database login that hold up the service, and their end.

Whoever stole that login can open a transaction that holds a lock, such as that of the audit log, and leave it open; a
session's time-outs are its own to lift. So the daemon ends sessions that somebody has waited for longer than
`PATIENCE_SECONDS`.
It needs to be a member of ``pg_signal_backend``, which may end other logins' sessions, superusers' excepted.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from export_pipelines.stores.control import CONNECT_TIMEOUT_SECONDS, explained
from export_pipelines.stores.control_schema import API_ROLE

PATIENCE_SECONDS = 15.0  # a call's transactions last milliseconds, its statements 60 s at the very most
# Those who wait themselves block others only by their place in the queue: ending who is at work is enough.
_BLOCKING = """
    SELECT session.pid, session.usename AS login, max(extract(epoch FROM clock_timestamp() - waits.waitstart))::float8
    FROM pg_locks AS waits
    CROSS JOIN LATERAL unnest(pg_blocking_pids(waits.pid)) AS blocking (pid)
    JOIN pg_stat_activity AS session ON session.pid = blocking.pid
    WHERE NOT waits.granted AND waits.waitstart < clock_timestamp() - make_interval(secs => %(patience)s)
      AND session.datname = current_database() AND session.usename <> session_user
      AND pg_has_role(session.usesysid, %(role)s, 'MEMBER')
      AND NOT EXISTS (SELECT FROM pg_locks AS own WHERE own.pid = session.pid AND NOT own.granted)
    GROUP BY session.pid, session.usename
"""


@dataclass(frozen=True, kw_only=True)
class BlockingSession:
    """A session that others waited for."""

    pid: int
    login: str
    waited_seconds: float  # of who waited longest
    ended: bool  # False: this login may not end it


def end_blocking_sessions(url: str, *, patience_seconds: float = PATIENCE_SECONDS) -> list[BlockingSession]:
    """End the API's sessions that anybody has waited for longer than that; `Unavailable` without the database.

    ``url`` is the control database's, with the service's login. Takes a connection of its own, since those of the
    service may be the ones that wait.
    """
    with (
        explained(),
        psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS) as connection,
    ):
        found = connection.execute(_BLOCKING, {"patience": patience_seconds, "role": API_ROLE}).fetchall()
        return [
            BlockingSession(pid=pid, login=login, waited_seconds=waited, ended=_ended(connection, pid))
            for pid, login, waited in found
        ]


def _ended(connection: psycopg.Connection[tuple[object, ...]], pid: int) -> bool:
    try:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
