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
import openpyxl
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
    header = [title.removeprefix("\ufeff").removesuffix(" (UTC)") for title in header]
    assert header == list(workshop.catalog.tables["invoices"].exported_columns)
    shown = sorted((row[header.index("number")], Decimal(row[header.index("total")])) for row in rows)
    stored = in_database(
        clinic, "SELECT number::text, total FROM clinic.invoices WHERE clinic_id = %s AND deleted_at IS NULL"
    )
    assert shown == sorted(stored)


ASKED = {  # column → the same in SQL; of dates and times the days since Excel's day 0
    "total": "total",
    "due_on": "due_on - date '1899-12-30'",
    "created_at (UTC)": "extract(epoch FROM created_at - timestamptz '1899-12-30 00:00Z') / 86400",
}


@needs_office
def test_libreoffice_adds_up_and_orders_the_columns_of_a_workbook(
    workshop: Workshop, clinic: ClinicSource, tmp_path: Path
) -> None:
    """COUNT and SUM pass over texts, and SMALL orders numbers and dates alone: a text among them would show."""
    (path,) = (workshop.package(workshop.export({"tables": ["invoices"], "format": "xlsx"})) / "data").iterdir()
    book = openpyxl.load_workbook(path)
    sheet, asked = book["invoices"], book.create_sheet("asked", 0)
    for letter in (cell.column_letter for cell in sheet[1] if cell.value in ASKED):
        cells = f"invoices!{letter}2:{letter}{sheet.max_row}"
        figures = f"COUNT({cells})", f"SUM({cells})", f"SMALL({cells},2)", f"MAX({cells})"
        asked.append([f'=TEXT({figure},"0.00000000")' for figure in figures])  # or it would be shown as a date
    book.save(tmp_path / "asked.xlsx")
    order = [cell.value for cell in sheet[1] if cell.value in ASKED]
    answers = [[Decimal(answer) for answer in row] for row in by_office(tmp_path / "asked.xlsx", tmp_path)]
    stored = [
        in_database(
            clinic,
            f"SELECT count(v), sum(v), (array_agg(v ORDER BY v))[2], max(v) FROM (SELECT {ASKED[title]} AS v "
            "FROM clinic.invoices WHERE clinic_id = %s AND deleted_at IS NULL)",
        )[0]
        for title in order
    ]
    assert len(order) == len(ASKED)
    for row, (count, *figures) in zip(answers, stored, strict=True):
        assert row[0] == count > 0
        for answer, figure in zip(row[1:], figures, strict=True):
            assert answer == pytest.approx(Decimal(figure), rel=Decimal("1e-12"))


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
