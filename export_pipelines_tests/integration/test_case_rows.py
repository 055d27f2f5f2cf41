"""Small databases whose rows were once lost or doubled: every row of the tenant is exported, exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from export_pipelines_tests.host import Host

SERVERS = pytest.mark.parametrize("server", ["postgres", "debian_postgres"])


@pytest.fixture
def opened(case_host: Callable[..., Host], request: pytest.FixtureRequest) -> Callable[..., Host]:
    """``opened("case", tenant_table=…)`` is a case with a proposed catalog, on the named server."""

    def load(case: str, *, tenant_table: str, server: str = "postgres") -> Host:
        host = case_host(case, server=request.getfixturevalue(server))
        host.propose_catalog(case, "--tenant-table", tenant_table)
        return host

    return load


def rows_of(manifest: dict[str, Any]) -> dict[str, int]:
    return {table["name"]: table["rows"] for table in manifest["tables"]}


def execute(host: Host, *statements: str) -> None:
    with psycopg.connect(host.admin_url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_mark_of_deletion_that_is_never_null_is_refused_until_its_value_is_named(opened: Callable[..., Host]) -> None:
    host = opened("deleted_not_null", tenant_table="public.tenants")
    document = host.document()
    assert "deleted_column" not in document["tables"]["d"]
    host.apply_policies()
    assert rows_of(host.export("1", "--format", "csv", tables="d")) == {"d": 2}

    document["tables"]["d"] |= {"deleted_column": "deleted_at"}
    document["tables"]["d"]["columns"]["deleted_at"].pop("nullable")  # else the file alone is refused
    host.save(document)
    assert "is NOT NULL" in host.run("catalog", "check", "--admin-url", host.admin_url, code=3).stdout
    assert (
        "is NOT NULL"
        in host.run("export", "--tenant", "1", "--tables", "d", "--format", "csv", "--output", "no", code=2).stderr
    )

    document["tables"]["d"]["alive_when"] = "infinity"
    host.save(document)
    execute(host, "UPDATE d SET deleted_at = '2024-01-31' WHERE id = 2")
    host.run("catalog", "check", "--admin-url", host.admin_url)
    assert rows_of(host.export("1", "--format", "csv", tables="d", to="living")) == {"d": 1}
    assert rows_of(host.export("1", "--format", "csv", "--include-deleted", tables="d", to="all")) == {"d": 2}
