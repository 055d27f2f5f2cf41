"""Filter, policy and the last check of each batch take the same rows for the tenant's as a foreign key would."""

from __future__ import annotations

import itertools
import os
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.check import check_drift, static_isolation
from export_pipelines.catalog.resolving import resolve
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.pipeline.assembly import require_sound
from export_pipelines.sources import relation
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines_tests.workshop import login_url

TYPES = ("CREATE DOMAIN slug AS text", "CREATE TYPE state AS ENUM ('live', 'gone')")
EXTENSIONS = (  # the embedded PostgreSQL has neither citext nor ICU
    "CREATE SCHEMA extensions",
    "CREATE EXTENSION citext SCHEMA extensions",
    "CREATE DOMAIN extensions.handle AS extensions.citext",
    "CREATE COLLATION extensions.ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
)
BASES = {"slug": "text", "extensions.handle": "extensions.citext"}
A, B = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
CI = 'text COLLATE extensions."ci"'

_numbers = itertools.count(1)


def catalog_of(key: str, column: str) -> Catalog:
    """Marks with a tenant column, and lines that reach the tenant through a mark."""
    key, column = (name.partition(" COLLATE")[0] for name in (key, column))
    mark = {"columns": ["mark_id"], "references": "marks", "referenced_columns": ["id"]}
    return Catalog.model_validate(
        {
            "name": "keys",
            "reader_role": f"keys_{os.getpid()}_{next(_numbers)}_reader",
            "tenant": {"table": "public.tenants", "key": "id", "type": BASES.get(key, key)},
            "tables": {
                "marks": {
                    "primary_key": ["id"],
                    "tenant": {"column": "tenant_id"},
                    "columns": {"id": {"type": "integer"}, "tenant_id": {"type": BASES.get(column, column)}},
                },
                "lines": {
                    "tenant": {"through": "mark"},
                    "columns": {"mark_id": {"type": "integer"}},
                    "relations": {"mark": mark},
                },
            },
        }
    )


def prepare(url: str, catalog: Catalog, key: str, column: str, tenant: str, values: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (*TYPES, *(EXTENSIONS if "extensions" in key + column else ())):
            connection.execute(statement)
        connection.execute(f"CREATE TABLE tenants (id {key} PRIMARY KEY)")
        connection.execute(f"CREATE TABLE marks (id serial PRIMARY KEY, tenant_id {column})")
        connection.execute("CREATE TABLE lines (mark_id int REFERENCES marks)")
        connection.execute(sql.SQL("INSERT INTO tenants VALUES ({})").format(sql.Literal(tenant)))
        for value in values:
            connection.execute(sql.SQL("INSERT INTO marks (tenant_id) VALUES ({})").format(sql.Literal(value)))
        connection.execute("INSERT INTO lines SELECT id FROM marks")
        apply_rls(connection, catalog)


def fresh(server: Any) -> str:
    name = f"keys_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return str(server.url(name))


def rows(source: PostgresSource, table: str, tenant: str) -> tuple[int, int]:
    """Read by filter and policy, and counted by the policy alone."""
    selection = TableSelection(table=table, columns=tuple(source.catalog.tables[table].columns))
    with source.snapshot(TenantScope(tenant_id=tenant)) as snapshot:
        read = sum(batch.num_rows for batch in snapshot.read(selection))
        return read, snapshot.count_by_policy(selection)


@pytest.mark.parametrize(
    ("server", "key", "column", "tenant", "own", "others"),
    [
        ("postgres", "numeric", "numeric", "1", ["1", "1.0", "1.000"], ["10"]),
        ("postgres", "bigint", "integer", "7", ["7"], ["70"]),
        ("postgres", "integer", "bigint", "7", ["7"], ["70"]),
        ("postgres", "bigint", "numeric", "7", ["7", "7.00"], ["7.5"]),
        ("postgres", "character(6)", "character(4)", "ab", ["ab", "ab "], ["abc"]),
        ("postgres", "character(4)", "text", "ab", ["ab", "ab  "], ["abc"]),
        ("postgres", "text", "character varying(9)", "ab", ["ab"], ["AB", "ab "]),
        ("postgres", "uuid", "uuid", A, [f"{{{A.upper()}}}", A], [B]),
        ("postgres", "state", "state", "live", ["live"], ["gone"]),
        ("postgres", "slug", "text", "ab", ["ab"], ["AB"]),
        ("postgres", "text", "slug", "ab", ["ab"], ["AB"]),
        ("debian_postgres", "numeric", "numeric", "1", ["1", "1.0"], ["10"]),
        ("debian_postgres", "extensions.citext", "extensions.citext", "acme", ["acme", "ACME"], ["acm"]),
        ("debian_postgres", "extensions.citext", "extensions.handle", "acme", ["acme", "ACME"], ["acm"]),
        ("debian_postgres", "text", "extensions.citext", "acme", ["acme"], ["ACME"]),  # two tenants, were both there
        ("debian_postgres", CI, CI, "acme", ["acme", "ACME"], ["acm"]),
        ("debian_postgres", CI, "text", "acme", ["acme", "ACME"], ["acm"]),
        ("debian_postgres", "text", CI, "acme", ["acme"], ["ACME"]),
    ],
)
def test_every_row_that_a_foreign_key_would_accept_is_read_and_no_other(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    key: str,
    column: str,
    tenant: str,
    own: list[str],
    others: list[str],
) -> None:
    running = request.getfixturevalue(server)
    url, catalog = fresh(running), catalog_of(key, column)
    prepare(url, catalog, key, column, tenant, [*own, *others])
    login = login_url(running, url, catalog.reader_role)
    source = PostgresSource(
        login, catalog, check_tables=require_sound, report=attest_session, compare=find_unknown, resolve=resolve
    )
    assert rows(source, "marks", tenant) == rows(source, "lines", tenant) == (len(own), len(own))

    monkeypatch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
    assert rows(source, "marks", tenant) == (len(own), len(own))
    with psycopg.connect(url, autocommit=True) as connection:
        for policy in ("export_tenant_read", "export_tenant_only"):
            connection.execute(f"ALTER POLICY {policy} ON marks USING (true)")
    open_source = PostgresSource(
        login, catalog, check_tables=lambda *_: None, report=attest_session, compare=find_unknown, resolve=resolve
    )
    with pytest.raises(IntegrityViolation, match="rows of another tenant"):
        rows(open_source, "marks", tenant)


@pytest.mark.parametrize(
    ("key", "column", "tenant", "value"),
    [("uuid", "text", A, A), ("bigint", "double precision", "7", "7"), ("text", "integer", "7", "7")],
)
def test_a_column_that_no_foreign_key_compares_with_the_key_is_an_error(
    postgres: Any, key: str, column: str, tenant: str, value: str
) -> None:
    url, catalog = fresh(postgres), catalog_of(key, column)
    prepare(url, catalog, key, column, tenant, [value])
    with psycopg.connect(url, autocommit=True) as connection:
        assert not [finding for finding in check_drift(connection, catalog) if finding.level == "error"]
        found = static_isolation(connection, catalog, catalog.tables, catalog.reader_role)
    assert [(finding.level, finding.table) for finding in found] == [("error", "marks"), ("error", "lines")]
    assert all("no foreign key of PostgreSQL compares" in finding.message for finding in found)


def test_tenants_are_told_apart_letter_by_letter(debian_postgres: Any) -> None:
    """A request in another spelling would have folders of its own in the lake."""
    url, catalog = fresh(debian_postgres), catalog_of(CI, "text")
    prepare(url, catalog, CI, "text", "acme", ["acme"])
    login = login_url(debian_postgres, url, catalog.reader_role)
    source = PostgresSource(
        login, catalog, check_tables=require_sound, report=attest_session, compare=find_unknown, resolve=resolve
    )
    with pytest.raises(Exception, match="not among the tenants"):
        rows(source, "marks", "ACME")
