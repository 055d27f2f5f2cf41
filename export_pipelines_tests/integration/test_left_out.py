"""What an export leaves out is stated in its documents and in answers, and agrees with the database.

The right numbers are counted by the source's administrator, who sees every tenant's rows.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from export_pipelines.cli import app as program
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import ExportPlan, Stage
from export_pipelines.core.omissions import Precision, RowCount
from export_pipelines.core.planning import plan_export
from export_pipelines.core.service_catalog import SERVICE_CATALOG, catalog_of
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.packaging.manifest_reading import ReadManifest
from export_pipelines.pipeline.extract.service_stage import not_described
from export_pipelines.pipeline.extract.staging import stage_rows
from export_pipelines.pipeline.lake.materialize import REUSE_NOTHING, writing_lake
from export_pipelines.pipeline.planning.plan import services_for
from export_pipelines.pipeline.publish.package import assemble_package
from export_pipelines.pipeline.verification.omissions import check_omissions
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines.sources import omitted
from export_pipelines_tests.api.inside import inside
from export_pipelines_tests.packages import Silent
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

JOBS = "/api/v1/exports/jobs"
CALLERS = {
    "member": Caller(role=Role.MEMBER, tenant_id=TENANTS[0], user_id="ann", credential="key"),
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
}


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """The documents of a package."""

    plan: ExportPlan
    stage: Stage
    manifest: dict[str, Any]
    readme: str
    descriptions: dict[str, str]  # in datapackage.json, by table; its own under ""

    def left_out(self, table: str) -> dict[str, Any]:
        (found,) = (entry["left_out"] for entry in self.manifest["tables"] if entry["name"] == table)
        return dict(found)

    def columns(self, table: str) -> dict[str, str]:
        return {column["name"]: column["cause"] for column in self.left_out(table)["columns"]}

    def others(self) -> dict[str, str]:
        return {table["name"]: table["cause"] for table in self.manifest["left_out"]["other_tables"]}


Package = Callable[..., Packaged]


@pytest.fixture
def package(workshop: Workshop) -> Package:
    """``package(config)`` goes from the plan to the documents, without Dagster; the package is verified."""

    def make(config: dict[str, Any], *, role: Role | None = None) -> Packaged:
        wanted = parse_configuration({"format": "csv", **config})
        plan = plan_export(
            wanted,
            catalog_of(wanted.export_type, workshop.catalog),
            request_id="00000000-0000-4000-8000-0000000000ff",
            attempt=1,
            scope=workshop.scope(),
            requested_at=dt.datetime.now(dt.UTC),
            formats=workshop.services.formats(),
            codecs=CODECS,
            role=role,
        )
        services = services_for(plan, workshop.services)
        stage = stage_rows(plan, services, Silent())
        files = convert_tables(plan, stage, services, Silent())
        verdicts = validate_files(plan, stage, files, services, Silent())
        made = assemble_package(plan, stage, files, verdicts, services)
        folder = (workshop.objects / made.manifest.key).parent
        found = verify_package(folder, find_format)
        assert found.valid, found.problems
        described = json.loads((folder / "datapackage.json").read_text())
        names = [name for file in files for part in file.parts if not part.route for name in (part.table,)]
        descriptions = [resource["description"] for resource in described["resources"]]
        return Packaged(
            plan=plan,
            stage=stage,
            manifest=json.loads((folder / "manifest.json").read_text()),
            readme=(folder / "README.md").read_text(),
            descriptions={**dict(zip(names, descriptions, strict=True)), "": described["description"]},
        )

    return make


@pytest.fixture
def counted(clinic: ClinicSource) -> Callable[..., int]:
    """``counted("pets", "deleted_at IS NULL")``: rows of the first tenant."""

    def count(table: str, condition: str = "true") -> int:
        with psycopg.connect(clinic.admin_url) as connection:
            query = f"SELECT count(*) FROM clinic.{table} WHERE clinic_id = %s AND ({condition})"
            row = connection.execute(query.encode(), (TENANTS[0],)).fetchone()
        assert row is not None
        return int(row[0])

    return count


@contextmanager
def altered(clinic: ClinicSource) -> Iterator[None]:
    """A column and a table that the catalog has never heard of."""
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE clinic.pets ADD COLUMN nickname text")
        connection.execute("CREATE TABLE clinic.loyalty_cards (id int)")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE clinic.pets DROP COLUMN nickname")
            connection.execute("DROP TABLE clinic.loyalty_cards")


@contextmanager
def deleted_products(clinic: ClinicSource) -> Iterator[None]:
    """A table that the lake does not cut, with some rows marked as deleted."""
    mark = "UPDATE clinic.products SET deleted_at = {} WHERE clinic_id = %s AND sku LIKE '%%1'"
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        connection.execute(mark.format("now()").encode(), (TENANTS[0],))
        try:
            yield
        finally:
            connection.execute(mark.format("NULL").encode(), (TENANTS[0],))


# Rows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "be", "them"), [("pets", "is", "it"), ("medical_records", "are", "them")])
def test_rows_left_out_as_deleted_are_counted(
    package: Package, counted: Callable[..., int], table: str, be: str, them: str
) -> None:
    made = package({"tables": [table]})
    deleted, everything = counted(table, "deleted_at IS NOT NULL"), counted(table)
    assert 0 < deleted < everything
    assert made.left_out(table) | {"columns": []} == {
        "table": table,
        "exported_rows": {"rows": everything - deleted, "precision": "exact"},
        "all_rows": {"rows": everything, "precision": "exact"},
        "deleted": {"column": "deleted_at", "included": False, "left_out": {"rows": deleted, "precision": "exact"}},
        "window": None,
        "filters": {},
        "columns": [],
    }
    sentence = (
        f"{deleted} of {everything} {table} {be} marked as deleted (`deleted_at`) and {be} not in this export; "
        f"ask with include_deleted to get {them}."
    )
    assert f"- {sentence}\n" in made.readme
    assert sentence in made.descriptions[table]


@pytest.mark.parametrize(
    ("source", "condition", "named"),
    [
        (
            {"type": "pets", "filters": {"date_range": {"start": "2023-03-01", "end": "2024-05-01"}}},
            "created_at >= '2023-03-01Z' AND created_at < '2024-05-01Z'",
            "from 2023-03-01T00:00:00+00:00 and before 2024-05-01T00:00:00+00:00; rows without `created_at` are not",
        ),
        ({"type": "pets", "filters": {"species": ["dog"]}}, "species = 'dog'", "Only rows with `species` `dog`."),
        (
            {"type": "pets", "filters": {"breed": [None], "date_range": {"end": "2024-05-01"}}},
            "breed IS NULL AND created_at < '2024-05-01Z'",
            "Only rows with `breed` NULL.",
        ),
        (
            {"type": "invoices", "aggregation": "monthly", "filters": {"date_range": {"start": "2024-01-01"}}},
            "created_at >= '2024-01-01Z'",
            "Only rows with `created_at` from 2024-01-01T00:00:00+00:00;",
        ),
    ],
    ids=["window", "filter", "both", "figures"],
)
def test_what_narrows_rows_is_stated_and_deleted_rows_are_counted_within_it(
    package: Package, counted: Callable[..., int], source: dict[str, Any], condition: str, named: str
) -> None:
    table = source["type"]
    made = package({"data_sources": [source]})
    alive = counted(table, f"{condition} AND deleted_at IS NULL")
    deleted = counted(table, f"{condition} AND deleted_at IS NOT NULL")
    stated = made.stage.omissions.of(table)
    assert stated.exported_rows == RowCount(rows=alive)
    assert stated.deleted is not None
    assert stated.deleted.left_out == RowCount(rows=deleted)
    assert stated.all_rows == RowCount(rows=counted(table)) != RowCount(rows=alive + deleted)
    for text in (made.readme, made.descriptions[table]):
        assert named in text
        assert f"Covers {alive} of {counted(table)} rows in all." in text


def test_without_a_column_that_marks_rows_nothing_is_said_to_be_deleted(package: Package) -> None:
    made = package({"tables": ["payments"]})
    assert made.left_out("payments")["deleted"] is None
    assert "No payments are left out as deleted: the catalog names no column that marks them." in made.readme


def test_deleted_rows_that_were_asked_for_are_said_to_be_in_it(package: Package, counted: Callable[..., int]) -> None:
    made = package({"tables": ["pets"], "filters": {"include_deleted": True}})
    assert made.left_out("pets")["deleted"] == {
        "column": "deleted_at",
        "included": True,
        "left_out": {"rows": 0, "precision": "exact"},
    }
    assert made.stage.omissions.of("pets").exported_rows == RowCount(rows=counted("pets"))
    assert "Rows that are marked as deleted (`deleted_at`) are in it." in made.readme


def test_rows_that_nobody_asked_for_are_counted_to_a_limit(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, counted: Callable[..., int]
) -> None:
    window = parse_configuration({"tables": ["pets"], "format": "csv", "filters": {"species": ["dog"]}})
    (selection,) = plan_export(
        window,
        workshop.catalog,
        request_id="x",
        attempt=1,
        scope=workshop.scope(),
        requested_at=dt.datetime.now(dt.UTC),
        formats=workshop.services.formats(),
        codecs=CODECS,
    ).selections
    with workshop.services.source.snapshot(workshop.scope()) as snapshot:
        monkeypatch.setattr(omitted, "COUNTED_ROWS", counted("pets"))
        assert snapshot.count_other_rows(selection).all_rows == RowCount(rows=counted("pets"))
        monkeypatch.setattr(omitted, "COUNTED_ROWS", counted("pets") - 1)
        found = snapshot.count_other_rows(selection).all_rows
        assert found == RowCount(rows=counted("pets") - 1, precision=Precision.AT_LEAST)
        monkeypatch.setattr(omitted, "CHEAP_COST", 0)
        guessed = snapshot.expect_other_rows(selection)
        assert guessed.deleted is not None
        assert guessed.deleted.precision is Precision.ESTIMATE


@pytest.mark.parametrize(
    ("one", "other", "precision"),
    [
        (Precision.EXACT, Precision.EXACT, Precision.EXACT),
        (Precision.EXACT, Precision.AT_LEAST, Precision.AT_LEAST),
        (Precision.ESTIMATE, Precision.AT_LEAST, Precision.ESTIMATE),
    ],
)
def test_a_sum_is_as_sure_as_its_weakest_part(one: Precision, other: Precision, precision: Precision) -> None:
    assert RowCount(rows=1, precision=one) + RowCount(rows=2, precision=other) == RowCount(rows=3, precision=precision)


# Columns and tables -------------------------------------------------------------------------------------------------


def test_each_column_without_values_is_named_with_its_cause(package: Package, workshop: Workshop) -> None:
    made = package(
        {
            "data_sources": [
                {"type": "profiles", "fields": ["id", "full_name"]},
                {"type": "clients"},
                {"type": "invoices", "aggregation": "monthly", "fields": ["status", "invoices"]},
            ]
        }
    )
    profiles = made.columns("profiles")
    assert profiles.pop("password_hash") == "excluded"
    assert profiles.keys() == set(workshop.catalog.tables["profiles"].columns) - {"id", "full_name", "password_hash"}
    assert set(profiles.values()) == {"not_requested"}
    assert made.columns("clients") == {"national_id": "masked"}
    figures = made.columns("invoices")
    assert (figures["currency"], figures["number"]) == ("not_requested", "aggregated")
    assert (
        "- Never exported: `password_hash` (A credential; of no use to anybody but the application).\n" in made.readme
    )
    assert "- Masked, every value is NULL: `national_id` (Kept for the tax office;" in made.readme
    assert "- Not asked for: `clinic_id`, `email`, " in made.readme


def test_tables_that_are_not_in_it_are_named_with_their_cause(package: Package) -> None:
    made = package({"modules": ["people"]}, role=Role.MEMBER)
    others = made.others()
    assert (others["profiles"], others["login_sessions"], others["pets"]) == ("role", "excluded", "not_requested")
    assert {selection.table for selection in made.plan.selections} == {"clinics", "clients"}
    for text in (made.readme, made.descriptions[""]):
        assert "Tables: Not allowed for the role of whoever asked: `profiles` (may be exported by admin only)." in text
        assert "Tables: Never exported: `login_sessions` (Credentials of open sessions;" in text


@pytest.mark.parametrize("config", [{"tables": ["pets"]}, {"export_type": "full_backup", "tables": ["pets"]}])
def test_what_the_catalog_does_not_know_is_named_in_every_package(
    package: Package, clinic: ClinicSource, config: dict[str, Any]
) -> None:
    with altered(clinic):
        made = package(config)
    assert made.columns("pets") == {"nickname": "not_in_catalog"}
    assert made.others()["clinic.loyalty_cards"] == "not_in_catalog"
    assert "In the database and unknown to the catalog, so in no export yet: `nickname`." in made.readme
    assert "Tables: In the database and unknown to the catalog, so in no export yet: `clinic.loyalty_cards`." in (
        made.readme
    )
    assert "`nickname`" in made.descriptions["pets"]
    assert "`clinic.loyalty_cards`" in made.descriptions[""]


# Kinds of exports ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"tables": ["pets", "payments"]},
        {"tables": ["pets"], "format": "json"},
        {"export_type": "full_backup", "include_deleted": False},
        {"export_type": "migration", "tables": ["pets", "clients"]},
        {"export_type": "audit", "format": "ndjson"},
    ],
    ids=lambda config: str(config.get("export_type", config.get("format", "selective"))),
)
def test_no_package_lacks_the_statement(package: Package, config: dict[str, Any]) -> None:
    made = package(config)
    assert made.manifest["left_out"]["compared_with_database"]
    for table in made.manifest["tables"]:
        assert table["left_out"]["exported_rows"] == {"rows": table["rows"], "precision": "exact"}
        section = made.readme.partition(f"### {table['name']}\n")[2].partition("\n#")[0]
        assert "What is left out:\n\n- " in section
        assert "deleted" in section
    assert "## Tables that are not in it\n\n- " in made.readme


def test_a_full_backup_without_deleted_rows_counts_them_in_every_table(
    package: Package, counted: Callable[..., int], workshop: Workshop
) -> None:
    made = package({"export_type": "full_backup", "include_deleted": False})
    marked = {name for name, table in workshop.catalog.tables.items() if table.deleted_column}
    for name in marked:
        deleted = made.stage.omissions.of(name).deleted
        assert deleted is not None
        assert deleted.left_out == RowCount(rows=counted(name, "deleted_at IS NOT NULL"))
    assert set(made.others()) == {"login_sessions"}


def test_an_audit_package_says_what_of_the_services_state_it_holds(package: Package, workshop: Workshop) -> None:
    made = package({"export_type": "audit", "format": "ndjson"})
    assert made.columns("exports")["sealed_secrets"] == "excluded"
    assert set(made.others()) == set(SERVICE_CATALOG.excluded)
    found = not_described(workshop.services.measures.control)
    assert (found.tables, dict(found.columns)) == ((), {}), "describe it in core/service_catalog.py"


def test_a_point_in_time_counts_what_the_lake_has(
    workshop: Workshop, package: Package, counted: Callable[..., int], clinic: ClinicSource
) -> None:
    services, scope = workshop.services, workshop.scope()
    with (
        deleted_products(clinic),
        writing_lake(workshop.catalog, services.store, run_id="run", scratch=workshop.settings.home) as lake,
    ):
        list(lake.materialize_all("products", scope, [None], services.source, REUSE_NOTHING))
        deleted = counted("products", "deleted_at IS NOT NULL")
    now = dt.datetime.now(dt.UTC).isoformat()
    backup = {"export_type": "full_backup", "tables": ["products"], "point_in_time": now}
    made = package({**backup, "include_deleted": False})
    stated = made.stage.omissions.of("products")
    assert stated.deleted is not None
    assert stated.deleted.left_out == RowCount(rows=deleted) != RowCount(rows=0)
    assert stated.all_rows == RowCount(rows=counted("products"))
    assert not made.manifest["left_out"]["compared_with_database"]
    assert "does not know was not looked at" in made.readme


# Answers ------------------------------------------------------------------------------------------------------------


def test_answers_state_it_from_the_estimate_to_the_conversion(
    workshop: Workshop, clinic: ClinicSource, counted: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One export with every kind of narrowing, and a conversion of it after the database has changed again."""
    filters = {"date_range": {"start": "2023-03-01"}, "species": ["dog", "cat"]}
    source = {"type": "pets", "fields": ["id", "name"], "filters": filters}
    order = {"data_sources": [source], "format": "csv"}
    condition = "created_at >= '2023-03-01Z' AND species IN ('dog', 'cat')"
    deleted = counted("pets", f"{condition} AND deleted_at IS NOT NULL")
    settings = {"EXPORT_SOURCE_URL": clinic.url, "EXPORT_CONTROL_URL": workshop.settings.require_control_url()}
    for name, value in {**settings, "EXPORT_HOME": str(workshop.settings.home)}.items():
        monkeypatch.setenv(name, value)

    with inside(workshop.settings, CALLERS) as api:
        with altered(clinic):
            estimated = _ok(api.ask("member", "POST", "/api/v1/exports/estimate", json=order))["left_out"]
            created = _ok(api.ask("member", "POST", JOBS, json=order))
            options = ["--tenant", TENANTS[0], "--tables", "pets", "--format", "csv", "--fields", "pets:id,name"]
            options += ["--from", "2023-03-01", "--filter", "pets:species=dog,cat"]
            foreseen = _json("estimate", *options, "--json")["left_out"]
            workshop.run(created["job_id"])
        done = _ok(api.ask("member", "GET", f"{JOBS}/{created['job_id']}"))
        metadata = _ok(api.ask("member", "GET", f"{JOBS}/{created['job_id']}/metadata"))
        shown = _json("requests", "show", created["job_id"], "--json")["left_out"]
        checked = _ok(api.ask("member", "POST", f"{JOBS}/{created['job_id']}/validate", json={}))
        again = _ok(api.ask("member", "POST", f"{JOBS}/{created['job_id']}/convert", json={"target_format": "ndjson"}))
        workshop.run(again["job_id"])
        converted = _ok(api.ask("member", "GET", f"{JOBS}/{again['job_id']}"))["left_out"]

    for answer in (estimated, created["left_out"], foreseen, done["left_out"], metadata["left_out"], shown, converted):
        (pets,) = answer["tables"]
        assert pets["deleted"]["left_out"] == {"rows": deleted, "precision": "exact"}
        assert pets["window"] == {
            "column": "created_at",
            "start": "2023-03-01T00:00:00+00:00",
            "end": None,
            "rows_without_time": False,
        }
        assert pets["filters"] == {"species": ["dog", "cat"]}
        assert {"name": "nickname", "cause": "not_in_catalog", "reason": None} in pets["columns"]
        assert {"name": "breed", "cause": "not_requested", "reason": None} in pets["columns"]
        others = {table["name"]: table["cause"] for table in answer["other_tables"]}
        assert (others["login_sessions"], others["clinic.loyalty_cards"]) == ("excluded", "not_in_catalog")
        assert others["profiles"] == ("not_requested" if answer is foreseen else "role")
        assert any(f"{deleted} of " in line and "marked as deleted" in line for line in answer["summary"])
    assert done["left_out"] == metadata["left_out"] == shown == converted == again["left_out"]
    assert estimated["tables"][0]["exported_rows"]["precision"] == "estimate"
    assert (done["left_out_note"], checked["checks"]["omissions_stated"]) == (None, True)


def test_the_figures_of_an_encrypted_export_stay_inside_and_that_is_said(workshop: Workshop) -> None:
    password = {"method": "AES256", "password": "correct horse battery staple"}
    done = workshop.export({"tables": ["products"], "format": "csv", "encryption": password})
    with inside(workshop.settings, CALLERS) as api:
        answer = _ok(api.ask("admin", "GET", f"{JOBS}/{done.id}"))
    assert answer["left_out"] is None
    assert "inside the encrypted package" in answer["left_out_note"]


def _ok(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    return dict(answer.json())


def _json(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(program, arguments)
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


# Verification -------------------------------------------------------------------------------------------------------


FORGED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nothing of a table": lambda m: m["tables"][0].pop("left_out"),
    "an empty statement": lambda m: m["tables"][0].update(left_out={}),
    "of another table": lambda m: m["tables"][0]["left_out"].update(table="clients"),
    "nothing of other tables": lambda m: m.pop("left_out"),
    "a table that is in it": lambda m: m["left_out"]["other_tables"].append({"name": "pets", "cause": "excluded"}),
    "fewer deleted rows": lambda m: m["tables"][0]["left_out"]["deleted"]["left_out"].update(rows=0),
    "a deleted row that is not there": lambda m: m["tables"][0]["left_out"]["all_rows"].update(rows=10**6),
    "more rows than the files": lambda m: m["tables"][0]["left_out"]["exported_rows"].update(rows=10**6),
    "an estimate": lambda m: m["tables"][0]["left_out"]["exported_rows"].update(precision="estimate"),
    "no column that marks rows": lambda m: m["tables"][0]["left_out"].update(deleted=None),
    "deleted rows that are in it": lambda m: m["tables"][0]["left_out"]["deleted"].update(included=True),
    "another window": lambda m: m["tables"][0]["filters"].update(start="2024-01-01T00:00:00+00:00"),
    "other values": lambda m: m["tables"][0]["left_out"].update(filters={"species": ["dog"]}),
    "a column that is in the files": lambda m: m["tables"][0]["left_out"]["columns"].append(
        {"name": "id", "cause": "not_requested"}
    ),
    "partitions with other rows": lambda m: m["source"].update(parts=[{"table": "pets", "rows": 1}]),
    "no masked column": lambda m: m["tables"][1]["left_out"].update(columns=[]),
}


def test_verify_finds_each_statement_that_is_missing_or_wrong(package: Package) -> None:
    good = json.dumps(package({"tables": ["pets", "clients"]}).manifest)
    assert list(check_omissions(ReadManifest.model_validate_json(good))) == []
    for name, forge in FORGED.items():
        manifest = json.loads(good)
        forge(manifest)
        assert list(check_omissions(ReadManifest.model_validate(manifest))), name
