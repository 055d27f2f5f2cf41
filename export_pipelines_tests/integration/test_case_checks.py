"""What `catalog check` proves about small foreign databases, and how an export fails that it would have warned of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from export_pipelines.catalog.findings import Finding
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Canary, Catalog, Column, Table, TenantPath
from export_pipelines.core.errors import ExportError, IntegrityViolation, RequestRejected, Unavailable
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.pipeline.assembly import open_source
from export_pipelines.pipeline.extract.catalog_trial import try_exports
from export_pipelines.sources.engines import choose_engine
from export_pipelines_tests.host import Host

Database = Callable[[str], str]
Cases = Callable[..., Host]


# The tenant's type ------------------------------------------------------------------------------------------------


def test_a_tenant_column_of_another_type_is_found_before_an_export_fails(case_host: Cases) -> None:
    host = case_host("text_vs_uuid")
    host.propose_catalog("texts", "--tenant-table", "public.tenant")
    document = host.document()
    document["tables"]["x"] = {
        "tenant": {"column": "tenant_id"},
        "columns": {"id": {"type": "integer"}, "tenant_id": {"type": "text"}, "v": {"type": "text"}},
    }
    host.save(document)
    host.apply_policies()
    checked = host.run("catalog", "check", "--admin-url", host.admin_url, "--json", code=3)
    (found,) = [entry for entry in json.loads(checked.stdout)["findings"] if entry["level"] == "error"]
    assert found["table"] == "x"
    assert "x.tenant_id is text, `tenant.type` is uuid" in found["message"]
    assert "set `tenant.type` to text" in found["next_step"]
    tenant = "00000000-0000-0000-0000-00000000000a"
    failed = host.run("export", "--tenant", tenant, "--tables", "x", "--format", "csv", "--output", "out", code=2)
    assert "set `tenant.type` to text" in failed.stderr


# What exports would fail with -------------------------------------------------------------------------------------

TENANTS = """
CREATE TABLE tenant (id int PRIMARY KEY); INSERT INTO tenant VALUES (7), (999);
CREATE TABLE item (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, amount int);
INSERT INTO item VALUES (1, 7, 0), (2, 999, 5);
CREATE FUNCTION refuse() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'amount 4711 is secret'; END $$;
CREATE FUNCTION counted() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO tenant VALUES (8); RETURN 1; END $$;
CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(100); RETURN 1; END $$;
CREATE SCHEMA hidden; CREATE FUNCTION hidden.one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION hidden_one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN hidden.one(); END $$;
CREATE FUNCTION missing() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT a FROM nowhere); END $$;
CREATE FUNCTION busy() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$;
CREATE FUNCTION full_disk() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$;
CREATE FUNCTION broken() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = 'XX001'; END $$;
"""


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A database with one view to try, and its catalog."""

    url: str
    catalog: Catalog

    def view(self, expression: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                f"CREATE OR REPLACE VIEW seen WITH (security_invoker = true) AS "
                f"SELECT id, tenant_id, ({expression})::int AS value FROM item".encode()
            )

    def findings(self) -> list[Finding]:
        return try_exports(self.url, self.catalog, self.catalog.tables, choose_engine())

    def read(self) -> None:
        """As an export does."""
        source = open_source(self.url, self.catalog)
        selection = TableSelection(table="seen", columns=("id", "tenant_id", "value"))
        with source.snapshot(TenantScope(tenant_id="7")) as snapshot:
            snapshot.aggregate(selection)
            list(snapshot.read(selection))


@pytest.fixture(scope="module")
def shop(database: Database) -> Shop:
    url = database("trial")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TENANTS.encode())
        proposal = reflect(connection, name="shop", tenant_table="tenant").catalog
        columns = {name: Column(type="integer") for name in ("id", "tenant_id", "value")}
        view = Table(tenant=TenantPath(column="tenant_id"), columns=columns)
        catalog = proposal.model_copy(
            update={
                "reader_role": f"reader_{connection.info.dbname}",
                "tables": proposal.tables | {"seen": view},
                "canary": Canary(tenant="999", marker="canary-0123456789abcdef"),
            }
        )
        shop = Shop(url=url, catalog=catalog)
        shop.view("amount")
        apply_rls(connection, catalog)
    return shop


FAILURES: dict[str, tuple[type[ExportError], str]] = {
    "1 / amount": (RequestRejected, "SQLSTATE 22012"),
    "'x' || amount": (RequestRejected, "SQLSTATE 22P02"),
    "SELECT 1 FROM generate_series(1, 2)": (RequestRejected, "SQLSTATE 21000"),
    "refuse()": (RequestRejected, "SQLSTATE P0001"),
    "counted()": (RequestRejected, "cannot execute INSERT in a read-only transaction"),
    "missing()": (RequestRejected, 'relation "nowhere" does not exist'),
    "hidden_one()": (RequestRejected, "permission denied for schema hidden"),
    "SELECT count(*) FROM pg_authid": (RequestRejected, "permission denied for table pg_authid"),
    "broken()": (IntegrityViolation, "reports damaged data"),
    "busy()": (Unavailable, "55P03"),
    "full_disk()": (Unavailable, "53100"),
}


@pytest.mark.parametrize("expression", FAILURES)
def test_a_failure_of_the_source_is_of_the_kind_that_tells_what_to_do(shop: Shop, expression: str) -> None:
    kind, reason = FAILURES[expression]
    shop.view(expression)
    with pytest.raises(kind) as caught:
        shop.read()
    assert type(caught.value) is kind
    assert reason in str(caught.value)
    assert "4711" not in str(caught.value)
    if kind is Unavailable:
        with pytest.raises(Unavailable):
            shop.findings()
    else:
        (found,) = [finding for finding in shop.findings() if finding.level == "error"]
        assert (found.table, found.level) == ("seen", "error")
        assert reason in found.message
        assert "catalog check" not in str(found)


def test_a_table_whose_first_rows_take_too_long_is_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("export_pipelines.sources.trial.TIMEOUT_SECONDS", 0.2)
    shop.view("slow()")
    assert {(finding.level, finding.table) for finding in shop.findings()} == {("warning", "seen")}


def test_rows_that_arrive_are_no_finding(shop: Shop) -> None:
    shop.view("amount")
    assert shop.findings() == []


def test_the_canarys_export_is_tried_as_well(shop: Shop) -> None:
    shop.view("1 / (amount - 5)")  # only the canary's row fails
    (found,) = shop.findings()
    assert "SQLSTATE 22012" in found.message


def test_a_login_that_may_not_become_the_reader_is_found(shop: Shop) -> None:
    catalog = shop.catalog.model_copy(update={"reader_role": "nobody_here"})
    (found,) = try_exports(shop.url, catalog, catalog.tables, choose_engine())
    assert (found.level, found.table) == ("error", None)
    assert "no export can begin" in found.message


def test_without_a_tenant_nothing_can_be_tried(shop: Shop) -> None:
    catalog = shop.catalog.model_copy(update={"canary": None})
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE nobody (id int); GRANT SELECT ON nobody TO PUBLIC")
    catalog = catalog.model_copy(update={"tenant": catalog.tenant.model_copy(update={"table": "public.nobody"})})
    (found,) = try_exports(shop.url, catalog, catalog.tables, choose_engine())
    assert (found.level, "no export was tried" in found.message) == ("warning", True)
