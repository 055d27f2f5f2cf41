"""Reflection of databases we did not write."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import Reflection, reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Catalog, Classification, Column, Grain
from export_pipelines.core.errors import RequestRejected
from export_pipelines_tests.samples import load_sample

Database = Callable[[str], str]


@contextmanager
def connected(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module", params=["filmrental", "orders"])
def sample(request: pytest.FixtureRequest, database: Database) -> tuple[str, str]:
    """(name, URL) of a database with a sample in it."""
    url = database(request.param)
    load_sample(url, request.param)
    return request.param, url


@pytest.fixture(scope="module")
def films(database: Database) -> Reflection:
    url = database("films")
    load_sample(url, "filmrental")
    with connected(url) as connection:
        return reflect(connection, name="films")


@pytest.fixture(scope="module")
def orders(database: Database) -> Catalog:
    url = database("orders")
    load_sample(url, "orders")
    with connected(url) as connection:
        return reflect(connection, name="orders").catalog


@pytest.fixture(scope="module")
def empty(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with connected(database("reflect")) as connection:
        yield connection


def reflected(connection: psycopg.Connection[Any], sql: str, **options: Any) -> Reflection:
    """What is proposed for these tables, which are gone again afterwards."""
    with connection.transaction(force_rollback=True):
        connection.execute(sql.encode())
        return reflect(connection, name="any", **options)


def test_a_reflected_catalog_survives_its_file_and_passes_its_check(sample: tuple[str, str], tmp_path: Path) -> None:
    name, url = sample
    with connected(url) as connection:
        proposal = reflect(connection, name=name).catalog
        path = tmp_path / "catalog.yaml"
        path.write_text(dump_catalog(proposal), encoding="utf-8")
        catalog = load_catalog(path).model_copy(update={"reader_role": f"reader_of_{name}"})
        assert catalog.tables == proposal.tables
        apply_rls(connection, catalog)
        assert [str(finding) for finding in check(connection, catalog)] == []


def test_the_tenant_is_the_table_that_most_refer_to(films: Reflection, orders: Catalog) -> None:
    root = films.catalog.tenant
    assert (root.table, root.key, root.label, root.type) == ("public.store", "store_id", "name", "integer")
    assert any("taken to be public.store by store_id" in note for note in films.notes)
    assert (orders.tenant.table, orders.tenant.key) == ("trade.company", "code")
    assert orders.schema_ == "trade"


@pytest.mark.parametrize(
    ("table", "column", "through"),
    [
        ("store", "store_id", None),
        ("inventory", "store_id", None),
        ("rental", None, "inventory"),
        ("payment", None, "rental"),
        ("shelf", "store_id", None),
    ],
)
def test_each_table_reaches_the_tenant(films: Reflection, table: str, column: str | None, through: str | None) -> None:
    tenant = films.catalog.tables[table].tenant
    assert (tenant.column, tenant.through) == (column, through)


@pytest.mark.parametrize(
    ("table", "reason"),
    [("film", "no path to the tenant"), ("takings", "security_invoker = true"), ("popular", "materialized view")],
)
def test_what_cannot_be_exported_is_excluded_with_its_reason(films: Reflection, table: str, reason: str) -> None:
    assert reason in films.catalog.excluded[table]


def test_partitions_are_one_table(films: Reflection) -> None:
    names = {*films.catalog.tables, *films.catalog.excluded}
    assert "payment" in names
    assert not any(name.startswith("payment_") for name in names)


def test_columns_keep_type_nullability_comment_and_get_a_class(films: Reflection) -> None:
    columns = films.catalog.tables["inventory"].columns
    assert columns["condition"] == Column(type="character varying(20)", description="How worn the disc is.")
    clerk = films.catalog.tables["clerk"].columns
    assert clerk["email"].classification is Classification.PERSONAL
    assert clerk["password_hash"].exclude is not None
    assert not clerk["store_id"].nullable


def test_times_and_history_are_proposed(films: Reflection) -> None:
    rental = films.catalog.tables["rental"]
    assert (rental.time_column, rental.partition.grain) == ("rented_at", Grain.MONTH)
    assert films.catalog.history_start == dt.date(2023, 2, 1)


def test_names_and_keys_of_any_shape_are_reflected(orders: Catalog) -> None:
    details = orders.tables["order_details"]
    assert details.source == "trade.Order Details"
    assert details.primary_key == ("region", "order_number", "Line")
    assert details.tenant.through == "orders"
    assert details.relations["orders"].nest_as == "order_details"
    assert details.relations["orders"].referenced_columns == ("region", "number")
    assert orders.tables["select"].source is None
    assert orders.tables["employee"].relations["employee"].columns == ("company_id", "manager")
    assert orders.tables["orders"].deleted_column == "deleted_at"


def test_a_domain_travels_as_its_base_type(orders: Catalog) -> None:
    assert orders.tables["order_details"].columns["amount"].type == "integer"
    assert orders.tables["company"].columns["country"].type == "character varying(2)"
    assert orders.tables["orders"].columns["state"].type == "order_state"


def test_no_child_nests_in_the_tenant_or_in_two_parents(films: Reflection, orders: Catalog) -> None:
    for catalog in (films.catalog, orders):
        root = catalog.tenant.table.rpartition(".")[2]
        for table in catalog.tables.values():
            nested = [relation for relation in table.relations.values() if relation.nest_as]
            assert len(nested) <= 1
            assert all(relation.references != root for relation in nested)


TWO_TENANTS = """
CREATE TABLE org (id uuid PRIMARY KEY); CREATE TABLE workspace (id uuid PRIMARY KEY);
CREATE TABLE a (id int PRIMARY KEY, org_id uuid NOT NULL REFERENCES org, workspace_id uuid REFERENCES workspace);
CREATE TABLE b (id int PRIMARY KEY, seller uuid REFERENCES org, buyer uuid REFERENCES org);
"""


def test_an_unclear_tenant_is_refused_with_the_candidates(empty: psycopg.Connection[Any]) -> None:
    with pytest.raises(RequestRejected) as caught:
        reflected(empty, TWO_TENANTS)
    assert caught.value.field == "tenant_table"
    assert "public.org by org_id (1 tables); public.workspace by workspace_id (1 tables)" in str(caught.value)


@pytest.mark.parametrize("table", ["org", "public.org"])
def test_the_tenant_can_be_named(empty: psycopg.Connection[Any], table: str) -> None:
    found = reflected(empty, TWO_TENANTS, tenant_table=table)
    assert found.catalog.tenant.table == "public.org"
    assert found.catalog.tables["a"].tenant.column == "org_id"
    assert found.catalog.tables["b"].tenant.column == "buyer"
    assert any("public.b refers to the tenant by buyer, seller; took buyer" in note for note in found.notes)
    assert any("public.b.buyer may be NULL" in note for note in found.notes)
    assert not any("taken to be" in note for note in found.notes)


@pytest.mark.parametrize(
    ("options", "field", "expected"),
    [
        ({"tenant_table": "nowhere"}, "tenant_table", "'nowhere' is not a table"),
        ({"tenant_table": "org", "tenant_key": "nope"}, "tenant_key", "name one of id"),
        ({"tenant_column": "nope"}, "tenant_table", "no column that refers to another table is called nope"),
        ({"schemas": ["nope"]}, "schemas", "schemas with tables: public"),
    ],
)
def test_an_option_that_fits_nothing_is_refused(
    empty: psycopg.Connection[Any], options: dict[str, Any], field: str, expected: str
) -> None:
    with pytest.raises(RequestRejected, match=expected) as caught:
        reflected(empty, TWO_TENANTS, **options)
    assert caught.value.field == field


def test_an_empty_database_is_refused(empty: psycopg.Connection[Any]) -> None:
    with pytest.raises(RequestRejected, match="has no tables"):
        reflected(empty, "SELECT 1")


def test_tenant_columns_without_foreign_keys_are_found_by_name(empty: psycopg.Connection[Any]) -> None:
    found = reflected(
        empty,
        """
        CREATE TABLE tenants (id text PRIMARY KEY); CREATE TABLE pets (id int PRIMARY KEY, tenant_id text NOT NULL);
        CREATE TABLE odd (id int PRIMARY KEY, tenant_id int);
        """,
        tenant_table="tenants",
    )
    assert found.catalog.tables["pets"].tenant.column == "tenant_id"
    assert "odd" in found.catalog.excluded
    assert any("public.odd.tenant_id is integer, the tenant's key is text" in note for note in found.notes)


def test_the_best_path_loses_no_rows_and_a_tie_is_told(empty: psycopg.Connection[Any]) -> None:
    found = reflected(
        empty,
        """
        CREATE TABLE tenant (id int PRIMARY KEY);
        CREATE TABLE near (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE middle (id int PRIMARY KEY, near_id int NOT NULL REFERENCES near);
        CREATE TABLE far (id int PRIMARY KEY, near_id int REFERENCES near, middle_id int NOT NULL REFERENCES middle);
        CREATE TABLE tied (id int PRIMARY KEY, second int NOT NULL REFERENCES near, first int NOT NULL REFERENCES near);
        CREATE TABLE loop (id int PRIMARY KEY, parent int REFERENCES loop, other int);
        CREATE TABLE ring (id int PRIMARY KEY, loop_id int NOT NULL REFERENCES loop, near_id int REFERENCES near);
        ALTER TABLE loop ADD FOREIGN KEY (other) REFERENCES ring;
        """,
    )
    tables = found.catalog.tables
    assert tables["far"].tenant.through == "middle"
    assert tables["tied"].tenant.through == "first"
    assert tables["ring"].tenant.through == "near"
    assert tables["loop"].tenant.through == "other"
    assert any("public.tied reaches the tenant through first; second; took first" in note for note in found.notes)
    assert any("public.loop reaches the tenant only through a column that may be NULL" in note for note in found.notes)


def test_same_names_in_several_schemas_get_keys_of_their_own(empty: psycopg.Connection[Any]) -> None:
    found = reflected(
        empty,
        """
        CREATE TABLE tenant (id int PRIMARY KEY); CREATE SCHEMA sales; CREATE SCHEMA "Odd Schema"; CREATE SCHEMA alone;
        CREATE TABLE item (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE "Item" (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE sales.item (id int, tenant_id int NOT NULL REFERENCES tenant, code text NOT NULL UNIQUE);
        CREATE TABLE "Odd Schema"."a.b" (id int, tenant_id int REFERENCES tenant);
        CREATE TABLE alone.left_out (id int);
        """,
        schemas=["public", "sales", "Odd Schema"],
    )
    sources = {key: table.source for key, table in found.catalog.tables.items()}
    assert sources == {"tenant": None, "item": None, "item_2": "public.Item", "sales_item": "sales.item"}
    assert found.catalog.tables["sales_item"].primary_key == ("code",)
    assert set(found.catalog.excluded) == {"Odd Schema.a.b", "alone.*"}


def test_relations_of_every_kind_are_kept_or_named(empty: psycopg.Connection[Any]) -> None:
    found = reflected(
        empty,
        """
        CREATE TABLE tenant (id int PRIMARY KEY);
        CREATE TABLE base (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TABLE child (extra text) INHERITS (base);
        CREATE TABLE vault (token text PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, seen_at timestamptz);
        CREATE TABLE secrets (api_key text);
        CREATE UNLOGGED TABLE fast (id int, tenant_id int NOT NULL REFERENCES tenant);
        CREATE TEMPORARY TABLE passing (id int);
        """,
    )
    assert set(found.catalog.tables) == {"tenant", "base", "child", "vault", "fast"}
    assert set(found.catalog.tables["child"].columns) == {"id", "tenant_id", "extra"}
    assert found.catalog.excluded["secrets"] == "has no column that may be exported"
    assert found.catalog.tables["vault"].primary_key == ()
    assert any("primary key holds a credential" in note for note in found.notes)


def test_reflection_leaves_nothing_behind(sample: tuple[str, str]) -> None:
    name, url = sample
    with psycopg.connect(url) as connection:
        connection.execute("SET search_path = nowhere")
        reflect(connection, name=name)
        assert connection.execute("SHOW search_path").fetchone() == ("nowhere",)
