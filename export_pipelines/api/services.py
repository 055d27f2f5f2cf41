"""What the routes work with, opened once a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from anyio import CapacityLimiter

from export_pipelines.api.credentials import Credentials
from export_pipelines.api.launching import Launcher
from export_pipelines.api.tokens import open_verifier
from export_pipelines.core.access import Caller
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.ports import ObjectStore, Source
from export_pipelines.pipeline.assembly import open_box, open_catalog, open_object_store, open_source
from export_pipelines.pipeline.maintenance.probing import Probe, probe_store
from export_pipelines.settings import Settings
from export_pipelines.stores.secrets import SecretBox
from export_pipelines.stores.tenant_session import ControlPool

CHECKS_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """Settings, the pool of connections to the control database, the catalog, the object store, Dagster's address."""

    settings: Settings
    pool: ControlPool
    catalog: Catalog
    store: ObjectStore
    store_probe: Probe  # whether it takes objects
    source: Source | None  # None: this process is not told where it is, and makes no estimates
    secrets: SecretBox
    launcher: Launcher
    authenticate: Callable[[str | None, str | None], Caller]  # of the Authorization field and the caller's address
    # Threads of `/readyz` alone: those of the other calls may all be at work.
    checks: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(CHECKS_AT_ONCE))

    @property
    def base_url(self) -> str:
        """Where people reach this API, without a trailing slash."""
        return self.settings.pages_url

    def close(self) -> None:
        self.pool.close()
        self.launcher.close()


def open_services(settings: Settings) -> ApiServices:
    """Connects to nothing yet."""
    pool = ControlPool(settings.require_api_url())
    catalog, store = open_catalog(settings), open_object_store(settings)
    return ApiServices(
        settings=settings,
        pool=pool,
        catalog=catalog,
        store=store,
        store_probe=Probe(lambda: probe_store(store)),
        source=_source(settings, catalog),
        secrets=open_box(settings),
        launcher=Launcher(settings.launch_url),
        authenticate=Credentials(lambda: pool.tenant_session(None), open_verifier(settings)).authenticate,
    )


def _source(settings: Settings, catalog: Catalog) -> Source | None:
    if settings.source_url is None:
        return None
    return open_source(settings.source_url.get_secret_value(), catalog, settings.decoder)
