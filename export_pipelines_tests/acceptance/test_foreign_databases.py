"""Databases this project did not write: `catalog init`, `catalog rls --apply`, `catalog check`, `export`, `verify`.

Commands are copies of one that has imported everything already; the installed one takes the same steps in
`test_readme.py`.
"""

from __future__ import annotations

import csv
import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines_tests.control_database import emptied
from export_pipelines_tests.host import Host
from export_pipelines_tests.lanes import EXHAUSTIVE, some
from export_pipelines_tests.workshop import login_url

SCRIPTS = Path(__file__).parents[1] / "samples"

SAMPLES = {
    "filmrental": ("public.store", "1", ["rental", "payment", "inventory", "customer"]),
    "orders": (None, None, None),
}


@pytest.fixture(scope="module")
def migrated(migrated_database: Callable[[str], str]) -> str:
    """One for all tests here, since Dagster makes its tables in it with the first export."""
    return migrated_database("foreign")


@pytest.fixture(scope="module")
def samples(
    postgres: EmbeddedPostgres, database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Host]:
    """``samples(name)`` is a loaded sample with catalog, policies and a login, made once."""

    @cache
    def load(name: str) -> Host:
        admin_url = database(name)
        with psycopg.connect(admin_url, autocommit=True) as connection:
            connection.execute((SCRIPTS / f"{name}.sql").read_bytes())
        made = Host(admin_url=admin_url, environment={}, folder=tmp_path_factory.mktemp(name), server=postgres)
        made.propose_catalog(name)
        made.apply_policies()
        return made

    return load


@pytest.fixture
def host(request: pytest.FixtureRequest, samples: Callable[[str], Host], migrated: str, tmp_path: Path) -> Host:
    """A sample whose rows nobody changes, with a catalog, a home and a control database of the test's own."""
    sample = samples(request.param)
    catalog = shutil.copy(sample.catalog, tmp_path)
    own = {"EXPORT_CONTROL_URL": emptied(migrated), "EXPORT_HOME": str(tmp_path / "home"), "EXPORT_CATALOG": catalog}
    return replace(sample, folder=tmp_path, environment={**sample.environment, **own})


@pytest.fixture
def own_host(host: Host, postgres: EmbeddedPostgres) -> Host:
    """As `host`, with a copy of the database to do anything to."""
    name = f"own_{uuid.uuid4().hex}"
    template = urlsplit(host.admin_url).path.removeprefix("/")
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        connection.execute(copy)
    admin_url = postgres.url(name)
    source = login_url(postgres, admin_url, host.document()["reader_role"])
    return replace(host, admin_url=admin_url, environment={**host.environment, "EXPORT_SOURCE_URL": source})


def exported(document: dict[str, Any]) -> list[str]:
    """Tables of tenants that the catalog does not withhold."""
    listed = [(name, table) for name, table in document["tables"].items() if table.get("export", True)]
    return [name for name, table in listed if "shared" not in table["tenant"]]


def tenants_of(host: Host) -> list[str]:
    root = host.document()["tenant"]
    with psycopg.connect(host.admin_url) as connection:
        query = f'SELECT "{root.get("key", "id")}"::text FROM {root["table"]} ORDER BY 1'
        return [row[0] for row in connection.execute(query.encode())]


@pytest.mark.parametrize("host", some(SAMPLES, ["filmrental"]), indirect=True)
def test_a_database_we_did_not_write_is_exported_tenant_by_tenant(host: Host) -> None:
    document = host.document()
    host.run("catalog", "check", "--admin-url", host.admin_url)
    tables = exported(document)
    totals: dict[str, int] = dict.fromkeys(tables, 0)
    for number, tenant in enumerate(tenants_of(host)):
        folder = f"package-{number}"
        answer = host.run(
            "export",
            "--tenant",
            tenant,
            "--tables",
            ",".join(tables),
            "--format",
            "csv",
            "--include-deleted",
            "--output",
            folder,
            "--json",
        )
        assert json.loads(answer.stdout)["status"] == "completed"
        host.run("verify", folder)
        for table in tables:
            with (host.folder / folder / "data" / f"{table}.csv").open(newline="", encoding="utf-8") as file:
                totals[table] += sum(1 for _ in csv.reader(file)) - 1
    for table, found in totals.items():
        schema, _, relation = document["tables"][table].get("source", table).rpartition(".")
        schema = schema or document.get("schema", "public")
        with psycopg.connect(host.admin_url) as connection:
            row = connection.execute(f'SELECT count(*) FROM "{schema}"."{relation}"'.encode()).fetchone()
        assert row == (found,), table
        assert found > 0, table


@pytest.mark.parametrize("host", ["filmrental"], indirect=True)
def test_a_tenant_reached_through_foreign_keys_is_in_the_catalog(host: Host) -> None:
    tables = host.document()["tables"]
    assert "through" in tables["rental"]["tenant"]
    assert "through" in tables["payment"]["tenant"]


@pytest.mark.parametrize("host", ["orders"], indirect=True)
@pytest.mark.parametrize("format_name", some(["json", "ndjson", "xlsx", "xml", "parquet"], ["xlsx", "xml"]))
def test_composite_keys_bytes_and_enums_survive_every_format(host: Host, format_name: str) -> None:
    tables = ",".join(exported(host.document()))
    tenant = tenants_of(host)[0]
    host.run("export", "--tenant", tenant, "--tables", tables, "--format", format_name, "--output", "package")
    host.run("verify", "package")


@pytest.mark.parametrize("host", ["orders"], indirect=True)
@pytest.mark.parametrize("reported", [False, True], ids=["found while reading", "told by the catalog"])
def test_infinity_is_carried_as_text(host: Host, reported: bool) -> None:
    if reported:
        document = host.document()
        document["tables"]["orders"]["columns"]["deleted_at"]["as_text"] = True
        host.save(document)
    choice = ("--tables", "orders", "--format", "csv", "--include-deleted", "--output", "package")
    host.run("export", "--tenant", tenants_of(host)[0], *choice)
    host.run("verify", "package")
    with (host.folder / "package" / "data" / "orders.csv").open(newline="", encoding="utf-8") as file:
        written = {row["deleted_at"] for row in csv.DictReader(file)}
    assert "infinity" in written
    assert {len(text) for text in written} <= {len("infinity"), len("2024-01-31T12:00:00.000000"), 0}
    (table,) = json.loads((host.folder / "package" / "manifest.json").read_text())["tables"]
    (column,) = [column for column in table["columns"] if column["name"] == "deleted_at"]
    assert column["kind"] == "text"
    assert ("reason" in column) is not reported


def drop_policy(connection: psycopg.Connection[Any], host: Host) -> None:
    connection.execute("DROP POLICY export_tenant_only ON rental")
    connection.execute("DROP POLICY export_tenant_read ON rental")


def disable_security(connection: psycopg.Connection[Any], host: Host) -> None:
    connection.execute("ALTER TABLE rental DISABLE ROW LEVEL SECURITY")


def let_the_role_bypass(connection: psycopg.Connection[Any], host: Host) -> None:
    connection.execute(f"ALTER ROLE {host.document()['reader_role']} BYPASSRLS".encode())


def change_a_type(connection: psycopg.Connection[Any], host: Host) -> None:
    document = host.document()
    document["tables"]["rental"]["columns"]["rental_id"]["type"] = "text"
    host.save(document)


def invent_a_column(connection: psycopg.Connection[Any], host: Host) -> None:
    document = host.document()
    document["tables"]["rental"]["columns"]["colour"] = {"type": "text"}
    host.save(document)


@pytest.mark.parametrize("host", ["filmrental"], indirect=True)
@pytest.mark.parametrize(
    ("sabotage", "message"),
    [
        (drop_policy, "rental: policy 'export_keep_access' lets rows through without looking at export.tenant_id"),
        pytest.param(disable_security, "rental: row-level security is not enabled", marks=EXHAUSTIVE),
        pytest.param(let_the_role_bypass, "has BYPASSRLS", marks=EXHAUSTIVE),
        (change_a_type, "rental.rental_id"),
        pytest.param(invent_a_column, "colour", marks=EXHAUSTIVE),
    ],
)
def test_a_source_that_is_not_safe_or_not_as_said_is_refused(
    own_host: Host, sabotage: Callable[[psycopg.Connection[Any], Host], None], message: str
) -> None:
    with psycopg.connect(own_host.admin_url, autocommit=True) as connection:
        sabotage(connection, own_host)
        try:
            tenant = tenants_of(own_host)[0]
            refused = own_host.run("export", "--tenant", tenant, "--tables", "rental", "--format", "csv", code=2)
            own_host.run("catalog", "check", "--admin-url", own_host.admin_url, code=3)
        finally:
            connection.execute(f"ALTER ROLE {own_host.document()['reader_role']} NOBYPASSRLS".encode())
    assert message in refused.stderr
    assert "catalog" in refused.stderr  # the next step
    assert not list((own_host.folder / "home" / "objects" / "exports").rglob("*"))
    listed = json.loads(own_host.run("requests", "list", "--json").stdout)
    assert listed == []  # the estimate has seen it before there was a request


@pytest.mark.parametrize("host", ["filmrental"], indirect=True)
def test_a_source_that_is_down_is_said_to_be_down(host: Host) -> None:
    url = "postgresql://nobody:secret-word@127.0.0.1:9/void"
    down = host.run("export", "--tenant", "1", "--tables", "rental", "--format", "csv", code=4, EXPORT_SOURCE_URL=url)
    assert "127.0.0.1:9/void does not answer" in down.stderr
    assert "secret-word" not in down.stderr + down.stdout
    down = host.run("requests", "list", code=4, EXPORT_CONTROL_URL=url, EXPORT_SOURCE_URL=url)
    assert "does not answer" in down.stderr
    assert "secret-word" not in down.stderr + down.stdout


@pytest.mark.parametrize("host", ["filmrental"], indirect=True)
def test_a_bucket_that_is_down_publishes_nothing_and_says_so(host: Host) -> None:
    down = host.run(
        "export",
        "--tenant",
        tenants_of(host)[0],
        "--tables",
        "rental",
        "--format",
        "csv",
        code=4,
        EXPORT_STORAGE_URL="s3://nowhere/prefix",
        S3_ENDPOINT="http://127.0.0.1:9",
        S3_REGION="us-east-1",
        S3_ACCESS_KEY_ID="key",
        S3_SECRET_ACCESS_KEY="secret-word",
    )
    assert "nowhere" in down.stderr
    assert "secret-word" not in down.stderr + down.stdout


@pytest.mark.parametrize("host", ["filmrental"], indirect=True)
def test_a_mail_server_that_is_down_never_spoils_a_finished_export(host: Host) -> None:
    answer = host.run(
        "export",
        "--tenant",
        tenants_of(host)[0],
        "--tables",
        "rental",
        "--format",
        "csv",
        "--email",
        "a@example.org",
        "--json",
        SMTP_HOST="127.0.0.1",
        SMTP_PORT="9",
        SMTP_SECURITY="none",
    )
    request = json.loads(answer.stdout)
    assert request["status"] == "completed"
    assert [delivery["status"] for delivery in request["deliveries"]] == ["pending"]
    assert "does not answer" in request["deliveries"][0]["error_message"]
