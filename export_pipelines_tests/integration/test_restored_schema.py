"""What a migration package carries of a schema with everything in it, and what it leaves out and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.migration import load_order
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import find_format
from export_pipelines.pipeline.restoration.restore import Restoration, restore_package
from export_pipelines_tests.fidelity.test_type_matrix import services_on
from export_pipelines_tests.migrations import migration_package

SHOP = """
CREATE SCHEMA shop;
CREATE SCHEMA kinds;
CREATE FUNCTION shop.price_code(n numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'p' || n $$;
CREATE COLLATION shop.folded (provider = builtin, locale = 'C.UTF-8');
CREATE TYPE kinds.colour AS ENUM ('red', 'dark "blue"');
CREATE DOMAIN shop.positive AS integer CHECK (VALUE > 0);
CREATE SEQUENCE shop.numbers INCREMENT 5;
CREATE TABLE shop.tenants (id text PRIMARY KEY);
CREATE TABLE shop.suppliers (id int PRIMARY KEY, tenant_id text NOT NULL REFERENCES shop.tenants, gone_at timestamptz);
CREATE TABLE shop."Items" (
    id int GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY,
    tenant_id text NOT NULL REFERENCES shop.tenants,
    supplier_id int REFERENCES shop.suppliers,
    part_of int REFERENCES shop."Items" DEFERRABLE INITIALLY DEFERRED,
    number int NOT NULL DEFAULT nextval('shop.numbers'),
    serial serial,
    colour kinds.colour NOT NULL DEFAULT 'red',
    amount shop.positive DEFAULT 1,
    price numeric(8, 2) CHECK (price >= 0),
    cost numeric(8, 2),
    gross numeric(9, 2) GENERATED ALWAYS AS (price * 2) STORED,
    code text GENERATED ALWAYS AS (shop.price_code(price)) STORED,
    made text DEFAULT shop.price_code(7),
    label text COLLATE "C" NOT NULL,
    folded text COLLATE shop.folded,
    period daterange,
    secret text NOT NULL DEFAULT 's',
    "odd "" name" text[],
    UNIQUE NULLS NOT DISTINCT (tenant_id, label),
    EXCLUDE USING gist (period WITH &&),
    CONSTRAINT margin CHECK (cost <= price),
    CONSTRAINT hidden CHECK (secret <> '')
);
CREATE INDEX priced ON shop."Items" (price DESC) INCLUDE (label) WHERE price > 1;
CREATE INDEX coded ON shop."Items" (shop.price_code(price));
CREATE INDEX lowered ON shop."Items" (lower(label));
CREATE TABLE shop.moves (
    id bigint, item_id int REFERENCES shop."Items", tenant_id text NOT NULL REFERENCES shop.tenants,
    at timestamptz NOT NULL, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE shop.moves_all PARTITION OF shop.moves DEFAULT;
CREATE INDEX moved ON shop.moves (item_id);
ALTER TABLE shop."Items" ADD CONSTRAINT supplied NOT NULL supplier_id NOT VALID;
INSERT INTO shop.tenants VALUES ('a'), ('b');
INSERT INTO shop.suppliers VALUES (1, 'a', now()), (2, 'a', NULL), (3, 'b', NULL);
INSERT INTO shop."Items" (tenant_id, supplier_id, price, cost, label, period, "odd "" name")
VALUES ('a', 1, 2.50, 1, 'one', '[2024-01-01,2024-02-01)', '{{x,"y,z"},{NULL,""}}'), ('a', 2, 1, 1, 'Two', NULL, NULL),
       ('b', 3, 9, 9, 'theirs', '[2025-01-01,)', '{}');
UPDATE shop."Items" SET part_of = 10 WHERE label = 'Two';
INSERT INTO shop.moves VALUES (1, 10, 'a', '2024-01-05'), (2, 12, 'b', '2024-01-05');
"""
ITEMS = "Items"


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The database, its catalog, and a way to restore its migration package into it under another name."""

    connection: psycopg.Connection[Any]
    catalog: Catalog
    items: str  # the key of "Items" in the catalog
    restore: Callable[..., Restoration]

    def left_out(self, found: Restoration) -> dict[str, str]:
        return {left.what: left.reason for left in found.left_out}

    def definitions(self, query: str, schema: str) -> set[str]:
        """What PostgreSQL says of the objects of a schema, its name put back."""
        rows = self.connection.execute(query.encode(), (schema,)).fetchall()
        return {name.replace("again.", "shop.") for (name,) in rows}


@pytest.fixture(scope="module")
def shop(
    database: Callable[[str], str], postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    url, home = database("shop"), tmp_path_factory.mktemp("shop")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SHOP.encode())
        catalog = _without_secret(reflect(connection, name="shop", tenant_table="shop.tenants").catalog)
        apply_rls(connection, catalog)
        with services_on(url, catalog, postgres, home) as services:

            def restored(
                name: str, *tables: str, without_deleted: str = "", format_: str = "csv", **options: Any
            ) -> Restoration:
                folder = migration_package(
                    services, catalog, "a", home, *tables, name=name, format_=format_, without_deleted=without_deleted
                )
                connection.execute("DROP SCHEMA IF EXISTS again CASCADE")
                connection.execute("ALTER SCHEMA kinds RENAME TO theirs")
                try:
                    return restore_package(folder, url, find_format, schema="again", **options)
                finally:
                    connection.execute('ALTER TABLE IF EXISTS again."Items" ALTER COLUMN colour TYPE text')
                    connection.execute("DROP SCHEMA IF EXISTS kinds CASCADE")
                    connection.execute("ALTER SCHEMA theirs RENAME TO kinds")

            (items,) = (key for key in catalog.tables if catalog.relation_name(key)[1] == ITEMS)
            yield Shop(connection=connection, catalog=catalog, items=items, restore=restored)


def _without_secret(catalog: Catalog) -> Catalog:
    raw = catalog.model_dump(by_alias=True, mode="json")
    (items,) = (key for key in catalog.tables if catalog.relation_name(key)[1] == ITEMS)
    raw["tables"][items]["columns"]["secret"]["exclude"] = "never leaves the shop"
    raw["tables"][items]["columns"]["cost"]["mask"] = "nobody's business"
    raw["tables"]["suppliers"]["deleted_column"] = "gone_at"
    return Catalog.model_validate(raw)


@pytest.mark.parametrize("format_", ["csv", "parquet"])
def test_rows_and_what_the_database_computes_are_the_same(shop: Shop, format_: str) -> None:
    shop.restore(f"rows-{format_}", format_=format_)
    columns = [name for name in shop.catalog.tables[shop.items].exported_columns if name != "cost"]
    listed = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
    there, here = (
        shop.connection.execute(
            sql.SQL("SELECT {} FROM {}.{} WHERE tenant_id = 'a' ORDER BY id").format(
                listed, sql.Identifier(schema), sql.Identifier(ITEMS)
            )
        ).fetchall()
        for schema in ("shop", "again")
    )
    assert there == here != []


def test_sequences_and_identities_go_on_where_the_tenants_rows_end(shop: Shop) -> None:
    shop.restore("sequences")
    following = shop.connection.execute(
        """
        SELECT nextval(pg_get_serial_sequence('again."Items"', 'id')), nextval('again.numbers'),
               nextval(pg_get_serial_sequence('again."Items"', 'serial'))
        """
    ).fetchone()
    assert following == (12, 11, 3)
    refused = psycopg.errors.GeneratedAlways
    with pytest.raises(refused):
        shop.connection.execute("""INSERT INTO again."Items" (id, tenant_id, label, colour) VALUES (1, 'a', 'x', '')""")


CONSTRAINTS = """
SELECT conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE k.connamespace = %s::regnamespace AND contype <> 'n' AND NOT relispartition
"""


def test_constraints_are_those_of_the_source_but_for_what_was_named(shop: Shop) -> None:
    found = shop.restore("constraints")
    source, copy = (shop.definitions(CONSTRAINTS, schema) for schema in ("shop", "again"))
    assert copy <= source
    lost = {line.split()[1] for line in source - copy}
    assert lost == {"margin", "hidden"}
    assert {"check margin", "check hidden"} <= shop.left_out(found).keys()


def test_what_needs_the_application_or_a_hidden_column_is_named_and_left_out(shop: Shop) -> None:
    reasons = shop.left_out(shop.restore("left-out"))
    assert set(reasons) == {
        "generation of code",
        "default of made",
        "collation of folded",
        "check margin",
        "check hidden",
        "index coded",
        "NOT NULL of supplier_id",
        "partitioning by RANGE (at)",
        "position of sequence numbers",
        'position of sequence "Items_id_seq"',
        'position of sequence "Items_serial_seq"',
    }
    assert "shop.price_code" in reasons["generation of code"]
    assert "not exported" in reasons["check hidden"]
    kept = shop.connection.execute(
        "SELECT code, made FROM again.\"Items\" WHERE label = 'one'"  # values stay, as plain columns
    ).fetchone()
    assert kept == ("p2.50", "p7")


def test_a_foreign_key_that_some_row_would_break_is_left_out_with_the_reason(shop: Shop) -> None:
    found = shop.restore("orphans", without_deleted="suppliers")
    reasons = shop.left_out(found)
    assert reasons["foreign key Items_supplier_id_fkey"] == "needs 1 rows of suppliers that are not in the package"
    assert found.tables["suppliers"] == 1


def test_nothing_of_other_tenants_roles_or_policies_comes_along(shop: Shop) -> None:
    shop.restore("alone")
    for query in (
        "SELECT 1 FROM pg_policies WHERE schemaname = 'again'",
        "SELECT 1 FROM again.\"Items\" WHERE tenant_id <> 'a'",
        "SELECT 1 FROM pg_class WHERE relnamespace = 'again'::regnamespace AND relacl IS NOT NULL",
        "SELECT 1 FROM pg_attribute WHERE attrelid = 'again.\"Items\"'::regclass AND attname = 'secret'",
    ):
        assert shop.connection.execute(query.encode()).fetchall() == [], query


def test_circles_and_strangers_do_not_keep_tables_from_an_order() -> None:
    parents = {"a": ["b"], "b": ["c", "a"], "d": ["d", "x"]}
    assert load_order(["a", "b", "c", "d"], parents)[-1] == "d"
    assert set(load_order(["a", "b", "c", "d"], parents)) >= {"a", "b", "c", "d"}
    assert load_order(["child", "parent"], {"child": ["parent"]}) == ("parent", "child")
