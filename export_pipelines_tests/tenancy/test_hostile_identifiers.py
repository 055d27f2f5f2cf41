"""A database whose owner calls tables and columns what nobody should: they are exported, whatever they are called."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from export_pipelines.catalog.check import check
from export_pipelines.catalog.load import dump_catalog, load_catalog
from export_pipelines.catalog.reflect import reflect
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.core.ports import TableHead
from export_pipelines.core.types import field_of
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.settings import Settings
from export_pipelines_tests.workshop import Workshop, login_url, make_workshop

OURS, THEIRS = "a=b", "%"
TABLE = "we\"ird %s '; DROP\n* é"
COLUMNS = (
    "*",
    "^.*$",
    "^id$",
    "Id",
    "ID_1",
    "q\"u'o,te",
    "line\nbreak",
    "100%",
    "%s",
    "{0}",
    "a/b~c.d",
    "$.x[0]",
    "<b>&amp;",
    "=1+1",
    "[/red]",
    "row",
    "é\u202e",
    "-- ; \\",
)


@pytest.fixture(scope="module")
def hostile(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> tuple[str, str]:
    """(administrator's URL, login's URL) of a database with one hostile table, two rows a tenant."""
    admin_url = database("hostile")
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in COLUMNS)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "orgs%" ("k%" text PRIMARY KEY)')
        connection.execute("INSERT INTO \"orgs%\" VALUES ('a=b'), ('%')")
        connection.execute(
            sql.SQL(
                'CREATE TABLE {} (id integer PRIMARY KEY, "Org_Id" text NOT NULL REFERENCES "orgs%", org_id text, {})'
            ).format(sql.Identifier(TABLE), columns)
        )
        for number, tenant in enumerate((OURS, OURS, THEIRS, THEIRS)):
            other = THEIRS if tenant == OURS else OURS
            values = [number, tenant, other, *(f"{name}{number}" for name in COLUMNS)]
            insert = sql.SQL("INSERT INTO {} VALUES ({})").format(
                sql.Identifier(TABLE), sql.SQL(", ").join(map(sql.Literal, values))
            )
            connection.execute(insert)
        catalog = reflect(connection, name="hostile", tenant_table="orgs%", tenant_column="Org_Id").catalog
        catalog = catalog.model_copy(update={"reader_role": "hostile_reader"})
        apply_rls(connection, catalog)
    return admin_url, login_url(postgres, admin_url, "hostile_reader")


@pytest.fixture
def workshop(hostile: tuple[str, str], control_url: str, tmp_path: Path) -> Iterator[Workshop]:
    admin_url, url = hostile
    home = tmp_path / "h=1 [x]*"
    home.mkdir()
    with psycopg.connect(admin_url) as connection:
        catalog = reflect(connection, name="hostile", tenant_table="orgs%", tenant_column="Org_Id").catalog
    path = home / "catalog.yaml"
    path.write_text(dump_catalog(catalog.model_copy(update={"reader_role": "hostile_reader"})), encoding="utf-8")
    settings = Settings(
        EXPORT_SOURCE_URL=url,
        EXPORT_CONTROL_URL=control_url,
        EXPORT_HOME=home,
        EXPORT_CATALOG=path,
        EXPORT_HEARTBEAT_SECONDS=0.2,
    )
    with make_workshop(settings, load_catalog(path)) as made:
        yield made


def weird(workshop: Workshop) -> str:
    return next(name for name in workshop.catalog.tables if name.startswith("we"))


def test_the_catalog_of_hostile_names_has_no_errors(hostile: tuple[str, str], workshop: Workshop) -> None:
    with psycopg.connect(hostile[0]) as connection:
        findings = check(connection, workshop.catalog)
    assert [str(finding) for finding in findings if finding.level == "error"] == []


@pytest.mark.parametrize("tenant", [OURS, THEIRS])
@pytest.mark.parametrize("format_name", list(all_formats()))
def test_hostile_names_leave_in_every_format_and_can_be_checked(
    workshop: Workshop, format_name: str, tenant: str
) -> None:
    request = workshop.export({"tables": list(workshop.catalog.tables), "format": format_name}, tenant)
    assert (request.status, request.error_message) == ("completed", None)
    assert request.package_rows == 3
    assert verify_package(workshop.package(request), find_format).problems == []


def test_each_column_keeps_its_own_values(workshop: Workshop) -> None:
    request = workshop.export({"tables": [weird(workshop)], "format": "ndjson"}, OURS)
    text = next(workshop.package(request).glob("data/*")).read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    assert [record["id"] for record in records] == [0, 1]
    assert {record["Org_Id"] for record in records} == {OURS}
    for record in records:
        assert {name: record[name] for name in COLUMNS} == {name: f"{name}{record['id']}" for name in COLUMNS}


def test_a_column_called_like_a_formula_is_disarmed_for_spreadsheets(workshop: Workshop) -> None:
    config = {"tables": [weird(workshop)], "format": "csv", "options": {"csv_profile": "excel"}}
    request = workshop.export(config, OURS)
    with next(workshop.package(request).glob("data/*")).open(encoding="utf-8-sig", newline="") as file:
        titles = next(csv.reader(file))
    assert "'=1+1" in titles
    assert not [title for title in titles if title[0] in "=+-@"]


@pytest.mark.parametrize("format_name", list(all_formats()))
@pytest.mark.parametrize("name", [*COLUMNS, "c0", "own", "t", "line", "m"])
def test_a_column_may_have_any_name_in_every_format(tmp_path: Path, format_name: str, name: str) -> None:
    fields = [("a", "integer"), (name, "text"), ("n", "numeric"), (f"{name}2", "jsonb")]
    schema = pa.schema([field_of(column, kind) for column, kind in fields])
    head = TableHead(name="t", schema=schema)
    columns = [pa.array([1], pa.int32()), pa.array(["v"]), pa.array(["1.5"]), pa.array(["{}"])]
    batch = pa.record_batch(columns, schema=schema)
    spec, path = find_format(format_name), tmp_path / f"file.{format_name}"
    with path.open("wb") as sink:
        writer = spec.open(sink, {})
        writer.begin(head)
        writer.write(batch)
        writer.close()
    assert pa.Table.from_batches(list(spec.read(path, head))).equals(pa.Table.from_batches([batch]))
