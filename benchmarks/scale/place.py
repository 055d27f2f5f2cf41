"""A service of the benchmark's own with many tenants: its databases, Dagster's instance, code server and webserver.

Its daemon does not run: the loops of a daemon would tick beside what is measured. `ticks` calls them one by one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from dagster import DagsterInstance, Definitions
from dagster._grpc.client import DagsterGrpcClient

from benchmarks.scale.cases import Case, sample_catalog
from export_pipelines.catalog.load import dump_catalog
from export_pipelines.core.catalog import Catalog
from export_pipelines.definitions import build_defs
from export_pipelines.embedded import services as parts
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.settings import Settings

SAMPLE = SampleSize(tenants=3, rows=300)
_PORTS = {"EXPORT_UI_PORT": "47000", "EXPORT_API_PORT": "47500"}  # the next free ones are taken
_NEEDED = ("code", "webserver")


@dataclass(frozen=True, kw_only=True)
class Place:
    """What is measured, before its event log is filled."""

    workplace: Workplace
    catalog: Catalog
    definitions: Definitions
    instance: DagsterInstance
    admin_url: str  # of the source
    dagster_url: str  # for psycopg, with the search path of Dagster's tables
    tenants: tuple[str, ...]  # of the sample, which have rows

    @property
    def home(self) -> Path:
        return self.workplace.settings.home


@contextmanager
def place(home: Path, case: Case) -> Iterator[Place]:
    """Databases of the sample with few tenants, the case's catalog, and Dagster's instance as `up` makes it."""
    home.mkdir(parents=True, exist_ok=True)
    with _environment({"EXPORT_HOME": str(home), **_PORTS}):
        try:
            with (
                prepared(Settings(), sample=SAMPLE) as first,  # makes the databases and their logins
                _environment(_own(first, case)),
                prepared(Settings()) as workplace,
                DagsterInstance.get() as instance,
            ):
                yield _place(workplace, instance, str(first.admin_url))
        finally:
            EmbeddedPostgres(home).delete_data()


def _own(first: Workplace, case: Case) -> dict[str, str]:
    """The same databases with the case's catalog."""
    path = first.settings.home / "catalog.yaml"
    catalog = case.catalog(sample_catalog(), dt.datetime.now(dt.UTC).date())
    path.write_text(dump_catalog(catalog), encoding="utf-8")
    api_url = first.settings.require_api_url()
    return {**first.environment, "EXPORT_CATALOG": str(path), "EXPORT_API_URL": api_url}


def _place(workplace: Workplace, instance: DagsterInstance, admin_url: str) -> Place:
    catalog = open_catalog(workplace.settings)
    with psycopg.connect(admin_url) as source:
        found = source.execute("SELECT clinic_id::text FROM clinic.invoices GROUP BY 1 ORDER BY 1")
        tenants = tuple(tenant for (tenant,) in found if catalog.canary is None or tenant != catalog.canary.tenant)
    return Place(
        workplace=workplace,
        catalog=catalog,
        definitions=build_defs(workplace.settings, catalog=catalog),
        instance=instance,
        admin_url=admin_url,
        dagster_url=_of_libpq(workplace.environment["DAGSTER_POSTGRES_URL"]),
        tenants=tenants,
    )


def add_tenants(found: Place, count: int) -> None:
    """Rows in the tenants' table until there are so many; none in the others."""
    with psycopg.connect(found.admin_url) as source:
        source.execute(
            """
            INSERT INTO clinic.clinics (slug, name, country, currency, timezone, opens_at, closes_at)
            SELECT 'scale-' || number, 'Clinic ' || number, 'PT', 'EUR', 'UTC', '08:00', '18:00'
            FROM generate_series(1, %s) AS number
            """,
            (count - len(found.tenants),),
        )


@contextmanager
def serving(found: Place) -> Iterator[parts.Services]:
    """Code server and webserver as `up` starts them, answering."""
    with parts.socket_folder(found.home) as folder:
        path = folder / "code.sock"
        whole = parts.describe(found.workplace, path)
        services = dataclasses.replace(whole, children=tuple(c for c in whole.children if c.name in _NEEDED))
        try:
            services.child("code").start()
            _await_code(services.child("code"), path)
            services.child("webserver").start()
            parts.await_answer(services, f"{services.ui_url}/server_info", "webserver")
            yield services
        finally:
            parts.stop(services)


def _await_code(server: parts.Child, path: Path) -> None:
    """It listens when it has loaded the definitions."""
    deadline = time.monotonic() + parts.START_TIMEOUT_SECONDS
    while not path.exists() or DagsterGrpcClient(socket=str(path)).health_check_query() != "SERVING":
        if server.ended() or time.monotonic() > deadline:
            raise RuntimeError(f"the code server does not answer: {server.tail()}")
        time.sleep(0.2)


def resident_bytes(services: parts.Services) -> dict[str, int]:
    """Memory that each process holds now."""
    return {
        child.name: int(psutil.Process(child.process.pid).memory_info().rss)
        for child in services.children
        if child.process is not None
    }


def database_bytes(found: Place) -> dict[str, int]:
    """Dagster's tables with their indexes, largest first."""
    with psycopg.connect(found.dagster_url) as connection:
        rows = connection.execute(
            """
            SELECT relname, pg_total_relation_size(oid) FROM pg_class
            WHERE relkind = 'r' AND relnamespace = 'dagster'::regnamespace ORDER BY 2 DESC
            """
        ).fetchall()
    return {name: int(size) for name, size in rows if size > 10**6}


@contextmanager
def _environment(own: Mapping[str, str]) -> Iterator[None]:
    """Settings of this process and of those it starts; nothing may reach another service's data."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("EXPORT_") and name.endswith(("_URL", "_CATALOG")):
            del os.environ[name]
    os.environ.update(own)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _of_libpq(url: str) -> str:
    """Without SQLAlchemy's driver, and with blanks as libpq decodes them."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}://{rest.replace('+', '%20')}"
