"""What roles and databases are given by ALTER ROLE and ALTER DATABASE changes no byte of what the service makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls, rls_sql
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.model import TableSelection, TenantScope
from export_pipelines.core.session_settings import SETTINGS, TRANSACTION_DEFAULTS
from export_pipelines.samples.loader import load_sample
from export_pipelines.sources.engines import Engine
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines.sources.session import PHYSICAL_ORDER, administering
from export_pipelines_tests.host import CASES
from export_pipelines_tests.workshop import login_url

HOSTILE = {
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "client_encoding": "LATIN1",
    "search_path": "evil, pg_catalog",
    "quote_all_identifiers": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "timezone_abbreviations": "India",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "xmloption": "document",
    "xmlbinary": "hex",
    "lc_numeric": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "gin_fuzzy_search_limit": "1",
    "statement_timeout": "1h",
    "lock_timeout": "1h",
    "idle_in_transaction_session_timeout": "1h",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "default_transaction_deferrable": "on",
    "synchronize_seqscans": "on",
    "max_parallel_workers_per_gather": "8",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
}
EVIL = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'stolen' $$;
CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS $$ SELECT 7 $$;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
"""


def make_hostile(admin_url: str, role: str) -> None:
    """Every setting for the role and for the database, each of which a session may get."""
    database = urlsplit(admin_url).path.removeprefix("/")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute(EVIL)
        for kind, name in (("ROLE", role), ("DATABASE", database)):
            for setting, value in HOSTILE.items():
                written = sql.SQL(value) if setting == "search_path" else sql.Literal(value)
                connection.execute(
                    sql.SQL("ALTER {} {} SET {} = {}").format(
                        sql.SQL(kind), sql.Identifier(name), sql.Identifier(setting.lower()), written
                    )
                )


def test_every_pinned_setting_is_among_the_hostile_ones() -> None:
    assert HOSTILE.keys() == (SETTINGS | TRANSACTION_DEFAULTS | PHYSICAL_ORDER).keys()


def read_all(url: str, catalog: Catalog, engine: Engine) -> list[Any]:
    """Rows and figures of the first tenant, with the tenants."""
    source = PostgresSource(
        url, catalog, check_tables=lambda *_: None, report=None, compare=find_unknown, engine=engine
    )  # type: ignore[arg-type]
    found: list[Any] = [source.tenants()]
    with source.snapshot(TenantScope(tenant_id="1")) as snapshot:
        for name in sorted(catalog.tables):
            selection = TableSelection(table=name, columns=catalog.tables[name].exported_columns)
            found += [[batch.to_pylist() for batch in snapshot.read(selection)], snapshot.aggregate(selection)]
    return found


def test_hostile_settings_change_nothing(
    database: Callable[[str], str], postgres: Any, engine: Engine, tmp_path: Path
) -> None:
    admin_url = database("settings")
    with psycopg.connect(admin_url, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute((CASES / "printed_values.sql").read_bytes())
    reader = f"settings_{engine.name}_reader"

    def proposed() -> str:
        with administering(admin_url) as connection:
            return dump_catalog(reflect(connection, name="settings", tenant_table="public.firms").catalog)

    def policies(catalog: Catalog) -> list[str]:
        with administering(admin_url) as connection:
            return rls_sql(connection, catalog)

    before = proposed()
    (tmp_path / "catalog.yaml").write_text(before)
    catalog = load_catalog(tmp_path / "catalog.yaml").model_copy(update={"reader_role": reader})
    with administering(admin_url) as connection:
        apply_rls(connection, catalog)
    url = login_url(postgres, admin_url, reader)
    statements, rows = policies(catalog), read_all(url, catalog, engine)
    make_hostile(admin_url, f"login_{reader}")
    assert proposed() == before
    assert policies(catalog) == statements
    assert read_all(url, catalog, engine) == rows


def test_a_sample_has_the_same_rows_under_any_settings(database: Callable[[str], str]) -> None:
    found = []
    for hostile in (False, True):
        url = database("sample")
        loader = urlsplit(url).path.removeprefix("/")
        with psycopg.connect(url, autocommit=True) as connection:
            role = sql.SQL("CREATE ROLE {} SUPERUSER LOGIN PASSWORD 'loader'").format(sql.Identifier(loader))
            connection.execute(role)
        if hostile:
            make_hostile(url, loader)
        load_sample(f"postgresql://{loader}:loader@{url.partition('@')[2]}", "clinic", tenants=2, rows=400)
        with administering(url) as connection:
            digest = "SELECT md5(string_agg(v::text, '' ORDER BY id)) FROM clinic.invoices v"
            found.append((connection.execute(digest).fetchone(), _schema_of(connection)))
    assert found[0] == found[1]


def _schema_of(connection: psycopg.Connection[Any]) -> list[Any]:
    definitions = "SELECT tablename, policyname, qual, with_check FROM pg_policies ORDER BY 1, 2"
    return connection.execute(definitions).fetchall()
