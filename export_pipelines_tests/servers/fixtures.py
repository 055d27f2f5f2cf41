"""The servers as fixtures: started when a test first asks, once a session and worker."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from export_pipelines_tests.servers.debian_postgres import DebianPostgres, running_debian_postgres
from export_pipelines_tests.servers.s3 import S3Server, running_s3
from export_pipelines_tests.servers.smtp import Authority, SmtpServer, make_authority, running_smtp

if TYPE_CHECKING:
    from export_pipelines.object_stores.s3 import S3Store

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def debian_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianPostgres]:
    """The distribution's PostgreSQL, which is older than the embedded one."""
    from export_pipelines_tests.conftest import fast_folder

    with fast_folder(tmp_path_factory) as folder, running_debian_postgres(folder) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 service."""
    with running_s3(Path(tmp_path_factory.mktemp("s3"))) as server:
        yield server


@pytest.fixture(scope="session")
def s3_api(s3_server: S3Server) -> Any:
    """A plain client, to look at the service from outside."""
    from export_pipelines.object_stores.s3 import s3_client  # boto3 takes a third of a second that few tests need

    return s3_client(
        endpoint=s3_server.endpoint,
        region=s3_server.region,
        access_key_id=s3_server.access_key_id,
        secret_access_key=s3_server.secret_access_key,
    )


@pytest.fixture
def s3_bucket(s3_api: Any) -> str:
    """The name of an empty bucket."""
    name = f"bucket-{next(_numbers)}"
    s3_api.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_store(s3_api: Any, s3_bucket: str) -> S3Store:
    """An empty store below a prefix of an empty bucket."""
    from export_pipelines.object_stores.s3 import S3Store

    return S3Store(s3_api, s3_bucket, "tenants/exports")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts by default."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def smtp(tmp_path: Path, authority: Authority) -> Iterator[Callable[..., SmtpServer]]:
    """``smtp(security="tls", user=…, password=…)`` starts a mail server for this test."""
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(running_smtp(tmp_path, authority=authority, **options))
