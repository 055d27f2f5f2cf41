"""Rows that reach no tenant, several tenants, or another one by another path: `catalog check` counts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from export_pipelines.catalog import reachability
from export_pipelines.catalog.check import read_live
from export_pipelines.catalog.findings import Finding
from export_pipelines.catalog.reachability import check_reach
from export_pipelines.catalog.reflect import reflect
from export_pipelines.core.catalog import Catalog, Relation, TenantPath
from export_pipelines_tests.host import Host
from export_pipelines_tests.servers.debian_postgres import DebianPostgres

Connection = psycopg.Connection[Any]

TENANTS = "CREATE TABLE tenant (id int PRIMARY KEY); INSERT INTO tenant VALUES (1), (2);"
OWNED = "(id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant)"


@pytest.fixture(scope="module")
def database_url(database: Callable[[str], str]) -> str:
    return database("reach")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """Whatever a test does is rolled back."""
    with psycopg.connect(database_url) as connection:
        yield connection
        connection.rollback()


def proposed(connection: Connection, sql: str) -> Catalog:
    connection.execute((TENANTS + sql).encode())
    return reflect(connection, name="any", tenant_table="tenant", follow_names=True).catalog


def counted(connection: Connection, catalog: Catalog, *, exact: bool = False) -> list[Finding]:
    return check_reach(connection, catalog, catalog.tables, read_live(connection, catalog), exact=exact)


FOUND = {
    "a tenant that is NULL": (
        "CREATE TABLE x (id int, tenant_id int REFERENCES tenant); INSERT INTO x VALUES (1, 1), (2, NULL)",
        "warning: x: 1 of 2 rows belong to no tenant by tenant_id, and are in no export",
    ),
    "a tenant that does not exist": (
        "CREATE TABLE x (id int, tenant_id int NOT NULL); INSERT INTO x VALUES (1, 1), (2, 77), (3, 78)",
        "warning: x: 2 of 3 rows belong to no tenant by tenant_id",
    ),
    "a NULL on the way": (
        (
            f"CREATE TABLE near {OWNED}; INSERT INTO near VALUES (1, 1);"
            "CREATE TABLE x (id int, near_id int REFERENCES near); INSERT INTO x VALUES (1, 1), (2, NULL), (3, NULL)"
        ),
        "warning: x: 2 of 3 rows belong to no tenant by near → tenant_id",
    ),
    "a virtual relation to nowhere": (
        (
            f"CREATE TABLE projects {OWNED}; INSERT INTO projects VALUES (1, 1);"
            "CREATE TABLE x (id int, project_id int NOT NULL); INSERT INTO x VALUES (1, 1), (2, 99)"
        ),
        "warning: x: 1 of 2 rows belong to no tenant by projects → tenant_id",
    ),
    "a foreign key that was never validated": (
        (
            f"CREATE TABLE near {OWNED}; INSERT INTO near VALUES (1, 1);"
            "CREATE TABLE x (id int, near_id int NOT NULL); INSERT INTO x VALUES (1, 1), (2, 99);"
            "ALTER TABLE x ADD FOREIGN KEY (near_id) REFERENCES near NOT VALID"
        ),
        "warning: x: 1 of 2 rows belong to no tenant by near → tenant_id",
    ),
    "a row that nothing refers to": (
        (
            "CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1), (2);"
            "CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int NOT NULL UNIQUE REFERENCES x);"
            "INSERT INTO y VALUES (1, 1)"
        ),
        "warning: x: 1 of 2 rows belong to no tenant by y → tenant_id",
    ),
    "another tenant by another way": (
        (
            f"CREATE TABLE customer {OWNED}; CREATE TABLE staff {OWNED};"
            "INSERT INTO customer VALUES (1, 1), (2, 2); INSERT INTO staff VALUES (1, 1), (2, 2);"
            "CREATE TABLE x (id int, customer_id int NOT NULL REFERENCES customer, staff_id int REFERENCES staff);"
            "INSERT INTO x VALUES (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, NULL)"
        ),
        "warning: x: 2 of 4 rows have another tenant by staff → tenant_id than by customer → tenant_id",
    ),
    "a reference across tenants": (
        (
            f"CREATE TABLE customer {OWNED}; INSERT INTO customer VALUES (1, 1);"
            "CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant, customer_id int REFERENCES customer);"
            "INSERT INTO x VALUES (1, 1), (2, 1)"
        ),
        "warning: x: 1 of 2 rows have another tenant by customer → tenant_id than by tenant_id",
    ),
    "a parent of another tenant": (
        (
            "CREATE TABLE x (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, parent int REFERENCES x);"
            "INSERT INTO x VALUES (1, 1, NULL), (2, 1, 1), (3, 2, 1)"
        ),
        "warning: x: 1 of 3 rows have another tenant by x → tenant_id than by tenant_id",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_rows_on_which_a_path_fails_are_counted(connection: Connection, name: str) -> None:
    sql, expected = FOUND[name]
    found = [str(finding) for finding in counted(connection, proposed(connection, sql))]
    assert len(found) == 1
    assert found[0].startswith(expected)


SOUND = {
    "constraints prove it": f"CREATE TABLE near {OWNED}; CREATE TABLE x (id int, near_id int NOT NULL REFERENCES near)",
    "a key that carries the tenant": (
        "CREATE TABLE near (id int, tenant_id int NOT NULL REFERENCES tenant, PRIMARY KEY (tenant_id, id));"
        "CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant, near_id int,"
        "                FOREIGN KEY (tenant_id, near_id) REFERENCES near);"
        "INSERT INTO near VALUES (1, 1), (1, 2); INSERT INTO x VALUES (1, 1), (2, 1)"
    ),
    "a path that leads back": (
        "CREATE TABLE x (id int PRIMARY KEY); INSERT INTO x VALUES (1), (2);"
        "CREATE TABLE y (tenant_id int NOT NULL REFERENCES tenant, x_id int NOT NULL UNIQUE REFERENCES x);"
        "INSERT INTO y VALUES (1, 1), (2, 2)"
    ),
    "rows without the other reference": (
        f"CREATE TABLE customer {OWNED};"
        "CREATE TABLE x (tenant_id int NOT NULL REFERENCES tenant, customer_id int REFERENCES customer);"
        "INSERT INTO x VALUES (1, NULL)"
    ),
    "partitions": (
        f"CREATE TABLE near {OWNED}; INSERT INTO near VALUES (1, 1);"
        "CREATE TABLE x (near_id int NOT NULL) PARTITION BY LIST (near_id);"
        "CREATE TABLE x1 PARTITION OF x FOR VALUES IN (1); ALTER TABLE x1 ADD FOREIGN KEY (near_id) REFERENCES near;"
        "INSERT INTO x VALUES (1)"
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_rows_are_no_finding(connection: Connection, name: str) -> None:
    assert [str(finding) for finding in counted(connection, proposed(connection, SOUND[name]))] == []


def test_keys_of_an_extensions_type_are_compared_as_it_compares(debian_postgres: DebianPostgres) -> None:
    with psycopg.connect(debian_postgres.url("postgres")) as connection:
        _compare_citext(connection)
        connection.rollback()


def _compare_citext(connection: Connection) -> None:
    connection.execute(
        "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE firm (code ext.citext PRIMARY KEY);"
        "CREATE TABLE x (id int, firm_code ext.citext NOT NULL);"
        "INSERT INTO firm VALUES ('acme'); INSERT INTO x VALUES (1, 'ACME'), (2, 'else')"
    )
    catalog = reflect(connection, name="any", tenant_table="firm", tenant_column="firm_code").catalog
    (found,) = counted(connection, catalog)
    assert "1 of 2 rows belong to no tenant by firm_code" in found.message


@pytest.mark.parametrize(
    ("rows", "level", "message"),
    [
        ("(1, 10), (2, 10)", "error", "1 of 1 rows belong to several tenants by near → tenant_id"),
        ("(1, 10), (1, 10)", "warning", "nothing makes a row belong to one tenant only by near → tenant_id"),
    ],
)
def test_a_virtual_relation_that_is_not_unique_is_found(
    connection: Connection, rows: str, level: str, message: str
) -> None:
    catalog = proposed(
        connection,
        "CREATE TABLE near (tenant_id int NOT NULL REFERENCES tenant, code int);"
        f"INSERT INTO near VALUES {rows};"
        "CREATE TABLE x (id int, code int, tenant_id int); INSERT INTO x VALUES (1, 10)",
    )
    relation = Relation(columns=("code",), references="near", referenced_columns=("code",), virtual=True)
    x = catalog.tables["x"].model_copy(update={"relations": {"n": relation}, "tenant": TenantPath(through="n")})
    (found,) = counted(connection, catalog.model_copy(update={"tables": catalog.tables | {"x": x}}))
    assert (found.level, found.table, found.message) == (level, "x", message)


def test_a_shared_table_needs_no_tenant(connection: Connection) -> None:
    catalog = proposed(connection, "CREATE TABLE x (id int, tenant_id int); INSERT INTO x VALUES (1, NULL)")
    x = catalog.tables["x"].model_copy(update={"tenant": TenantPath(shared="the same for all")})
    assert counted(connection, catalog.model_copy(update={"tables": catalog.tables | {"x": x}})) == []


LARGE = (
    "CREATE TABLE x (id int, tenant_id int REFERENCES tenant);"
    "INSERT INTO x SELECT n, NULL FROM generate_series(1, 20000) n;"
)


PARTED = LARGE.replace(";", " PARTITION BY RANGE (id); CREATE TABLE x0 PARTITION OF x DEFAULT;", 1)


@pytest.mark.parametrize("sql", [LARGE, LARGE + "ANALYZE x;", PARTED])
def test_a_large_table_is_sampled_and_that_is_said(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(reachability, "SAMPLED_ROWS", 5_000)
    catalog = proposed(connection, sql)
    first, remark = counted(connection, catalog)
    assert "rows of a sample of about" in first.message
    assert 0 < int(first.message.partition(" ")[0].replace(",", "")) < 20_000
    assert (remark.table, remark.message) == (None, "rows were counted in samples of about 5,000 rows: x")
    assert "--exact" in remark.next_step
    (whole,) = counted(connection, catalog, exact=True)
    assert whole.message.startswith("20,000 of 20,000 rows belong to no tenant")


def test_a_count_that_takes_too_long_is_said(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "TIMEOUT_SECONDS", 0.1)
    catalog = proposed(
        connection,
        "CREATE TABLE t (tenant_id int); INSERT INTO t VALUES (1);"
        "CREATE VIEW x WITH (security_invoker = true) AS SELECT tenant_id FROM t WHERE pg_sleep(5) IS NOT NULL",
    )
    (found,) = counted(connection, catalog)
    assert (found.level, found.table) == ("warning", "x")
    assert "could not be counted within 0.1 s" in found.message


@pytest.mark.parametrize("right", ["", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO narrow;"])
def test_a_role_that_may_not_see_all_rows_says_so(connection: Connection, right: str) -> None:
    sql, _ = FOUND["a tenant that is NULL"]
    catalog = proposed(
        connection, f"{sql}; ALTER TABLE x ENABLE ROW LEVEL SECURITY; CREATE ROLE narrow; {right} SET ROLE narrow"
    )
    found = counted(connection, catalog)
    assert [finding.level for finding in found] == ["warning"]
    assert "rows outside every tenant could not be counted in" in found[0].message
    assert "--admin-url" in found[0].next_step


def test_the_settings_that_no_tenant_has_are_counted_by_the_command(
    case_host: Callable[..., Host],
) -> None:
    host = case_host("reverse_fk")
    host.propose_catalog("reverse", "--tenant-table", "public.organisation")
    document = host.document()
    document["tables"]["settings"]["tenant"] = {"through": "logo"}
    host.save(document)
    host.apply_policies()
    expected = "settings: 1 of 2 rows belong to no tenant by logo → organisation_id"
    assert expected in host.run("catalog", "check", "--admin-url", host.admin_url).stdout
    assert expected not in host.run("catalog", "check", "--fast", "--admin-url", host.admin_url).stdout
    host.run("catalog", "check", "--fast", "--exact", "--admin-url", host.admin_url, code=2)
