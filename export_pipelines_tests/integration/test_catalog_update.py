"""`catalog update`: what is new in the database comes into an edited file, and no decision is touched."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.update import Update, update_catalog
from export_pipelines.core.catalog import Relation
from export_pipelines.core.errors import RequestRejected
from export_pipelines_tests.host import Host

BEFORE = """
CREATE TABLE tenant (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, note text, old text, total int);
CREATE TABLE lines (id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders);
CREATE TABLE internal (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
CREATE TABLE currency (code text PRIMARY KEY);
CREATE TABLE gone (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant);
"""
AFTER = """
ALTER TABLE orders ADD email text, ADD access_token text, DROP old, ALTER total TYPE bigint;
ALTER TABLE internal ADD extra text;
ALTER TABLE currency ADD symbol text;
DROP TABLE gone;
CREATE TABLE customer (id int PRIMARY KEY, tenant_id int NOT NULL REFERENCES tenant, "Full Name" text);
ALTER TABLE orders ADD customer_id int REFERENCES customer;
CREATE TABLE parts (id int PRIMARY KEY, line_id int NOT NULL REFERENCES lines);
CREATE TABLE of_internal (id int PRIMARY KEY, internal_id int NOT NULL REFERENCES internal);
CREATE TABLE of_hidden (id int PRIMARY KEY, hidden_id int NOT NULL);
CREATE TABLE country (code text PRIMARY KEY);
CREATE MATERIALIZED VIEW sums AS SELECT tenant_id, count(*) FROM orders GROUP BY 1;
"""
EDITED = """# Ours; ask Ann before you change it.
version: 1
name:   "shop"
tenant: {table: public.tenant, label: name, type: integer}   # one row a firm

tables:
    tenant:
        primary_key: [id]
        tenant: {column: id}
        columns:
            id: {type: integer, nullable: false}
            name: {type: text}
    bestellungen:     # called otherwise
        source: public.orders
        description: 'Orders, one row each'
        tenant: {column: tenant_id}
        primary_key: [id]
        columns:
            total: { type: integer, label: "Total" }
            id: {type: integer, nullable: false,
                 classification: identifier}
            tenant_id: {type: integer, nullable: false}
            note: {type: text, mask: "private: see 'policy' # 3"}  # decided in May
            old: {type: text}
            # nothing below
        # The relation to the tenant is left out on purpose.

    lines:
        tenant: {through: order}
        primary_key: [id]
        columns: {id: {type: integer, nullable: false}, order_id: {type: integer, nullable: false}}
        relations: {order: {columns: [order_id], references: bestellungen, referenced_columns: [id]}}
    gone:
        tenant: {column: tenant_id}
        primary_key: [id]
        columns:
            id: {type: integer, nullable: false}
            tenant_id: {type: integer, nullable: false}
    currency:
        export: false
        reason: not asked for
        tenant: {shared: Reference data}
        primary_key: [code]
        columns:
            code: {type: text, nullable: false}

# What nobody may have
excluded:
    internal: 'Ours'
"""


@pytest.fixture(scope="module")
def connection(database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database("update"), autocommit=True) as connection:
        connection.execute((BEFORE + AFTER).encode())
        yield connection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(EDITED, encoding="utf-8")
    return path


@pytest.fixture
def updated(connection: psycopg.Connection[Any], path: Path) -> Update:
    return update_catalog(connection, path)


def test_every_line_of_the_file_stays_as_it_was(updated: Update) -> None:
    changes = difflib.ndiff(EDITED.splitlines(), updated.text.splitlines())
    removed = [line for line in changes if line.startswith("- ")]
    assert removed == []


def test_what_is_new_is_added_as_init_would_propose_it(updated: Update, path: Path) -> None:
    path.write_text(updated.text, encoding="utf-8")
    catalog = load_catalog(path)
    orders = catalog.tables["bestellungen"]
    assert [*orders.columns][-3:] == ["email", "access_token", "customer_id"]
    assert orders.columns["email"].classification == "personal"
    assert orders.columns["access_token"].exclude
    assert orders.relations == {
        "customer": Relation(columns=("customer_id",), references="customer", referenced_columns=("id",))
    }
    assert catalog.tables["customer"].tenant.column == "tenant_id"
    assert "Full Name" in catalog.tables["customer"].columns
    assert catalog.tables["parts"].tenant.through == "line"
    assert set(catalog.withheld) == {"currency", "country", "of_internal", "of_hidden"}
    assert "symbol" in catalog.withheld["currency"].columns
    assert catalog.withheld["currency"].reason == "not asked for"
    assert "internal" not in {*catalog.tables, *catalog.withheld}
    assert "materialized views" in catalog.excluded["sums"]
    assert set(updated.added) >= {"table customer", "column bestellungen.email", "relation bestellungen.customer"}


def test_what_is_gone_or_has_changed_is_named_and_left(updated: Update) -> None:
    found = {str(finding).partition(";")[0] for finding in updated.findings}
    assert found >= {
        "warning: gone: is no longer in the database",
        "error: bestellungen.old: does not exist in public.orders",
        "error: bestellungen.total: is bigint in the database, integer in the catalog",
    }


def test_a_second_time_nothing_is_new(connection: psycopg.Connection[Any], updated: Update, path: Path) -> None:
    path.write_text(updated.text, encoding="utf-8")
    again = update_catalog(connection, path)
    assert (again.text, again.added) == (updated.text, ())


def test_a_proposal_is_up_to_date(connection: psycopg.Connection[Any], tmp_path: Path) -> None:
    found = reflect(connection, name="shop", tenant_table="tenant")
    path = tmp_path / "catalog.yaml"
    path.write_text(dump_catalog(found.catalog, suggested=found.suggested, remarks=found.remarks), encoding="utf-8")
    assert update_catalog(connection, path).added == ()


def test_an_alias_is_named_and_nothing_is_written(connection: psycopg.Connection[Any], path: Path) -> None:
    text = EDITED.replace("        columns:\n            total:", "        columns: &shared\n            total:")
    copy = "    copy:\n        source: public.orders2\n        tenant: {column: tenant_id}\n        columns: *shared\n"
    text = text.replace("\n# What nobody", f"{copy}\n# What nobody")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RequestRejected, match=r"tables\.bestellungen\.columns is a YAML alias or has one"):
        update_catalog(connection, path)


def test_the_command_prints_what_it_would_do_and_then_does_it(case_host: Callable[..., Host]) -> None:
    host = case_host("rails_nofk")
    host.run("catalog", "init", "--name", "rails", "--admin-url", host.admin_url, "--out", "catalog.yaml")
    host.environment["EXPORT_CATALOG"] = str(host.catalog)
    before = host.catalog.read_text()
    with psycopg.connect(host.admin_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE builds ADD log text")
    printed = host.run("catalog", "update", "--dry-run", "--admin-url", host.admin_url)
    assert "+      log: {type: text}" in printed.stdout
    assert host.catalog.read_text() == before
    done = host.run("catalog", "update", "--admin-url", host.admin_url)
    assert "added: column builds.log" in done.stderr
    assert host.catalog.read_text() == before.replace(
        "      status: {type: text}\n", "      status: {type: text}\n      log: {type: text}\n"
    )
    assert "nothing is new" in host.run("catalog", "update", "--admin-url", host.admin_url).stderr
