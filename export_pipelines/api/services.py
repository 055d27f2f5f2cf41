"""What the routes work with, opened once a process."""

from __future__ import annotations

from collections.abc import Callable

from anyio import CapacityLimiter

from export_pipelines.api.credentials import Credentials
from export_pipelines.api.launching import Launcher
from export_pipelines.api.tokens import open_verifier
from export_pipelines.core.access import Caller
from export_pipelines.core.ports import Source
from export_pipelines.pipeline import assembly
from export_pipelines.pipeline.maintenance.probing import Probe, probe_store
from export_pipelines.pipeline.services import Services, part
from export_pipelines.settings import Settings
from export_pipelines.stores.tenant_session import ControlPool

CHECKS_AT_ONCE = 2


class ApiServices(Services):
    """Beside what settings name: the pool of connections in callers' names, who they are, and Dagster's address.

    The service's own connection to the control database, which no policy binds, is not among them.
    """

    @part
    def pool(self) -> ControlPool:
        return ControlPool(self.settings.require_api_url())

    @part
    def source(self) -> Source | None:
        """None: this process is not told where it is, and makes no estimates."""
        if self.settings.source_url is None:
            return None
        return assembly.open_source(self.settings.require_source_url(), self.catalog, self.settings.decoder)

    @part
    def store_probe(self) -> Probe:
        """Whether the object store takes objects."""
        return Probe(lambda: probe_store(self.store))

    @part
    def launcher(self) -> Launcher:
        return Launcher(self.settings.launch_url)

    @part
    def authenticate(self) -> Callable[[str | None, str | None], Caller]:
        """The caller, of the Authorization field and the caller's address."""
        return Credentials(lambda: self.pool.tenant_session(None), open_verifier(self.settings)).authenticate

    @part
    def checks(self) -> CapacityLimiter:
        """Threads of `/readyz` alone: those of the other calls may all be at work."""
        return CapacityLimiter(CHECKS_AT_ONCE)

    @property
    def base_url(self) -> str:
        """Where people reach this API, without a trailing slash."""
        return self.settings.pages_url


def open_api_services(settings: Settings) -> ApiServices:
    """Connects to nothing yet; a wrong catalog or storage URL is refused here, not at the first call."""
    return ApiServices(settings).open_all()
