"""The same requests on the same snapshot give the same bytes, wherever and however they run."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from export_pipelines.core.model import SharedSnapshot, TenantScope
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

TABLES = ["clients", "pets", "medical_records", "invoices", "invoice_items"]
REQUESTS: dict[str, dict[str, object]] = {
    f"00000000-0000-4000-8000-{number:012d}": {"tables": TABLES, "name": "Twice", **how}
    for number, how in enumerate(
        [
            {"format": "csv", "compression": "gzip"},
            {"format": "json", "compression": "zip"},
            {"format": "ndjson"},
            {"format": "xlsx"},
            {"format": "xml", "compression": "zip"},
            {"format": "parquet"},
        ]
    )
}
SECRET_KEY = base64.b64encode(bytes(32)).decode()  # seals the one signing key that both use
HERE = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "POLARS_MAX_THREADS": "2", "PYTHONHASHSEED": "1"}
ELSEWHERE = {
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C",
    "POLARS_MAX_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "2",
}


@pytest.fixture
def held(workshop: Workshop, clinic: ClinicSource) -> Iterator[SharedSnapshot]:
    """A snapshot that lasts as long as the test, of a table whose rows lie in another order than in its indexes."""
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        connection.execute("UPDATE clinic.invoices SET reference = reference WHERE number % 3 = 1")
    with workshop.services.source.snapshot(TenantScope(tenant_id=TENANTS[1])) as snapshot:
        yield snapshot.shared


@contextmanager
def planning(clinic: ClinicSource, *scans: str) -> Iterator[None]:
    """A planner that, left to itself, reads tables in one way only."""
    database = sql.Identifier(urlsplit(clinic.admin_url).path.removeprefix("/"))
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        try:
            for scan in {"seqscan", "bitmapscan", "indexscan"} - set(scans):
                connection.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = off").format(database, sql.Identifier(f"enable_{scan}"))
                )
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(database))


def packages(
    folder: Path, clinic: ClinicSource, held: SharedSnapshot, environment: Mapping[str, str], umask: int
) -> dict[str, str]:
    """Every file of every package made by a process of its own: its key and the digest of its bytes."""
    folder.mkdir()
    order = {
        "tenant": TENANTS[1],
        "requests": REQUESTS,
        "umask": umask,
        "exported_id": held.exported_id,
        "info": asdict(held.info) | {"taken_at": held.info.taken_at.isoformat()},
    }
    (folder / "order.json").write_text(json.dumps(order))
    made = subprocess.run(
        [sys.executable, "-m", "export_pipelines_tests.packages", str(folder / "order.json")],
        env={
            **os.environ,
            **environment,
            "EXPORT_HOME": str(folder),
            "EXPORT_SOURCE_URL": clinic.url,
            "EXPORT_SECRET_KEY": SECRET_KEY,
        },
        check=True,
        stdout=subprocess.PIPE,
    )
    keys = [key for keys in json.loads(made.stdout).values() for key in keys]
    return {key: hashlib.sha256((folder / "objects" / key).read_bytes()).hexdigest() for key in keys}


def test_the_same_requests_on_the_same_snapshot_give_the_same_bytes(
    clinic: ClinicSource, held: SharedSnapshot, tmp_path: Path
) -> None:
    with planning(clinic, "seqscan"):
        once = packages(tmp_path / "once", clinic, held, HERE, 0o022)
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        connection.execute("UPDATE clinic.invoices SET reference = reference WHERE number % 2 = 0")
    with planning(clinic, "indexscan"):
        again = packages(tmp_path / "again", clinic, held, ELSEWHERE, 0o077)
    assert len(once) > len(REQUESTS) * 2
    assert once == again


def test_a_snapshot_that_nobody_holds_any_more_cannot_be_joined(workshop: Workshop) -> None:
    from export_pipelines.core.errors import Unavailable

    with workshop.services.source.snapshot(TenantScope(tenant_id=TENANTS[1])) as snapshot:
        shared = snapshot.shared
    with (
        pytest.raises(Unavailable, match="no longer held"),
        workshop.services.source.snapshot(TenantScope(tenant_id=TENANTS[1]), join=shared),
    ):
        pass
