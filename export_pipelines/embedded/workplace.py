"""Everything a process needs before it starts: databases, roles, folders and the environment that names them.

What settings leave open is embedded: one PostgreSQL server for the sample's data, the service's state and
Dagster's storage. With ``EXPORT_SOURCE_URL`` and ``EXPORT_CONTROL_URL`` set nothing embedded starts.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from export_pipelines.core.errors import RequestRejected
from export_pipelines.embedded.os_account import launched_by_root, make_folder
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.settings import Settings
from export_pipelines.stores.control_schema import API_ROLE, DAGSTER_SCHEMA
from export_pipelines.stores.migrate import migrate

SOURCE_DATABASE, CONTROL_DATABASE = "app", "control"
LOGIN_ROLE, SERVICE_ROLE, WEB_ROLE = "export_login", "export_service", "export_web"
READER_ROLES = ("export_reader", "export_reader_directory")
WEB_CONNECTIONS = 40  # of several API processes; each has `API_CONNECTIONS`
WEB_LIMITS = {  # defaults of the login's sessions
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "30s",
}
DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """Which sample a new embedded database gets, and how much of it.

    Without a name it is the sample that the database holds, else the default one.
    """

    name: str | None = None
    tenants: int = 3
    rows: int = 20_000


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A prepared home, its settings with every URL known."""

    settings: Settings
    admin_url: str | None  # superuser of the embedded source; None where the source is the user's own
    server: EmbeddedPostgres | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process that runs Dagster is told."""
        control = self.settings.require_control_url()
        return {
            "EXPORT_SOURCE_URL": self.settings.require_source_url(),
            **({"EXPORT_CATALOG": str(self.settings.catalog)} if self.settings.catalog else {}),
            "EXPORT_CONTROL_URL": control,
            "EXPORT_HOME": str(self.settings.home),
            "DAGSTER_HOME": str(self.settings.home / "dagster"),
            "DAGSTER_POSTGRES_URL": dagster_url(control),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }

    def keep_database(self) -> None:
        """Start the embedded server again if it is gone: the process that owned it may have been another one."""
        if self.server is not None and not self.server.is_running():
            self.server.start()


@contextmanager
def prepared(settings: Settings, *, sample: SampleSize | None = None) -> Iterator[Workplace]:
    """Databases up, migrated and, where embedded, filled with the sample; an embedded server stops at the end."""
    if sample is not None and sample.name is not None and settings.source_url is not None:
        raise RequestRejected(
            f"is set, and sample {sample.name!r} goes into the embedded database; leave out one of them",
            field="EXPORT_SOURCE_URL",
        )
    home = private_home(settings.home)
    if settings.source_url is not None and settings.control_url is not None:
        yield _workplace(settings, home, settings.require_source_url(), settings.require_control_url(), None)
        return
    with EmbeddedPostgres(home) as server:
        control = settings.control_url.get_secret_value() if settings.control_url else _control(server)
        settings, admin = _with_source(settings, server, sample or SampleSize())
        web = None if settings.control_url else _web_login(server)
        yield _workplace(settings, home, settings.require_source_url(), control, admin, server, web)


def private_home(folder: Path) -> Path:
    """The home, made for this account alone where it is not there yet.

    Root's can be entered, not listed: the account that runs its embedded server has its data below. `RequestRejected`
    for one that another account may write to, who could put programs' configuration and objects in our place.
    """
    home = folder.resolve()
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        make_folder(home, 0o711 if launched_by_root() else 0o700)
        found = home.stat()
    except OSError as error:
        raise RequestRejected(
            f"{home} cannot be made: {error.strerror}; name another folder", field="EXPORT_HOME"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise RequestRejected(f"{home} is not a folder; name another", field="EXPORT_HOME")
    if found.st_uid not in (os.geteuid(), 0):
        raise RequestRejected(
            f"{home} belongs to user id {found.st_uid}, who could change all that is in it; run as that user, or name "
            "another folder",
            field="EXPORT_HOME",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RequestRejected(
            f"{home} can be written to by other accounts (mode {stat.S_IMODE(found.st_mode):04o}); close it with "
            f"`chmod go-w {home}`, or name another folder",
            field="EXPORT_HOME",
        )
    return home


def _with_source(settings: Settings, server: EmbeddedPostgres, sample: SampleSize) -> tuple[Settings, str | None]:
    """Settings that name source and catalog; the superuser's URL where the source is embedded."""
    if settings.source_url is not None:
        return settings, None
    if settings.catalog is not None:
        raise RequestRejected(
            "is set without EXPORT_SOURCE_URL; the embedded database only has the sample's own catalog",
            field="EXPORT_CATALOG",
        )
    # Late: a catalog's types are Arrow's, and commands beside an application's own database need none of them.
    from export_pipelines.samples.loader import DEFAULT_SAMPLE, load_sample, loaded_sample, sample_catalog_path

    server.ensure_database(SOURCE_DATABASE)
    admin = server.url(SOURCE_DATABASE)
    name = sample.name or loaded_sample(admin) or DEFAULT_SAMPLE
    load_sample(admin, name, tenants=sample.tenants, rows=sample.rows)
    source = _login(server, SOURCE_DATABASE, LOGIN_ROLE, member_of=READER_ROLES)
    known = {"source_url": SecretStr(source), "catalog": sample_catalog_path(name)}
    return settings.model_copy(update=known), admin


def _control(server: EmbeddedPostgres) -> str:
    server.ensure_database(CONTROL_DATABASE)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (API_ROLE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT").format(sql.Identifier(API_ROLE)))
    url = _login(server, CONTROL_DATABASE, SERVICE_ROLE, member_of=(API_ROLE,), owns=CONTROL_DATABASE)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:  # `stores.blocking_sessions`
        connection.execute(
            sql.SQL("GRANT pg_signal_backend TO {} WITH INHERIT TRUE").format(sql.Identifier(SERVICE_ROLE))
        )
    return url


def _web_login(server: EmbeddedPostgres) -> str:
    """The API's: a few connections, and none of its transactions holds others up for long."""
    url = _login(server, CONTROL_DATABASE, WEB_ROLE, member_of=(API_ROLE,))
    with psycopg.connect(server.url(CONTROL_DATABASE), autocommit=True) as connection:
        role = sql.Identifier(WEB_ROLE)
        connection.execute(sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, WEB_CONNECTIONS))
        for name, value in WEB_LIMITS.items():
            connection.execute(sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(name), value))
        _reserve_advisory_locks(connection, SERVICE_ROLE)
    return url


def _reserve_advisory_locks(connection: psycopg.Connection[Any], role: str) -> None:
    """For the service alone, in this database: its locks are numbers that any login could take and keep."""
    functions = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc "
        "WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_'"
    ).fetchall()
    for (function,) in functions:
        name = sql.SQL(function)
        connection.execute(sql.SQL("REVOKE ALL ON FUNCTION {} FROM PUBLIC").format(name))
        connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(name, sql.Identifier(role)))


def _login(
    server: EmbeddedPostgres, database: str, name: str, *, member_of: tuple[str, ...] = (), owns: str | None = None
) -> str:
    """URL of a login without special rights; its password follows from the server's, so every process knows it."""
    password = hmac.new(server.address.password.encode(), name.encode(), hashlib.sha256).hexdigest()
    role = sql.Identifier(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT PASSWORD {}").format(
                    role, sql.Literal(password)
                )
            )
        for group in member_of:
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role))
        if owns is not None:
            connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(owns), role))
        # PUBLIC may connect by default, and so every login of this server to each of its databases.
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), role))
    return server.url(database, user=name, password=password)


def _workplace(
    settings: Settings,
    home: Path,
    source: str,
    control: str,
    admin: str | None,
    server: EmbeddedPostgres | None = None,
    web: str | None = None,
) -> Workplace:
    migrate(control)
    dagster_home = home / "dagster"
    for folder in (dagster_home, home / "objects"):  # tenants' rows and addresses are for no other account
        make_folder(folder, 0o700)
    shutil.copyfile(DAGSTER_YAML, dagster_home / "dagster.yaml")
    api = web or (settings.api_url.get_secret_value() if settings.api_url else control)
    known = settings.model_copy(
        update={
            "home": home,
            "source_url": SecretStr(source),
            "control_url": SecretStr(control),
            "api_url": SecretStr(api),
        }
    )
    return Workplace(settings=known, admin_url=admin, server=server)


def dagster_url(control_url: str) -> str:
    """Dagster's storage: the control database, schema ``dagster``, through the one driver it works with.

    A run writes some 75 events, each a commit of its own. They need not wait for the disk: after a crash of the
    server the request table is the truth and what Dagster forgot is asked for again (docs/adr/0006).
    """
    from sqlalchemy.engine import make_url  # late: 0.4 s, and most commands start no Dagster

    url = make_url(control_url).set(drivername="postgresql+psycopg2")
    url = url.update_query_dict({"options": f"-csearch_path={DAGSTER_SCHEMA} -csynchronous_commit=off"})
    return url.render_as_string(hide_password=False)
