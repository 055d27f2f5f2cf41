"""Everything a process needs before it starts: databases, roles, folders and the environment that names them.

What settings leave open is embedded: one PostgreSQL server for the sample's data, the service's state and
Dagster's storage. With ``EXPORT_SOURCE_URL`` and ``EXPORT_CONTROL_URL`` set nothing embedded starts.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from pydantic import SecretStr

from export_pipelines.core.errors import RequestRejected
from export_pipelines.embedded.account import make_folder
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.settings import Settings
from export_pipelines.stores.migrate import API_ROLE, DAGSTER_SCHEMA, migrate

SOURCE_DATABASE, CONTROL_DATABASE = "app", "control"
LOGIN_ROLE, SERVICE_ROLE, WEB_ROLE = "export_login", "export_service", "export_web"
READER_ROLES = ("export_reader", "export_reader_directory")
DAGSTER_YAML = Path(__file__).with_name("dagster.yaml")


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """How much of the sample a new embedded database gets."""

    name: str = "clinic"
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
    home = settings.home.resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestRejected(
            f"{home} cannot be made: {error.strerror}; name another folder", field="EXPORT_HOME"
        ) from error
    if settings.source_url is not None and settings.control_url is not None:
        yield _workplace(settings, home, settings.require_source_url(), settings.require_control_url(), None)
        return
    with EmbeddedPostgres(home) as server:
        source, control, admin = _embedded_urls(settings, server, sample or SampleSize())
        web = None if settings.control_url else _login(server, CONTROL_DATABASE, WEB_ROLE, member_of=(API_ROLE,))
        yield _workplace(settings, home, source, control, admin, server, web)


def _embedded_urls(settings: Settings, server: EmbeddedPostgres, sample: SampleSize) -> tuple[str, str, str | None]:
    control = settings.control_url.get_secret_value() if settings.control_url else _control(server)
    if settings.source_url is not None:
        return settings.source_url.get_secret_value(), control, None
    if settings.catalog is not None:
        raise RequestRejected(
            "is set without EXPORT_SOURCE_URL; the embedded database only has the sample's own catalog",
            field="EXPORT_CATALOG",
        )
    # Late: a catalog's types are Arrow's, and commands beside an application's own database need none of them.
    from export_pipelines.samples.loader import load_sample

    server.ensure_database(SOURCE_DATABASE)
    admin = server.url(SOURCE_DATABASE)
    load_sample(admin, sample.name, tenants=sample.tenants, rows=sample.rows)
    return _login(server, SOURCE_DATABASE, LOGIN_ROLE, member_of=READER_ROLES), control, admin


def _control(server: EmbeddedPostgres) -> str:
    server.ensure_database(CONTROL_DATABASE)
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (API_ROLE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN NOINHERIT").format(sql.Identifier(API_ROLE)))
    return _login(server, CONTROL_DATABASE, SERVICE_ROLE, member_of=(API_ROLE,), owns=CONTROL_DATABASE)


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
