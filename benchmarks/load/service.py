"""A real service of the benchmark's own, as `up` starts it, and its users' keys."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.load.shares import cpu_seconds
from benchmarks.load.users import User
from export_pipelines.core.access import Role
from export_pipelines.embedded.postgres import EmbeddedPostgres, running_server
from export_pipelines.embedded.services import Services, running_services
from export_pipelines.embedded.workplace import SampleSize, Workplace, prepared
from export_pipelines.settings import Settings, load_settings
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase

_SHARE = 0.14  # of the sample's rows are appointments
_PORTS = {"EXPORT_UI_PORT": "46000", "EXPORT_API_PORT": "46500"}  # `up` takes the next free ones


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The service at work."""

    services: Services
    control_url: str
    tenants: tuple[str, ...]
    postmaster: int

    def users(self, count: int) -> list[User]:
        """Spread over the tenants; every other one follows events."""
        with closing(ControlDatabase(self.control_url)) as control, control.transaction():
            keys = ApiKeyStore(control)
            found = []
            for number in range(count):
                _, key = keys.create(
                    role=Role.ADMIN,
                    tenant_id=self.tenants[number % len(self.tenants)],
                    user_id=f"user-{number}",
                    created_by="bench",
                )
                found.append(User(key=key, follows=number % 2 == 1))
        return found

    def cpu(self) -> dict[str, float]:
        return cpu_seconds(self.services, self.postmaster)


@contextmanager
def scene(home: Path, *, launcher: str, tenants: int, rows: int) -> Iterator[Scene]:
    """A service with no limit on orders, each of whose tenants has that many rows in the table that is exported."""
    settings = _settings(home, launcher)
    harmonic = sum(1 / number for number in range(1, tenants + 1))  # the sample gives the n-th tenant 1/n of the first
    size = SampleSize(tenants=tenants, rows=math.ceil(rows * tenants * harmonic / _SHARE))
    try:
        with prepared(settings, sample=size) as workplace:
            found = _levelled(str(workplace.admin_url), rows)
            with running_services(workplace) as services:
                yield _scene(workplace, services, found)
    finally:
        EmbeddedPostgres(settings.home).delete_data()


def _settings(home: Path, launcher: str) -> Settings:
    for name in [name for name in os.environ if name.startswith("EXPORT_") and name.endswith("_URL")]:
        del os.environ[name]  # nothing of ours may reach another service's data
    own = {"EXPORT_HOME": str(home), "EXPORT_RUN_LAUNCHER": launcher, "EXPORT_RATE_LIMIT": "off"}
    os.environ.update({**_PORTS, **own})  # the service's processes read it as well
    return load_settings()


def _levelled(url: str, rows: int) -> tuple[str, ...]:
    """The tenants, after what they have beyond ``rows`` was taken away. References to it are left as they are."""
    with psycopg.connect(url, autocommit=True) as source:
        source.execute("SET session_replication_role = replica")
        source.execute(
            """
            DELETE FROM clinic.appointments WHERE ctid IN (
                SELECT ctid FROM (
                    SELECT ctid, row_number() OVER (PARTITION BY clinic_id) AS number FROM clinic.appointments
                ) AS numbered WHERE number > %s
            )
            """,
            (rows,),
        )
        source.execute("UPDATE clinic.appointments SET deleted_at = NULL WHERE deleted_at IS NOT NULL")
        source.execute("VACUUM (ANALYZE) clinic.appointments")
        found = source.execute(
            "SELECT clinic_id::text FROM clinic.appointments GROUP BY 1 HAVING count(*) = %s", (rows,)
        )
        return tuple(tenant for (tenant,) in found)  # all but the sample's canary


def _scene(workplace: Workplace, services: Services, tenants: tuple[str, ...]) -> Scene:
    server = running_server(workplace.settings.home)
    if server is None:
        raise RuntimeError("the benchmark's own database is not running")
    return Scene(
        services=services,
        control_url=workplace.settings.require_control_url(),
        tenants=tenants,
        postmaster=server.pid,
    )
