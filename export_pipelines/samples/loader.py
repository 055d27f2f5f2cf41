"""Finds the samples and puts one into a database.

Anything that knows what a sample is about belongs into its SQL, not here.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import yaml
from psycopg import errors, sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import RequestRejected, Unavailable
from export_pipelines.core.session_settings import SETTINGS

MAX_TENANTS = 10_000
MAX_ROWS = 50_000_000
MAX_SEED = 2**31 - 1
DEFAULT_SAMPLE = "clinic"
FIRST_DAY = dt.date(2023, 1, 1)  # where the history that generate.sql makes begins
FIRST_TENANT = "00000000-0000-4000-8000-000000000001"  # of every sample, the one with most rows
CONNECT_TIMEOUT_SECONDS = 10

_FOLDER = Path(__file__).parent
_YamlLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml reads a catalog 8 × faster
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def sample_names() -> list[str]:
    """Names of all samples, sorted."""
    return sorted(found.parent.name for found in _FOLDER.glob("*/catalog.yaml"))


def sample_catalog_path(name: str) -> Path:
    """Where the sample's catalog is; `RequestRejected` naming the samples there are."""
    return _file(name, "catalog.yaml")


def sample_catalog(name: str) -> Catalog:
    """The sample's catalog; `RequestRejected` naming the samples there are."""
    text = sample_catalog_path(name).read_text(encoding="utf-8")
    return Catalog.model_validate(yaml.load(text, _YamlLoader))  # noqa: S506 - a safe one


def sample_demo(name: str) -> dict[str, Any]:
    """The configuration of the export that `demo` makes of the first tenant."""
    found: dict[str, Any] = yaml.safe_load(_file(name, "demo.yaml").read_text(encoding="utf-8"))
    return found


def loaded_sample(admin_url: str) -> str | None:
    """Name of the sample whose tables are in the database, or None; `Unavailable` when the server does not answer."""
    try:
        with _connect(admin_url) as connection:
            return _loaded(connection)
    except psycopg.OperationalError as error:
        raise Unavailable(f"which sample the database holds is not known: {_first_line(error)}") from error


def load_sample(
    admin_url: str,
    name: str,
    *,
    tenants: int = 3,
    rows: int = 20_000,
    seed: int = 1,
    invoices: int | None = None,
    until: dt.date | None = None,
) -> None:
    """Create the sample's schema if it is absent and its rows if there are none; otherwise change nothing.

    ``admin_url`` is of a role that may create schemas and roles. ``rows`` is the sum over all tables, about: every
    tenant gets at least one row of each table, the first tenant the largest share. ``invoices`` is the number of
    invoices of all tenants together, in place of their share of ``rows``. No row is of the day ``until`` (UTC,
    default today) or later. The same arguments make the same rows, ids included.

    All or nothing: one transaction. Raises `RequestRejected` for an unknown sample, a number out of range, a role
    without the rights or a database with another sample in it, `Unavailable` when the server does not answer.
    """
    last = dt.datetime.now(dt.UTC).date() if until is None else until
    _check_numbers(tenants=tenants, rows=rows, seed=seed, invoices=invoices, until=last)
    catalog = sample_catalog(name)
    if catalog.canary is None:
        raise RequestRejected(f"sample {name!r} has no canary; name its tenant and marker", field="catalog.canary")
    settings = SETTINGS | {
        "sample.schema": catalog.schema_,
        "sample.tenants": str(tenants),
        "sample.rows": str(rows),
        "sample.seed": str(seed),
        "sample.invoice_rows": "" if invoices is None else str(invoices),
        "sample.until": last.isoformat(),
        "sample.canary_tenant": catalog.canary.tenant,
        "sample.canary_marker": catalog.canary.marker,
    }
    with _transaction(admin_url, name) as connection:
        for key, value in settings.items():
            connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [key, value])
        # One lock for all samples, since they exclude each other.
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('sample', 0))")
        present = _loaded(connection)
        if present not in (None, name):
            raise RequestRejected(
                f"the database already holds sample {present!r}, and one database holds one sample; load {name!r} into "
                "an empty database (an embedded one is emptied by `export-pipelines reset`, or is another under "
                "another EXPORT_HOME)",
                field="sample",
            )
        if present is None:
            create_tables(connection, name)
        if _true(connection, sql.SQL("SELECT EXISTS (SELECT FROM {})").format(sql.Identifier(*_root(catalog)))):
            return
        for file in (_FOLDER / "before_rows.sql", _file(name, "generate.sql"), _FOLDER / "after_rows.sql"):
            connection.execute(file.read_bytes())


def create_tables(connection: psycopg.Connection[Any], name: str) -> None:
    """The sample's schema, rights and policies, without rows."""
    for file in (_FOLDER / "isolation.sql", _file(name, "schema.sql")):
        connection.execute(file.read_bytes())


def _loaded(connection: psycopg.Connection[Any]) -> str | None:
    """A sample's name is its schema's; the tenants' table tells it from a schema of somebody else's with that name."""
    query = "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s) ORDER BY nspname"
    for (name,) in connection.execute(query, [sample_names()]).fetchall():
        table = sql.Literal(".".join(_root(sample_catalog(name))))
        if _true(connection, sql.SQL("SELECT to_regclass({}) IS NOT NULL").format(table)):
            return str(name)
    return None


def _file(name: str, file: str) -> Path:
    path = _FOLDER / name / file
    if not _NAME.fullmatch(name) or not path.is_file():
        raise RequestRejected(f"{name!r} is not a sample; choose from {', '.join(sample_names())}", field="sample")
    return path


def _root(catalog: Catalog) -> tuple[str, ...]:
    """Schema and name of the table of tenants."""
    return tuple(catalog.tenant.table.split("."))


def _check_numbers(*, tenants: int, rows: int, seed: int, invoices: int | None, until: dt.date) -> None:
    limits = [("tenants", tenants, 1, MAX_TENANTS), ("rows", rows, 1, MAX_ROWS), ("seed", seed, 0, MAX_SEED)]
    if invoices is not None:
        limits.append(("invoices", invoices, 1, MAX_ROWS))
    for field, value, low, high in limits:
        if not low <= value <= high:
            raise RequestRejected(f"{value} is out of range; give a number from {low} to {high}", field=field)
    if until <= FIRST_DAY:
        raise RequestRejected(f"{until} is too early; give a day after {FIRST_DAY}", field="until")


def _true(connection: psycopg.Connection, query: sql.Composed) -> bool:
    return connection.execute(query).fetchone() == (True,)


@contextmanager
def _transaction(admin_url: str, name: str) -> Iterator[psycopg.Connection]:
    """A connection that commits on a clean exit; driver errors become the two kinds that callers act on."""
    try:
        with _connect(admin_url) as connection:
            yield connection
    except errors.InsufficientPrivilege as error:
        message = f"its role may not load sample {name!r} ({_first_line(error)}); use one that may create "
        raise RequestRejected(message + "schemas and roles", field="admin_url") from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"sample {name!r} was not loaded: {_first_line(error)}") from error
    except psycopg.ProgrammingError as error:
        message = f"sample {name!r} does not fit this database: {_first_line(error)}; use an empty one"
        raise RequestRejected(message, field="admin_url") from error


def _connect(admin_url: str) -> psycopg.Connection:
    try:
        connection = psycopg.connect(admin_url, connect_timeout=CONNECT_TIMEOUT_SECONDS, client_encoding="UTF8")
    except psycopg.ProgrammingError as error:  # its text repeats the URL, which may hold a password
        message = "is not a PostgreSQL URL; write postgresql://user:password@host:port/database"
        raise RequestRejected(message, field="admin_url") from error
    connection.read_only, connection.isolation_level = False, psycopg.IsolationLevel.READ_COMMITTED  # not the defaults
    return connection


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().partition("\n")[0]
