"""Databases that once were exported wrongly, with the right values, on the embedded PostgreSQL and on Debian's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from export_pipelines_tests.host import Host


@pytest.mark.parametrize("server", ["postgres", "debian_postgres"])
def test_a_small_database_goes_from_reflection_to_a_verified_package(
    case_host: Callable[..., Host], request: pytest.FixtureRequest, server: str
) -> None:
    host = case_host("one_large_value", server=request.getfixturevalue(server))
    host.propose_catalog("bulky", "--tenant-table", "public.firms")
    host.apply_policies()
    host.run("catalog", "check", "--admin-url", host.admin_url)
    manifest = host.export("1", "--format", "csv", tables="firms")
    assert [table["rows"] for table in manifest["tables"]] == [1]
