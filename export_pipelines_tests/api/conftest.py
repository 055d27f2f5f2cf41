"""The attacked server; one for all these tests of a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.stores.api_keys import ApiKeyStore
from export_pipelines.stores.control import ControlDatabase
from export_pipelines_tests.api.site import PEOPLE, Site
from export_pipelines_tests.servers.issuer import running_issuer
from export_pipelines_tests.servers.processes import HOST, ServerProcess, accepts, await_ready, ports
from export_pipelines_tests.workshop import ClinicSource

NOWHERE = "http://127.0.0.1:9"  # no Dagster: nothing runs by itself
LOGIN, PASSWORD = "hostile_web", "hostile-web-password"


@pytest.fixture(scope="session")
def site(
    postgres: EmbeddedPostgres,
    migrated_database: Callable[[str], str],
    clinic: ClinicSource,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """Without a limit on orders. The API logs in as nothing but a member of ``export_api``."""
    url = migrated_database("hostile")
    home = tmp_path_factory.mktemp("hostile")
    api_url = _login(postgres, url)
    private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with running_issuer() as issuer, closing(ControlDatabase(url)) as control:
        issuer.publish("k-1", "RS256", private_key)
        environment = {
            "EXPORT_SOURCE_URL": clinic.url,
            "EXPORT_API_URL": api_url,
            "EXPORT_HOME": str(home),
            "EXPORT_DAGSTER_URL": NOWHERE,
            "EXPORT_RATE_LIMIT": "off",
            "EXPORT_TRUSTED_PROXIES": "127.0.0.1",  # each client has an address of its own
            "EXPORT_JWT_JWKS_URL": issuer.url,
            "EXPORT_JWT_AUDIENCE": "exports",
            "EXPORT_JWT_ISSUER": "https://issuer.example",
        }
        with running_api(home, environment) as address:
            yield Site(
                address=address,
                home=home,
                log=home / "api.log",
                control=control,
                api_url=api_url,
                keys=_keys(control),
                environment=environment,
                issuer=issuer,
                private_key=private_key,
            )


@contextmanager
def running_api(folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of an API in a process of its own, which logs into ``api.log``."""
    [port] = ports(1)
    server = ServerProcess("api", ["-m", "export_pipelines", "api", "--port", str(port)], folder, environment)
    try:
        await_ready(lambda: accepts(port), [server])
        yield f"http://{HOST}:{port}"
    finally:
        server.stop()


def _keys(control: ControlDatabase) -> dict[str, str]:
    store = ApiKeyStore(control)
    return {
        name: store.create(role=person.role, tenant_id=person.tenant, user_id=name, created_by="test")[1]
        for name, person in PEOPLE.items()
    }


def _login(postgres: EmbeddedPostgres, url: str) -> str:
    """As `embedded.workplace` makes it: may become ``export_api``, inherits nothing."""
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (LOGIN,)).fetchone() is None:
            connection.execute(f"CREATE ROLE {LOGIN} LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT PASSWORD '{PASSWORD}'")
            connection.execute(f"GRANT export_api TO {LOGIN}")
    return postgres.url(urlsplit(url).path.removeprefix("/"), user=LOGIN, password=PASSWORD)
