"""The check of a catalog against its database: every kind of drift and every hole in the isolation is found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
import pytest

from export_pipelines.catalog.check import Finding, check, policies_hash, static_isolation
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Catalog, Grain, Partition, Relation
from export_pipelines_tests.samples import load_sample

Database = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A film rental whose catalog has just passed its check."""

    connection: psycopg.Connection[Any]
    catalog: Catalog

    def execute(self, statement: str) -> None:
        self.connection.execute(statement.replace("READER", self.catalog.reader_role).encode())

    def findings(self, catalog: Catalog | None = None) -> list[Finding]:
        return check(self.connection, catalog or self.catalog)

    def with_table(self, key: str, **changes: Any) -> Catalog:
        table = self.catalog.tables[key].model_copy(update=changes)
        return self.catalog.model_copy(update={"tables": self.catalog.tables | {key: table}})


@pytest.fixture(scope="module")
def opened(database: Database) -> Iterator[Shop]:
    url = database("check")
    load_sample(url, "filmrental")
    with psycopg.connect(url, autocommit=True) as connection:
        proposal = reflect(connection, name="shop").catalog
        catalog = proposal.model_copy(update={"reader_role": f"reader_{connection.info.dbname}"})
        apply_rls(connection, catalog, force=True)
        yield Shop(connection=connection, catalog=catalog)


@pytest.fixture
def shop(opened: Shop) -> Iterator[Shop]:
    """The same for each test: whatever a test does is rolled back."""
    with opened.connection.transaction(force_rollback=True):
        yield opened


def test_a_catalog_that_fits_has_no_findings(shop: Shop) -> None:
    assert shop.findings() == []


DRIFT = {
    "ALTER TABLE clerk ADD COLUMN mood text": ("warning", "clerk", "mood", "is new in the database"),
    "ALTER TABLE rental DROP COLUMN remark": ("error", "rental", "remark", "does not exist in public.rental"),
    "ALTER TABLE rental ALTER remark TYPE varchar(90)": (
        "error",
        "rental",
        "remark",
        "is character varying(90) in the database, text in the catalog",
    ),
    "ALTER TABLE clerk ALTER full_name DROP NOT NULL": ("error", "clerk", "full_name", "may be NULL in the database"),
    "ALTER TABLE clerk DROP CONSTRAINT clerk_pkey CASCADE": (
        "error",
        "clerk",
        None,
        "primary key (clerk_id) is not unique and NOT NULL",
    ),
    "ALTER TABLE rental DROP CONSTRAINT rental_clerk_id_fkey": (
        "warning",
        "rental",
        None,
        "relation 'clerk' is not a foreign key",
    ),
    "DROP TABLE payment CASCADE": ("error", "payment", None, "public.payment does not exist"),
    "CREATE TABLE novelty (id int)": ("warning", "public.novelty", None, "is a new table in the database"),
    "CREATE VIEW glance AS SELECT 1 AS one": ("warning", "public.glance", None, "is a new view in the database"),
    "CREATE SCHEMA extra; CREATE TABLE extra.t (id int)": ("warning", "extra.t", None, "is a new table"),
    "DROP VIEW takings": ("warning", "takings", None, "is excluded but does not exist"),
}


def found(
    findings: list[Finding], level: Literal["error", "warning"], table: str | None, column: str | None, message: str
) -> bool:
    return any(
        (finding.level, finding.table, finding.column) == (level, table, column)
        and message in finding.message
        and finding.next_step
        for finding in findings
    )


@pytest.mark.parametrize("statement", DRIFT)
def test_drift_is_found(shop: Shop, statement: str) -> None:
    shop.execute(statement)
    level, table, column, message = DRIFT[statement]
    findings = shop.findings()
    assert found(findings, level, table, column, message), [str(finding) for finding in findings]  # type: ignore[arg-type]


def test_new_data_fails_the_check_where_the_catalog_says_so(shop: Shop) -> None:
    shop.execute("CREATE TABLE novelty (id int)")
    strict = shop.catalog.model_copy(update={"drift": "fail"})
    assert found(shop.findings(strict), "error", "public.novelty", None, "is a new table")


def test_a_virtual_relation_needs_no_foreign_key(shop: Shop) -> None:
    relation = Relation(columns=("inventory_id",), references="clerk", referenced_columns=("clerk_id",))
    relations = shop.catalog.tables["rental"].relations | {"odd": relation}
    assert found(
        shop.findings(shop.with_table("rental", relations=relations)), "warning", "rental", None, "relation 'odd'"
    )
    relations["odd"] = relation.model_copy(update={"virtual": True})
    assert shop.findings(shop.with_table("rental", relations=relations)) == []


def test_a_domain_may_be_written_as_itself_or_as_its_base(database: Database) -> None:
    url = database("domain")
    load_sample(url, "orders")
    with psycopg.connect(url, autocommit=True) as connection:
        catalog = reflect(connection, name="orders").catalog
        catalog = catalog.model_copy(update={"reader_role": "reader_domain"})
        apply_rls(connection, catalog, force=True)
        details = catalog.tables["order_details"]
        for type_ in ("integer", "int4", "quantity", "trade.quantity"):
            column = type(details.columns["amount"])(type=type_, nullable=False)
            table = details.model_copy(update={"columns": details.columns | {"amount": column}})
            assert (
                check(connection, catalog.model_copy(update={"tables": catalog.tables | {"order_details": table}}))
                == []
            )


HOLES = {
    "ALTER TABLE clerk DISABLE ROW LEVEL SECURITY": ("clerk", "row-level security is not enabled"),
    "DROP POLICY export_tenant_only ON clerk": (
        "clerk",
        "policy 'export_keep_access' lets rows through without looking",
    ),
    "DROP POLICY export_tenant_read ON clerk; DROP POLICY export_keep_access ON clerk": (
        "clerk",
        "no permissive policy lets the reader role see any row",
    ),
    "REVOKE SELECT (remark) ON rental FROM READER": ("rental", "may not SELECT remark"),
    "ALTER ROLE READER SUPERUSER": (None, "is a superuser"),
    "ALTER ROLE READER BYPASSRLS": (None, "has BYPASSRLS"),
    "CREATE ROLE past_READER BYPASSRLS; GRANT past_READER TO READER": (None, "can become past_"),
    "CREATE ROLE own_READER; ALTER TABLE clerk OWNER TO own_READER; GRANT own_READER TO READER": (
        "clerk",
        "or a member of it",
    ),
    "ALTER VIEW shelf RESET (security_invoker)": ("shelf", "reads its tables as its owner"),
    "ALTER POLICY export_tenant_only ON clerk USING (current_setting('export.tenant_id', true) IS NOT NULL)": (
        "clerk",
        "a tenant that does not exist sees rows",
    ),
    "ALTER POLICY export_tenant_only ON clerk USING (store_id::text = current_setting('export.tenant_id', true) "
    "OR coalesce(current_setting('export.tenant_id', true), '') = '')": (
        "clerk",
        "a session without a tenant sees rows",
    ),
    "ALTER POLICY export_tenant_only ON clerk USING (store_id / (store_id - store_id) = 1 "
    "AND current_setting('export.tenant_id', true) <> '')": ("clerk", "division by zero"),
}


@pytest.mark.parametrize("statement", HOLES)
def test_a_hole_in_the_isolation_is_found(shop: Shop, statement: str) -> None:
    shop.execute(statement)
    table, message = HOLES[statement]
    findings = shop.findings()
    assert found(findings, "error", table, None, message), [str(finding) for finding in findings]


def test_a_missing_reader_role_is_found(shop: Shop) -> None:
    missing = shop.catalog.model_copy(update={"reader_role": "nobody_here"})
    assert found(check(shop.connection, missing), "error", None, None, "reader role 'nobody_here' does not exist")


def test_another_role_can_be_checked_in_its_place(shop: Shop) -> None:
    assert found(check(shop.connection, shop.catalog, role="postgres"), "error", None, None, "is a superuser")


def test_a_permissive_policy_left_open_by_the_application_opens_nothing(shop: Shop) -> None:
    shop.execute("CREATE POLICY wide_open ON clerk USING (true)")
    assert shop.findings() == []


def test_a_policy_that_reaches_the_reader_by_inheritance_counts(shop: Shop) -> None:
    shop.execute(
        "DROP POLICY export_tenant_only ON clerk; DROP POLICY export_keep_access ON clerk; "
        "CREATE ROLE staff_READER; CREATE POLICY staff ON clerk FOR SELECT TO staff_READER USING (true)"
    )
    assert shop.findings() == []
    shop.execute("GRANT staff_READER TO READER")
    assert found(shop.findings(), "error", "clerk", None, "policy 'staff' lets rows through")


def test_a_column_that_is_readable_but_not_exported_is_a_warning(shop: Shop) -> None:
    shop.execute("GRANT SELECT ON clerk TO READER")
    assert found(shop.findings(), "warning", "clerk", "password_hash", "may SELECT a column that is not exported")


def test_a_view_over_a_view_of_its_owner_is_found(shop: Shop) -> None:
    shop.execute(
        "CREATE VIEW inner_view AS SELECT * FROM inventory; GRANT SELECT ON inner_view TO READER;"
        "CREATE OR REPLACE VIEW shelf WITH (security_invoker = true) AS "
        "SELECT inventory_id, store_id, condition FROM inner_view"
    )
    findings = shop.findings()
    assert found(findings, "error", "shelf", None, "public.inner_view beneath it reads its tables as its owner")


def test_the_static_check_works_in_a_read_only_transaction_and_leaves_no_trace(shop: Shop) -> None:
    role = shop.catalog.reader_role
    shop.execute("ALTER TABLE clerk DISABLE ROW LEVEL SECURITY")
    with shop.connection.transaction(force_rollback=True):
        shop.connection.execute("SET LOCAL transaction_read_only = on")
        shop.connection.execute(f"SET LOCAL ROLE {role}")
        assert static_isolation(shop.connection, shop.catalog, ["rental", "payment", "shelf"], role) == []
        assert [finding.table for finding in static_isolation(shop.connection, shop.catalog, "clerk", role)] == [
            "clerk"
        ]
        assert shop.connection.execute("SELECT current_user").fetchone() == (role,)


def test_the_probe_reports_what_reading_fails_with(shop: Shop) -> None:
    shop.execute("ALTER VIEW shelf RENAME COLUMN condition TO state; REVOKE ALL ON inventory FROM READER")
    findings = shop.findings()
    assert found(findings, "error", "inventory", None, "may not SELECT inventory_id")
    assert found(findings, "error", "rental", None, "cannot be read as the reader role: permission denied")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER POLICY export_tenant_only ON clerk USING (store_id = 1)",
        "DROP POLICY export_tenant_only ON payment",
        "CREATE POLICY more ON rental USING (true)",
        "ALTER TABLE store NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE store DISABLE ROW LEVEL SECURITY",
        "ALTER ROLE READER BYPASSRLS",
        "ALTER VIEW shelf RESET (security_invoker)",
        "CREATE ROLE new_READER; ALTER TABLE clerk OWNER TO new_READER",
    ],
)
def test_the_policies_hash_changes_with_every_rule(shop: Shop, statement: str) -> None:
    before = policies_hash(shop.connection, shop.catalog)
    assert len(before) == 64
    assert before == policies_hash(shop.connection, shop.catalog)
    shop.execute(statement)
    assert policies_hash(shop.connection, shop.catalog) != before


def test_the_policies_hash_ignores_what_isolates_nothing(shop: Shop) -> None:
    before = policies_hash(shop.connection, shop.catalog)
    shop.execute(
        "CREATE TABLE elsewhere (id int); CREATE POLICY p ON elsewhere USING (true); SET search_path = nowhere"
    )
    assert policies_hash(shop.connection, shop.catalog) == before


# Partitions of the lake -------------------------------------------------------------------------------------------


def by_day(shop: Shop, **changes: Any) -> Catalog:
    daily = shop.with_table("rental", partition=Partition(grain=Grain.DAY))
    return daily.model_copy(update=changes)


def test_more_partitions_than_dagster_bears_are_said_with_a_way_out(shop: Shop) -> None:
    long_ago = dt.date(1800, 1, 1)
    days = (dt.datetime.now(dt.UTC).date() - long_ago).days + 1
    stores = shop.connection.execute("SELECT count(*) FROM store").fetchone()
    assert stores is not None
    (finding,) = shop.findings(by_day(shop, history_start=long_ago))
    assert finding.level == "warning"
    assert (
        f"{stores[0]} tenants × {days:,} days are {stores[0] * days:,} partitions of each of rental" in finding.message
    )
    assert "set tenant_buckets: 1, " in finding.next_step


def test_buckets_count_instead_of_tenants(shop: Shop) -> None:
    start = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1_000)
    assert shop.findings(by_day(shop, history_start=start)) == []
    (finding,) = shop.findings(by_day(shop, history_start=start, tenant_buckets=128))
    assert "128 buckets × 1,001 days are 128,128 partitions" in finding.message
    assert "set tenant_buckets: 32, " in finding.next_step
    assert shop.findings(by_day(shop, history_start=start, tenant_buckets=32)) == []
