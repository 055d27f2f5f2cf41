"""Finished exports of the clinic, opened by programs that know nothing of this project."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow.parquet as pq
import pytest

from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop

TABLES = ["pets", "invoices"]
needs_office = pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")


def by_office(path: Path, folder: Path) -> list[list[str]]:
    """The first sheet of a file as LibreOffice shows it; UTF-8, every cell quoted."""
    profile, out = folder / "profile", folder / "out"
    subprocess.run(
        [
            *("soffice", f"-env:UserInstallation={profile.as_uri()}", "--headless", "--norestore"),
            *("--infilter=CSV:44,34,76,1,,0,false,false" if path.suffix == ".csv" else "--nolockcheck",),
            *(
                "--convert-to",
                "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,true,true",
                "--outdir",
                str(out),
                str(path),
            ),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    with (out / f"{path.stem}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def in_database(clinic: ClinicSource, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(clinic.admin_url) as connection:
        return connection.execute(query.encode(), (TENANTS[0],)).fetchall()


@needs_office
@pytest.mark.parametrize("format_name", ["xlsx", "csv"])
def test_libreoffice_opens_what_was_exported(
    workshop: Workshop, clinic: ClinicSource, tmp_path: Path, format_name: str
) -> None:
    config = {"tables": ["invoices"], "format": format_name, "options": {"csv_profile": "excel"}}
    folder = workshop.package(workshop.export(config)) / "data"
    header, *rows = by_office(next(folder.iterdir()), tmp_path)
    assert [title.removeprefix("\ufeff") for title in header] == list(
        workshop.catalog.tables["invoices"].exported_columns
    )
    shown = sorted((row[header.index("number")], Decimal(row[header.index("total")])) for row in rows)
    stored = in_database(
        clinic, "SELECT number::text, total FROM clinic.invoices WHERE clinic_id = %s AND deleted_at IS NULL"
    )
    assert shown == sorted(stored)


@pytest.mark.parametrize("codec", ["snappy", "zstd", "gzip", "none"])
def test_duckdb_reads_parquet_of_every_codec(workshop: Workshop, clinic: ClinicSource, codec: str) -> None:
    config = {"tables": ["invoices"], "format": "parquet", "options": {"parquet_compression": codec}}
    path = workshop.package(workshop.export(config)) / "data" / "invoices.parquet"
    with duckdb.connect() as files:
        found = files.execute("SELECT count(*)::INT, sum(total)::VARCHAR FROM read_parquet(?)", [str(path)]).fetchall()
    stored = in_database(
        clinic,
        "SELECT count(*)::int, sum(total)::text FROM clinic.invoices WHERE clinic_id = %s AND deleted_at IS NULL",
    )
    assert found == stored
    metadata = pq.read_metadata(path)
    column = metadata.row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(codec, codec.upper())
    assert column.statistics.has_min_max
    logical = {
        metadata.schema.column(i).name: str(metadata.schema.column(i).logical_type) for i in range(metadata.num_columns)
    }
    assert logical["total"].startswith("Decimal")
    assert "Timestamp" in logical["created_at"]
    assert logical["id"] == "String"


@pytest.mark.parametrize("headers", ["names", "labels"])
@pytest.mark.parametrize("format_name", ["csv", "xlsx"])
def test_headers_are_names_or_labels_and_both_verify(workshop: Workshop, format_name: str, headers: str) -> None:
    config = {"tables": TABLES, "format": format_name, "options": {"headers": headers}}
    request = workshop.export(config)
    manifest = json.loads((workshop.package(request) / "manifest.json").read_text())
    assert request.package_rows == sum(table["rows"] for table in manifest["tables"])
    assert manifest["format"]["options"] == ({} if headers == "names" else {"headers": "labels"})
