"""Connections to the source: who we are, which tenant, which snapshot, and settings that depend on nobody.

A reader's session is one read-only repeatable-read transaction as the catalog's reader role. Everything set for it is
local to that transaction, so that a pooler may hand the connection to others. An administrator's session keeps its
settings until it ends.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.model import SharedSnapshot, SnapshotInfo, TenantScope
from export_pipelines.core.session_settings import SETTINGS, TRANSACTION_DEFAULTS

CONNECT_TIMEOUT_SECONDS = 10

# What makes rows come in the order in which the table holds them, which one snapshot sees but one way: no scan that
# joins another's half-way, no workers that race, no index whose use depends on statistics (a bitmap of it is in order).
PHYSICAL_ORDER = {
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "enable_seqscan": "on",
    "enable_bitmapscan": "on",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
}

_NEWER = """SELECT CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
THEN pg_catalog.set_config('transaction_timeout', '0', {}) END"""  # PostgreSQL 17
_JOINING = 1  # place of SET TRANSACTION SNAPSHOT, which must come before any query


def begin_statements(
    catalog: Catalog, scope: TenantScope | None, snapshot_id: str | None = None
) -> list[sql.SQL | sql.Composed]:
    """The statements that open a session, in order; with ``snapshot_id`` a reader's, inside that snapshot."""
    statements: list[sql.SQL | sql.Composed] = [sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")]
    if snapshot_id is not None:
        statements.append(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot_id)))
    role = catalog.reader_role if scope is not None else catalog.directory_role
    statements.append(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
    settings = settings_of(catalog)
    if snapshot_id is not None:
        settings |= PHYSICAL_ORDER
    if scope is not None:
        settings |= {catalog.tenant.setting: scope.tenant_id}
    return [*statements, *_setting(settings, local=True), sql.SQL(_NEWER).format(sql.Literal(True))]


def settings_of(catalog: Catalog) -> dict[str, str]:
    """For reading the catalog's tables: it may write types of its own schema, or of public, without a schema."""
    return SETTINGS | {"search_path": f"pg_catalog, {sql.Identifier(catalog.schema_).as_string()}, public"}


def _setting(settings: Mapping[str, str], *, local: bool) -> list[sql.Composed]:
    """Statements that set them, the first alone: it may decide how the literals of the next are read."""
    calls = [
        sql.SQL("pg_catalog.set_config({}, {}, {})").format(sql.Literal(name), sql.Literal(value), sql.Literal(local))
        for name, value in settings.items()
    ]
    return [sql.SQL("SELECT {}").format(sql.SQL(", ").join(part)) for part in (calls[:1], calls[1:]) if part]


def pin(connection: psycopg.Connection[Any], settings: Mapping[str, str], *, local: bool = True) -> None:
    """Make ``settings`` those of the open transaction or, unless ``local``, of the session."""
    for statement in _setting(settings, local=local):
        connection.execute(statement)


def encoding_of(connection: psycopg.Connection[Any]) -> str:
    """The database's own, as PostgreSQL calls it: ``UTF8``, ``LATIN1``, ``SQL_ASCII``."""
    return connection.info.parameter_status("server_encoding") or ""


@contextmanager
def administering(
    url: str, catalog: Catalog | None = None, *, what: str = "source database"
) -> Iterator[psycopg.Connection]:
    """As `connected`, with settings pinned for the session, since what it does is not one transaction.

    With a catalog names are looked up as for its readers, else in PostgreSQL's own schema only.
    """
    with connected(url, what=what) as connection:
        pinned = SETTINGS if catalog is None else settings_of(catalog)
        pin(connection, pinned | TRANSACTION_DEFAULTS, local=False)
        connection.execute(sql.SQL(_NEWER).format(sql.Literal(False)))
        yield connection


@contextmanager
def connected(url: str, *, what: str = "source database") -> Iterator[psycopg.Connection]:
    """An autocommit connection; `Unavailable` names server and database, never the password."""
    try:
        connection = psycopg.connect(
            url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS, client_encoding="UTF8"
        )
    except psycopg.OperationalError as error:
        problem = "refuses the login" if "authentication failed" in str(error) else "does not answer"
        raise Unavailable(f"{what} {describe(url)} {problem}: {str(error).strip()}") from error
    except psycopg.ProgrammingError:  # without its message, which quotes the URL and with it the password
        raise RequestRejected(
            f"the URL of the {what} cannot be parsed; write postgresql://user:password@host:port/database with "
            "special characters percent-encoded"
        ) from None
    with connection:
        yield connection


def describe(url: str) -> str:
    """``host:port/dbname`` of a connection URL."""
    parts = psycopg.conninfo.conninfo_to_dict(url)
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def begin(
    connection: psycopg.Connection, catalog: Catalog, scope: TenantScope | None, snapshot_id: str | None = None
) -> None:
    """Open the session's transaction; `RequestRejected` when the login may not become the reader role."""
    for number, statement in enumerate(begin_statements(catalog, scope, snapshot_id)):
        try:
            connection.execute(statement)
        except (
            psycopg.errors.InsufficientPrivilege,
            psycopg.errors.InvalidParameterValue,
            psycopg.errors.UndefinedObject,
        ) as error:
            if snapshot_id is not None and number == _JOINING:
                raise Unavailable(f"the snapshot to join is no longer held: {str(error).strip()}") from error
            role = catalog.reader_role if scope is not None else catalog.directory_role
            raise RequestRejected(
                f"the source login cannot become role {role!r} ({str(error).strip()}); run `catalog rls --apply` as an "
                f"administrator and grant the role to the login",
                field="EXPORT_SOURCE_URL",
            ) from error


def share_snapshot(connection: psycopg.Connection, known: SnapshotInfo | None = None) -> SharedSnapshot:
    """Export this transaction's snapshot; ``known`` is what it is when it was joined, not taken."""
    row = connection.execute(
        """
        SELECT pg_export_snapshot(), pg_current_snapshot()::text, transaction_timestamp(),
               current_setting('server_version'), current_user,
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text
        """
    ).fetchone()
    assert row is not None
    exported_id, snapshot_id, taken_at, version, role, lsn = row
    info = SnapshotInfo(
        snapshot_id=snapshot_id, lsn=lsn, taken_at=taken_at.astimezone(dt.UTC), server_version=version, role=role
    )
    return SharedSnapshot(exported_id=exported_id, info=known or info)
