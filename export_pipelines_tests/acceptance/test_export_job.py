"""The main job end to end, in this process, on real databases."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import duckdb
import openpyxl
import psycopg
import pyarrow.parquet as pq
import pytest

from export_pipelines.core.naming import canonical_prefix
from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines_tests.lanes import every_pair
from export_pipelines_tests.workshop import TENANTS, ClinicSource, FinishedExports, Workshop

SPINE = ["pets", "medical_records", "appointments", "invoices", "invoice_items", "lab_results"]


@pytest.fixture
def workshop(finished: FinishedExports) -> Workshop:
    """One for all these tests, each of which runs exports of its own; so there are other objects in the store."""
    return finished.workshop


def source_count(clinic: ClinicSource, table: str, tenant: str, condition: str = "TRUE") -> int:
    with psycopg.connect(clinic.admin_url) as connection:
        row = connection.execute(
            f"SELECT count(*) FROM clinic.{table} WHERE clinic_id = %s AND {condition}", (tenant,)
        ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("format_name", "compression"), every_pair(list(all_formats()), ["none", *CODECS, "zip"], base="csv")
)
def test_every_format_and_compression_ends_in_a_package_that_verifies(
    workshop: Workshop, clinic: ClinicSource, format_name: str, compression: str
) -> None:
    tables = SPINE if compression == "none" else ["pets", "invoices", "invoice_items"]  # codecs know nothing of tables
    request = workshop.export({"tables": tables, "format": format_name, "compression": compression})
    if compression in CODECS and not find_format(format_name).compressible:
        assert request.status is RequestStatus.FAILED
        assert "compressed already" in str(request.error_message)
        return
    assert (request.status, request.error_message) == (RequestStatus.COMPLETED, None)
    found = verify_package(workshop.package(request), find_format)
    assert found.problems == []
    assert found.rows == request.package_rows
    manifest = json.loads((workshop.package(request) / "manifest.json").read_text())
    pets = next(table for table in manifest["tables"] if table["name"] == "pets")
    assert pets["rows"] == source_count(clinic, "pets", TENANTS[0], "deleted_at IS NULL")


def test_nothing_but_the_package_and_what_it_was_made_of_is_left_in_the_store(workshop: Workshop) -> None:
    before = set(workshop.object_keys())
    request = workshop.export({"tables": ["pets", "clients"], "format": "csv", "compression": "gzip"})
    prefix = f"{request.package_prefix}/"
    kept = f"{canonical_prefix(workshop.scope(), request.id)}/"
    made = set(workshop.object_keys()) - before
    assert {key.removeprefix(prefix).replace(kept, "kept/") for key in made} == {
        "data/pets.csv.gz",
        "data/clients.csv.gz",
        "README.md",
        "datapackage.json",
        "SHA256SUMS",
        "manifest.json",
        "kept/pets.parquet",
        "kept/clients.parquet",
        "kept/stage.json",
    }


def test_progress_ends_at_all_rows_and_all_files(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["pets", "clients"], "format": "csv"})
    assert (request.percentage, request.rows_processed) == (100, request.package_rows)
    assert request.total_rows == request.package_rows
    assert request.files_created == len(list(workshop.package(request).rglob("*.*"))) + 1  # SHA256SUMS has no dot


def test_the_package_passes_the_tools_of_strangers(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["pets", "invoices"], "format": "csv"})
    folder = workshop.package(request)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    from frictionless import Package, system

    with system.use_context(trusted=True):
        report = Package(str(folder / "datapackage.json")).validate()
    assert report.valid, report.flatten(["rowNumber", "fieldName", "type", "message"])[:5]


def test_xml_files_satisfy_the_schema_in_the_package(workshop: Workshop) -> None:
    folder = workshop.package(workshop.export({"tables": ["pets", "clients"], "format": "xml"}))
    for table in ("pets", "clients"):
        command = ["xmllint", "--noout", "--schema", f"schema/{table}.xsd", f"data/{table}.xml"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)


def test_json_nests_medical_records_inside_their_pets(workshop: Workshop, clinic: ClinicSource) -> None:
    config = {"tables": ["pets", "medical_records", "lab_results"], "format": "json"}
    folder = workshop.package(workshop.export(config))
    pets = json.loads((folder / "data" / "pets.json").read_text())
    orphans = folder / "data" / "medical_records.json"
    nested = [record for pet in pets for record in pet["medical_records"]]
    apart = json.loads(orphans.read_text()) if orphans.exists() else []
    assert all(record["pet_id"] == pet["id"] for pet in pets for record in pet["medical_records"])
    assert len(nested) + len(apart) == source_count(clinic, "medical_records", TENANTS[0], "deleted_at IS NULL")
    assert any(record["lab_results"] for record in nested)


def test_a_date_range_is_half_open_and_fields_are_in_catalog_order(workshop: Workshop, clinic: ClinicSource) -> None:
    source = {
        "type": "invoices",
        "filters": {"date_range": {"start": "2024-01-01", "end": "2024-07-01"}, "include_deleted": True},
        "fields": ["total", "id"],
    }
    request = workshop.export({"data_sources": [source], "format": "parquet"})
    time_column = workshop.catalog.tables["invoices"].time_column
    window = f"{time_column} >= '2024-01-01Z' AND {time_column} < '2024-07-01Z'"
    assert request.package_rows == source_count(clinic, "invoices", TENANTS[0], window) > 0
    table = pq.read_table(workshop.package(request) / "data" / "invoices.parquet")
    assert table.column_names == ["id", "total"]


def test_soft_deleted_rows_are_left_out_unless_asked_for(workshop: Workshop, clinic: ClinicSource) -> None:
    everything = source_count(clinic, "pets", TENANTS[0])
    living = source_count(clinic, "pets", TENANTS[0], "deleted_at IS NULL")
    assert living < everything
    assert workshop.export({"tables": ["pets"], "format": "csv"}).package_rows == living
    config = {"tables": ["pets"], "filters": {"include_deleted": True}, "format": "csv"}
    assert workshop.export(config).package_rows == everything


@pytest.mark.parametrize("format_name", list(all_formats()))
def test_an_empty_result_is_a_valid_empty_file(workshop: Workshop, format_name: str) -> None:
    filters = {"date_range": {"start": "1800-01-01", "end": "1801-01-01"}}
    request = workshop.export({"tables": ["invoices", "appointments"], "filters": filters, "format": format_name})
    assert (request.status, request.package_rows) == (RequestStatus.COMPLETED, 0)
    assert verify_package(workshop.package(request), find_format).valid


def test_excluded_columns_never_appear_and_masked_ones_are_empty(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["profiles", "clients"], "format": "xlsx"})
    workbook = openpyxl.load_workbook(next((workshop.package(request) / "data").glob("*.xlsx")), read_only=True)
    headers = {sheet.title: [cell.value for cell in next(sheet.iter_rows())] for sheet in workbook}
    assert "password_hash" not in headers["profiles"]
    column = headers["clients"].index("national_id")
    assert {row[column] for row in workbook["clients"].iter_rows(min_row=2, values_only=True)} == {None}
    workbook.close()


def test_the_files_hold_exactly_what_the_database_holds(workshop: Workshop, clinic: ClinicSource) -> None:
    """Row by row, against COPY of the same table by the administrator: two paths with nothing in common."""
    config = {"tables": ["invoice_items", "invoices"], "filters": {"include_deleted": True}, "format": "csv"}
    folder = workshop.package(workshop.export(config))
    columns = workshop.catalog.tables["invoices"].exported_columns
    with duckdb.connect() as files:
        exported = files.sql(
            f"SELECT id, number, total::VARCHAR FROM read_csv('{folder}/data/invoices.csv', all_varchar=true)"
        ).fetchall()
    assert "total" in columns
    with psycopg.connect(clinic.admin_url) as connection:
        stored = connection.execute(
            "SELECT id::text, number::text, total::text FROM clinic.invoices WHERE clinic_id = %s", (TENANTS[0],)
        ).fetchall()
    assert sorted(exported) == sorted(stored)


BAD_CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"tables": ["petz"], "format": "csv"}, "tables: table 'petz' is not in the catalog"),
    ({"tables": ["login_sessions"], "format": "csv"}, "is excluded from export"),
    ({"tables": ["pets"], "format": "cvs"}, "format: 'cvs' is not a format; choose from csv"),
    ({"data_sources": [{"type": "pets", "fields": ["nam"]}], "format": "csv"}, "fields: pets has no column 'nam'"),
    (
        {"tables": ["pets"], "format": "csv", "compression": "rar"},
        "compression: 'rar' is not a compression; choose from none, gzip, bz2, zstd, zip",
    ),
    ({"tables": ["pets"], "format": "csv", "speed": "high"}, "speed: is not a known field"),
    ({"tables": ["pets"], "format": "csv", "options": {"jsn_pretty": True}}, "there is no option 'jsn_pretty'"),
    (
        {"tables": ["pets"], "filters": {"date_range": {"start": "2024-02-30"}}, "format": "csv"},
        "filters.date_range.start: '2024-02-30' is not a date",
    ),
    (
        {"tables": ["pets"], "filters": {"date_range": {"start": "2024-02-01", "end": "2024-01-01"}}, "format": "csv"},
        "filters.date_range.end: '2024-01-01' is not after start",
    ),
    ({"tables": ["pets", "pets"], "format": "csv"}, "tables: table 'pets' is named twice"),
]


@pytest.mark.parametrize(("config", "message"), BAD_CONFIGURATIONS, ids=[message for _, message in BAD_CONFIGURATIONS])
def test_bad_input_fails_the_request_with_a_message_that_names_the_field(
    workshop: Workshop, config: dict[str, Any], message: str
) -> None:
    before = workshop.object_keys()
    request = workshop.export(config)
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert message in str(request.error_message)
    assert workshop.object_keys() == before


def test_an_unknown_tenant_is_named(workshop: Workshop) -> None:
    before = workshop.object_keys()
    request = workshop.export({"tables": ["pets"], "format": "csv"}, tenant="nobody' OR true --")
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert "is not among the tenants" in str(request.error_message)
    assert workshop.object_keys() == before


def test_a_changed_byte_is_found_offline(workshop: Workshop) -> None:
    folder = workshop.package(workshop.export({"tables": ["pets"], "format": "csv"}))
    data = folder / "data" / "pets.csv"
    changed = bytearray(data.read_bytes())
    changed[-20] ^= 1
    data.write_bytes(changed)
    assert "data/pets.csv has another SHA-256 than the manifest says" in verify_package(folder, find_format).problems


def test_a_row_lost_with_forged_checksums_is_found_offline(workshop: Workshop) -> None:
    folder = workshop.package(workshop.export({"tables": ["pets"], "format": "ndjson"}))
    data, manifest = folder / "data" / "pets.ndjson", folder / "manifest.json"
    lines = data.read_bytes().splitlines(keepends=True)
    data.write_bytes(b"".join(lines[:-1]))
    forge_checksums(folder, data, manifest)
    problems = verify_package(folder, find_format).problems
    assert any("rows of pets, the manifest says" in problem for problem in problems)


def forge_checksums(folder: Path, data: Path, manifest: Path) -> None:
    """Make checksums fit a changed file, as a careful forger would."""
    import hashlib

    document = json.loads(manifest.read_text())
    sums = folder / "SHA256SUMS"
    for path in (data, sums):
        entry = next(file for file in document["files"] if file["path"] == path.relative_to(folder).as_posix())
        old, entry["sha256"] = entry["sha256"], hashlib.sha256(path.read_bytes()).hexdigest()
        entry["size_bytes"] = path.stat().st_size
        if path is data:
            sums.write_text(sums.read_text().replace(old, entry["sha256"]))
    manifest.write_text(json.dumps(document))
