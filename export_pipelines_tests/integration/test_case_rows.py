"""Small databases whose rows were once lost or doubled: every row of the tenant is exported, exactly once."""

from __future__ import annotations

import json
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
    proposed = {key: document["tables"]["d"][key] for key in ("deleted_column", "alive_when")}
    assert proposed == {"deleted_column": "deleted_at", "alive_when": "infinity"}  # the column's default
    host.apply_policies()
    assert rows_of(host.export("1", "--format", "csv", tables="d")) == {"d": 2}

    del document["tables"]["d"]["alive_when"]
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


def test_a_key_is_compared_as_its_foreign_key_compares_it(opened: Callable[..., Host]) -> None:
    host = opened("ext_schema", tenant_table="public.tenant", server="debian_postgres")  # the embedded has no citext
    printed = host.run("catalog", "rls", "--admin-url", host.admin_url).stdout
    assert printed.count('GRANT USAGE ON SCHEMA "extensions"') == 2  # to the reader, and to who lists tenants
    host.apply_policies()
    host.run("catalog", "check", "--admin-url", host.admin_url)
    assert rows_of(host.export("acme", "--format", "csv", tables="tenant,orders")) == {"tenant": 1, "orders": 2}
    assert rows_of(host.export("other", "--format", "csv", tables="orders", to="other")) == {"orders": 0}
    refused = host.run("export", "--tenant", "ACME", "--tables", "orders", "--format", "csv", "--output", "no", code=2)
    assert "not among the tenants" in refused.stderr  # one tenant has one id
    execute(host, f'REVOKE USAGE ON SCHEMA extensions FROM "{host.document()["reader_role"]}"')
    assert (
        "may not use schema 'extensions'" in host.run("catalog", "check", "--admin-url", host.admin_url, code=3).stdout
    )


def test_keys_that_cannot_be_compared_are_refused_before_anything_is_read(opened: Callable[..., Host]) -> None:
    host = opened("text_vs_uuid", tenant_table="public.tenant")
    document = host.document()
    if document["tables"]["x"].get("export") is False:  # withheld or not, somebody may write it
        columns = {"id": {"type": "integer"}, "tenant_id": {"type": "text"}, "v": {"type": "text"}}
        document["tables"]["x"] = {"primary_key": ["id"], "tenant": {"column": "tenant_id"}, "columns": columns}
        host.save(document)
    host.apply_policies()
    assert "tenant.type" in host.run("catalog", "check", "--admin-url", host.admin_url, code=3).stdout
    tenant = "00000000-0000-0000-0000-00000000000a"
    order = ("export", "--tenant", tenant, "--tables", "x", "--format", "csv", "--output", "no")
    assert "tenant.type" in host.run(*order, code=2).stderr
    document["tenant"]["type"] = "text"
    host.save(document)
    host.apply_policies()
    assert rows_of(host.export(tenant, "--format", "csv", tables="x,tenant")) == {"x": 1, "tenant": 1}


@SERVERS
@pytest.mark.parametrize(
    ("case", "tenant_table", "parent", "child"),
    [("inherit", "public.tenant", "event", "login_event"), ("inherit_own_column", "public.firms", "base", "child")],
)
def test_a_table_and_those_that_inherit_from_it_have_each_row_once(
    opened: Callable[..., Host], server: str, case: str, tenant_table: str, parent: str, child: str
) -> None:
    host = opened(case, tenant_table=tenant_table, server=server)
    host.apply_policies()
    host.run("catalog", "check", "--admin-url", host.admin_url)
    manifest = host.export("1", "--format", "csv", tables=f"{parent},{child}")
    assert rows_of(manifest) == {parent: 1, child: 1}
    assert {table["rows_by_policy"] for table in manifest["isolation"]["tables"]} == {1}
    order = ("bulk", "--type", "migration", "--tenant", "1", "--tables", f"{parent},{child}")
    host.run(*order, "--output", "moved")
    moved = json.loads((host.folder / "moved" / "manifest.json").read_text())
    assert f"inheritance from {parent}" in [left["what"] for left in moved["migration"]["left_out"]]
    columns = [column["name"] for column in manifest["tables"][1]["columns"]]
    assert columns[-1] == ("ip" if case == "inherit" else "extra")

    document = host.document()
    del document["tables"][child]
    order = ("export", "--tenant", "1", "--tables", parent, "--format", "csv", "--output", "no")
    for excluded in ({}, {child: f"its rows are exported with {parent}, from which it inherits"}):
        host.save(document | {"excluded": excluded})
        assert f"{child} inherits from it" in host.run(*order, code=2).stderr
    host.save(document | {"excluded": {child: "Internal"}})
    assert rows_of(host.export("1", "--format", "csv", tables=parent, to="parent")) == {parent: 1}


def test_a_partitioned_table_is_read_with_all_partitions_once(
    opened: Callable[..., Host],
) -> None:
    host = opened("inherit", tenant_table="public.tenant")
    execute(
        host,
        "CREATE TABLE visit (id int, tenant_id int NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id)",
        "CREATE TABLE visit_low PARTITION OF visit FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE visit_high PARTITION OF visit FOR VALUES FROM (10) TO (20)",
        "INSERT INTO visit SELECT id, 1 FROM generate_series(0, 19) AS id",
    )
    document = host.document()
    columns = {"id": {"type": "integer"}, "tenant_id": {"type": "integer"}}
    document["tables"]["visit"] = {"primary_key": ["id"], "tenant": {"column": "tenant_id"}, "columns": columns}
    host.save(document)
    host.apply_policies()
    assert rows_of(host.export("1", "--format", "csv", tables="visit")) == {"visit": 20}
    document["tables"]["visit_low"] = document["tables"]["visit"]
    host.save(document)
    assert "exported twice" in host.run("catalog", "check", "--admin-url", host.admin_url, code=3).stdout


@SERVERS
def test_rows_without_a_tenant_are_everybodys_where_the_catalog_says_so(
    opened: Callable[..., Host], server: str
) -> None:
    host = opened("shared_null", tenant_table="public.organizations", server=server)
    execute(
        host,
        "INSERT INTO organizations VALUES (2)",
        "INSERT INTO roles VALUES (3, 2, 'of the other')",
        "CREATE TABLE grants (id int PRIMARY KEY, role_id int NOT NULL REFERENCES roles)",
        "INSERT INTO grants VALUES (1, 1), (2, 2), (3, 3)",
    )
    document = host.document()
    document["tables"]["grants"] = {
        "primary_key": ["id"],
        "tenant": {"through": "role"},
        "columns": {"id": {"type": "integer"}, "role_id": {"type": "integer"}},
        "relations": {"role": {"columns": ["role_id"], "references": "roles", "referenced_columns": ["id"]}},
    }
    host.save(document)
    host.apply_policies()
    assert rows_of(host.export("1", "--format", "csv", tables="roles,grants", to="own")) == {"roles": 1, "grants": 1}

    document["tables"]["roles"]["tenant"] = {"column": "organization_id", "null_is_shared": True}
    host.save(document)
    order = ("export", "--tenant", "1", "--tables", "roles,grants", "--format", "csv", "--output", "no")
    assert "catalog rls --apply" in host.run(*order, code=2).stderr  # else the policies would hide the shared rows
    host.apply_policies()
    found = host.run("catalog", "check", "--admin-url", host.admin_url).stdout
    assert "sees rows" not in found
    assert "roles: rows with NULL in organization_id are exported with every tenant" in found
    manifest = host.export("1", "--format", "csv", tables="roles,grants,memberships")
    assert rows_of(manifest) == {"roles": 2, "grants": 2, "memberships": 2}
    assert [table.get("null_is_shared") for table in manifest["tables"]] == [True, True, None]
