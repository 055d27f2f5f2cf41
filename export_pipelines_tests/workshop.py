"""A workshop for tests: the real definitions on real databases, run in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from dagster import DagsterInstance, Definitions, ExecuteInProcessResult
from psycopg import sql

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TenantScope
from export_pipelines.definitions import build_defs
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.pipeline.assembly import open_catalog
from export_pipelines.pipeline.export import run_export
from export_pipelines.pipeline.planning.runs import job_name, run_config, run_tags
from export_pipelines.pipeline.services import ExportServices, open_services
from export_pipelines.settings import Settings
from export_pipelines.stores.requests import ExportRequest

TENANTS = tuple(f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2, 3))
_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, kw_only=True)
class ClinicSource:
    """The loaded sample."""

    admin_url: str
    url: str  # of the login the service uses


def login_url(postgres: EmbeddedPostgres, admin_url: str, reader_role: str) -> str:
    """A NOINHERIT login that may become the reader and the directory role of that database."""
    login = f"login_{reader_role}"
    with psycopg.connect(admin_url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (login,)).fetchone() is None:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOINHERIT PASSWORD 'reader'").format(sql.Identifier(login))
            )
        for role in (reader_role, f"{reader_role}_directory"):
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), sql.Identifier(login)))
    return postgres.url(urlsplit(admin_url).path.removeprefix("/"), user=login, password="reader")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What a test works with."""

    settings: Settings
    catalog: Catalog
    services: ExportServices
    instance: DagsterInstance

    @cached_property
    def definitions(self) -> Definitions:
        """As the settings and the catalog say; not every test runs something."""
        return build_defs(self.settings, catalog=self.catalog)

    def order(self, config: dict[str, Any], tenant: str = TENANTS[0], **row: Any) -> str:
        """Insert a request; its id."""
        return self.services.requests.insert(tenant_id=tenant, config=config, **row)

    def run(self, request_id: str) -> None:
        """Take the request's steps in this process; how it ends is in the request.

        What Dagster adds is for `run_job`, which takes half a second more.
        """
        with suppress(Exception):
            run_export(request_id, self.services)

    def run_job(self, request_id: str, **tags: str) -> ExecuteInProcessResult:
        """Run the request's job of Dagster in this process, as the CLI does."""
        request = self.services.requests.get(request_id)
        return self.definitions.resolve_job_def(job_name(request)).execute_in_process(
            run_config={**run_config(request), **_QUIET},
            instance=self.instance,
            tags={**run_tags(request), **tags},
            raise_on_error=False,
        )

    def export(self, config: dict[str, Any], tenant: str = TENANTS[0]) -> ExportRequest:
        """Order, run, and the request as it ended."""
        request_id = self.order(config, tenant, launched_by="cli")
        self.run(request_id)
        return self.services.requests.get(request_id)

    def export_by_job(self, config: dict[str, Any], tenant: str = TENANTS[0]) -> ExportRequest:
        """As `export`, by Dagster's job."""
        request_id = self.order(config, tenant, launched_by="cli")
        self.run_job(request_id)
        return self.services.requests.get(request_id)

    def scope(self, tenant: str = TENANTS[0]) -> TenantScope:
        return TenantScope(tenant_id=tenant)

    def package(self, request: ExportRequest) -> Path:
        """Folder of a published package."""
        return self.objects / str(request.package_prefix)

    @property
    def objects(self) -> Path:
        """Root of the local object store."""
        return self.settings.home / "objects"

    def object_keys(self) -> list[str]:
        """Every object there is."""
        return [key for key, _ in self.services.store.list("")]


_idle: list[DagsterInstance] = []  # to open one takes longer than most of what is done with it


@contextmanager
def _ephemeral_instance(folder: Path) -> Iterator[DagsterInstance]:
    """An instance that knows nothing; it keeps its files in the folder of the first who had it."""
    instance = _idle.pop() if _idle else DagsterInstance.ephemeral(tempdir=str(folder))
    try:
        yield instance
    finally:
        instance.wipe()
        _idle.append(instance)


@contextmanager
def make_workshop(settings: Settings, catalog: Catalog | None = None) -> Iterator[Workshop]:
    """Services and an ephemeral Dagster instance for those settings, in an environment that says the same."""
    with _environment(settings), open_workshop(settings, catalog) as made:
        yield made


@contextmanager
def open_workshop(settings: Settings, catalog: Catalog | None = None) -> Iterator[Workshop]:
    """As `make_workshop`, with an environment as it was, so that it may outlive a test; for steps, not for jobs."""
    with _ephemeral_instance(settings.home) as instance, open_services(settings) as services:
        yield Workshop(
            settings=settings, catalog=catalog or open_catalog(settings), services=services, instance=instance
        )


@contextmanager
def _environment(settings: Settings) -> Iterator[None]:
    """What EnvVar resources read when they are opened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPORT_SOURCE_URL", settings.require_source_url())
        patch.setenv("EXPORT_CONTROL_URL", settings.require_control_url())
        yield


class FinishedExports:
    """Exports that tests only look at: each configuration runs once in a worker, and a test has a copy of its package.

    For tests of what is done with a package. A test of how an export runs has a workshop of its own.
    """

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._made: dict[str, ExportRequest] = {}

    def request(self, config: dict[str, Any], tenant: str = TENANTS[0]) -> ExportRequest:
        """The completed export of that configuration."""
        key = json.dumps([tenant, config], sort_keys=True)
        if key not in self._made:
            done = self.workshop.export(config, tenant)
            assert (done.status, done.error_message) == ("completed", None)
            self._made[key] = done
        return self._made[key]

    def package(self, folder: Path, config: dict[str, Any], tenant: str = TENANTS[0]) -> Path:
        """A copy of its package, in a new folder below ``folder``."""
        source = self.workshop.package(self.request(config, tenant))
        number = len(list(folder.glob("package-*")))
        return Path(shutil.copytree(source, folder / f"package-{number}" / source.name))
