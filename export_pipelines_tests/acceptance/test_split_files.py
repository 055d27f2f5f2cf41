"""Exports in several files: by month, by week, by size; every row in exactly one of them, and no file too large."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import openpyxl
import psycopg
import pyarrow.parquet as pq
import pytest

from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.pipeline.publish import package as package_step
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.host import Host
from export_pipelines_tests.lanes import every_pair
from export_pipelines_tests.workshop import TENANTS, ClinicSource, FinishedExports, Workshop, open_workshop

MONTH: dict[str, Any] = {"split_by": "month"}
SPRING = {"date_range": {"start": "2024-03-01", "end": "2024-06-01"}}
DELETED = {"include_deleted": True}


@pytest.fixture
def workshop(finished: FinishedExports) -> Workshop:
    """One for all these tests, each of which runs exports of its own; so there are other objects in the store."""
    return finished.workshop


def export(workshop: Workshop, **config: Any) -> tuple[ExportRequest, Path]:
    """A completed request, whose package verifies, and its data folder."""
    request = workshop.export(config)
    assert (request.status, request.error_message) == (RequestStatus.COMPLETED, None)
    assert verify_package(workshop.package(request), find_format).problems == []
    return request, workshop.package(request) / "data"


def refused(workshop: Workshop, **config: Any) -> str:
    """Why a request failed; nothing of it is left."""
    before = workshop.object_keys()
    request = workshop.export(config)
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert workshop.object_keys() == before
    return str(request.error_message)


def months_of_invoices(clinic: ClinicSource, column: str) -> dict[str, int]:
    """Rows by month as the database counts them."""
    with psycopg.connect(clinic.admin_url) as connection:
        rows = connection.execute(
            f"SELECT to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM clinic.invoices "
            f"WHERE clinic_id = %s AND {column} >= '2024-03-01Z' AND {column} < '2024-06-01Z' GROUP BY 1",
            (TENANTS[0],),
        ).fetchall()
    return {str(month): int(count) for month, count in rows}


def test_each_month_has_its_file_with_the_rows_that_the_database_counts(
    workshop: Workshop, clinic: ClinicSource
) -> None:
    sources = [{"type": "invoices", "filters": SPRING | DELETED}, {"type": "products"}]
    request, data = export(workshop, data_sources=sources, format="parquet", split_files=MONTH)
    column = str(workshop.catalog.tables["invoices"].time_column)
    assert workshop.catalog.timezone == "UTC"
    found = {
        match[1]: pq.read_metadata(path).num_rows
        for path in data.iterdir()
        if (match := re.fullmatch(r"invoices\.(\d{4}-\d\d|undated)\.parquet", path.name))
    }
    assert found == months_of_invoices(clinic, column)
    manifest = json.loads((data.parent / "manifest.json").read_text())
    assert manifest["split"] == {"period": "month", "max_size_bytes": None}
    assert {table["name"]: table["split_column"] for table in manifest["tables"]} == {
        "invoices": column,
        "products": workshop.catalog.tables["products"].time_column,
    }
    assert request.files_created == len([path for path in data.parent.rglob("*") if path.is_file()])


def test_a_table_without_a_time_column_stays_whole(workshop: Workshop) -> None:
    bare = [name for name, table in workshop.catalog.tables.items() if table.time_column is None]
    sources = [{"type": "invoices", "filters": SPRING}, {"type": bare[0]}]
    _, data = export(workshop, data_sources=sources, format="csv", split_files=MONTH)
    assert (data / f"{bare[0]}.csv").is_file()
    assert not (data / "invoices.csv").exists()


def test_rows_without_a_time_are_in_a_file_of_their_own(workshop: Workshop, clinic: ClinicSource) -> None:
    with psycopg.connect(clinic.admin_url) as connection:
        (rows,) = connection.execute(
            "SELECT count(*) FROM clinic.appointments WHERE clinic_id = %s AND starts_at IS NULL", (TENANTS[0],)
        ).fetchone() or (0,)
    _, data = export(workshop, tables=["appointments"], filters=DELETED, format="ndjson", split_files=MONTH)
    assert workshop.catalog.tables["appointments"].time_column == "starts_at"
    undated = [json.loads(line) for line in (data / "appointments.undated.ndjson").read_text().splitlines()]
    assert len(undated) == rows > 0
    assert {row["starts_at"] for row in undated} == {None}


def test_a_row_goes_where_its_parent_goes(workshop: Workshop) -> None:
    filters = {"date_range": {"start": "2024-01-01", "end": "2024-03-01"}}
    sources = [{"type": "invoices", "filters": filters}, {"type": "invoice_items", "filters": filters}]
    _, data = export(workshop, data_sources=sources, format="json", split_files={"split_by": "week"})
    assert len(list(data.glob("invoices.2024-W*.json"))) > 3
    column = str(workshop.catalog.tables["invoices"].time_column)
    for path in data.glob("invoices.*.json"):
        for invoice in json.loads(path.read_text()):
            year, week, _ = dt.datetime.fromisoformat(invoice[column]).astimezone(ZoneInfo("UTC")).isocalendar()
            assert path.name == f"invoices.{year:04d}-W{week:02d}.json"
            assert all(item["invoice_id"] == invoice["id"] for item in invoice["items"])


@pytest.mark.parametrize(
    ("format_name", "compression"), every_pair(list(all_formats()), ["none", "gzip", "zstd"], base="csv")
)
def test_no_file_is_larger_than_the_limit_and_none_is_split_needlessly(
    workshop: Workshop, format_name: str, compression: str
) -> None:
    if compression != "none" and not find_format(format_name).compressible:
        pytest.skip("compressed already")
    limit = 20_000
    _, data = export(
        workshop,
        tables=["invoices", "invoice_items", "appointments"],
        format=format_name,
        compression=compression,
        split_files={"max_size_mb": limit / 1e6},
    )
    sizes = {path.name: path.stat().st_size for path in data.iterdir()}
    assert max(sizes.values()) <= limit
    number = re.compile(r"(\w+)(?:\.(\d{4}))?\.[a-z].*")
    parts: dict[str, dict[int, int]] = {}
    for name, size in sizes.items():
        match = number.fullmatch(name.replace("data-export", "all"))
        assert match
        parts.setdefault(match[1], {})[int(match[2] or 1)] = size
    full = [size for sizes in parts.values() for part, size in sizes.items() if part < max(sizes)]
    assert not full or sum(full) / len(full) > 0.7 * limit


def test_a_workbook_a_month_holds_all_tables_of_that_month(workshop: Workshop) -> None:
    _, data = export(
        workshop, tables=["invoices", "appointments"], filters=SPRING, format="xlsx", name="Ours", split_files=MONTH
    )
    book = openpyxl.load_workbook(data / "ours.2024-03.xlsx", read_only=True)
    assert sorted(book.sheetnames) == ["appointments", "invoices"]
    book.close()


def frictionless_report(folder: Path) -> Any:
    from frictionless import Package, system

    with system.use_context(trusted=True):
        return Package(str(folder / "datapackage.json")).validate()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Frictionless leaves .gz files open
@pytest.mark.parametrize(
    "more",
    [
        {"compression": "gzip"},
        {"options": {"headers": "labels"}},
        {"options": {"csv_profile": "excel"}},
        {"options": {"headers": "labels", "csv_profile": "excel"}, "compression": "zstd"},
        {"format": "ndjson"},
        {"format": "parquet"},
    ],
    ids=json.dumps,
)
def test_frictionless_validates_every_kind_of_split(workshop: Workshop, more: dict[str, Any]) -> None:
    config = {"tables": ["appointments"], "filters": SPRING, "format": "csv", "split_files": MONTH, **more}
    request, data = export(workshop, **config)
    resources = json.loads((data.parent / "datapackage.json").read_text())["resources"]
    assert len(resources) == (len(list(data.iterdir())) if config["format"] == "parquet" else 1)
    assert ["description" in resource for resource in resources] == [True] + [False] * (len(resources) - 1)
    if config["format"] == "csv" and config.get("compression") != "zstd":  # which Frictionless does not know
        report = frictionless_report(data.parent)
        assert report.valid, report.flatten(["rowNumber", "fieldName", "type", "message"])[:5]
        assert sum(task.stats["rows"] for task in report.tasks) == request.package_rows


def test_frictionless_tools_know_every_part(workshop: Workshop) -> None:
    split = {"split_by": "month", "max_size_mb": 0.01}
    _, data = export(workshop, tables=["appointments"], filters=SPRING, format="csv", split_files=split)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=data.parent, check=True, capture_output=True)
    descriptor = json.loads((data.parent / "datapackage.json").read_text())
    (resource,) = descriptor["resources"]
    assert (resource["name"], len(resource["schema"]["fields"])) == ("appointments", 13)
    assert {Path(path).name for path in resource["path"]} == {path.name for path in data.iterdir()}
    assert frictionless_report(data.parent).valid
    with duckdb.connect() as session:
        (rows,) = session.sql(f"SELECT count(*) FROM read_csv('{data}/*.csv', all_varchar=true)").fetchall()
    assert rows[0] == sum(file["rows"] for file in json.loads((data.parent / "manifest.json").read_text())["files"])


def test_an_empty_selection_is_one_empty_file(workshop: Workshop) -> None:
    filters = {"date_range": {"start": "1800-01-01", "end": "1801-01-01"}}
    for split in (MONTH, {"max_size_mb": 1}):
        _, data = export(workshop, tables=["invoices"], filters=filters, format="csv", split_files=split)
        assert [path.name for path in data.iterdir()] == ["invoices.csv"]


def test_a_row_larger_than_the_limit_is_refused_with_its_table_and_without_its_data(
    workshop: Workshop, clinic: ClinicSource
) -> None:
    with psycopg.connect(clinic.admin_url) as connection:
        connection.execute(
            "UPDATE clinic.pets SET name = repeat('secret', 3000) WHERE ctid IN "
            "(SELECT ctid FROM clinic.pets WHERE clinic_id = %s LIMIT 1)",
            (TENANTS[1],),
        )
    config = {"tables": ["pets"], "filters": {"include_deleted": True}, "format": "csv"}
    before = workshop.object_keys()
    request_id = workshop.order({**config, "split_files": {"max_size_mb": 0.01}}, TENANTS[1])
    workshop.run(request_id)
    request = workshop.services.requests.get(request_id)
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert "pets: one row of it alone makes a file larger than 10.0 kB" in str(request.error_message)
    assert "secret" not in str(request.error_message)
    assert workshop.object_keys() == before


# The service's own limit --------------------------------------------------------------------------------------------


@pytest.fixture
def small_files(workshop: Workshop) -> Iterator[Workshop]:
    """A service whose files have at most 30 kB."""
    with open_workshop(workshop.settings.model_copy(update={"max_file_size": 30_000})) as made:
        yield made


def test_files_of_a_package_obey_the_limit_of_the_service(small_files: Workshop) -> None:
    _, data = export(small_files, tables=["invoices", "invoice_items"], format="csv")
    assert len(list(data.iterdir())) > 2
    assert max(path.stat().st_size for path in data.parent.rglob("*") if path.is_file()) <= 30_000


@pytest.mark.parametrize("more", [{"compression": "zip"}, {"encryption": {"method": "AES256", "password": "x" * 12}}])
def test_an_archive_beyond_the_limit_of_the_service_is_refused_with_both_sizes(
    small_files: Workshop, more: dict[str, Any]
) -> None:
    message = refused(small_files, tables=["invoices", "invoice_items", "appointments"], format="csv", **more)
    assert re.search(r"would have [\d,]+ bytes, more than the 30,000 that EXPORT_MAX_FILE_SIZE allows", message)
    assert "shorter date range" in message


def test_a_full_disk_publishes_nothing_and_may_be_tried_again(workshop: Workshop, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the operating system refuses to write."""
    script = f"""
import resource, sys
from pathlib import Path
import pyarrow as pa
from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.write.spill import spilling
from export_pipelines.object_stores.local import LocalStore
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
batch = pa.record_batch({{"a": pa.array([bytes([n % 251]) * 997 + str(n * n).encode() for n in range(1000)])}})
store = LocalStore(Path({str(tmp_path / "objects")!r}))
try:
    with store.writing("half") as sink:
        sink.write(b"x" * 2_000_000)
except Unavailable as error:
    print(error)
try:
    with spilling(Path({str(tmp_path / "scratch")!r})) as spill:
        for n in range(100):
            spill.add(("t", None), pa.record_batch({{"a": pa.array([str(n * 7919).encode() * 9973])}}))
        list(spill.read(("t", None), 0, 100))
        for n in range(2000):
            import os
            spill.add(("t", None), pa.record_batch({{"a": pa.array([os.urandom(9973)])}}))
        list(spill.read(("t", None), 0, 2100))
except Unavailable as error:
    print(error)
print(store.list(""))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    written, aside, left = done.stdout.splitlines()
    assert "free space" in written
    assert "cannot put rows aside" in aside
    assert left == "[]"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_documents_never_count_against_the_limit_and_data_files_and_archives_do() -> None:
    from export_pipelines.core.errors import RequestRejected
    from export_pipelines.core.model import ExportFile

    readme = ExportFile(
        key="k",
        path="README.md",
        format="document",
        media_type="text/markdown",
        rows=0,
        size_bytes=11,
        sha256="0",
        crc32=0,
    )
    archive = replace(readme, path="export.zip", format="zip")
    package_step._require_within([readme, archive], 11)
    package_step._require_within([readme, archive], None)
    package_step._require_within([readme], 10)
    with pytest.raises(RequestRejected, match=r"export\.zip would have 11 bytes, more than the 10 "):
        package_step._require_within([readme, archive], 10)


@pytest.fixture
def weekly(case_host: Callable[..., Host]) -> Host:
    """2,429 rows over 893 weeks."""
    made = case_host("many_weeks")
    made.propose_catalog("weeks", "--tenant-table", "public.firms")
    made.apply_policies()
    return made


def test_a_split_into_hundreds_of_files_is_refused_until_it_is_confirmed(weekly: Host) -> None:
    weeks = ("--tenant", "1", "--tables", "events", "--format", "csv", "--split", "week")
    assert json.loads(weekly.run("estimate", *weeks, "--json").stdout)["files"] == 893
    refused = weekly.run("export", *weeks, code=2).stderr
    assert "would make at least 893 files, more than 500; choose months or a shorter date range" in refused
    assert "--many-files" in refused
    weekly.run("export", *weeks, "--many-files", "--output", "weeks")
    folder = weekly.folder / "weeks"
    data = list((folder / "data").iterdir())
    assert len(data) == 893
    (resource,) = json.loads((folder / "datapackage.json").read_text())["resources"]
    assert [Path(path).name for path in resource["path"]] == sorted(path.name for path in data)
    documents = [folder / name for name in ("datapackage.json", "README.md")]
    assert sum(path.stat().st_size for path in documents) < sum(path.stat().st_size for path in data)
    report = frictionless_report(folder)
    assert report.valid, report.flatten(["rowNumber", "fieldName", "type", "message"])[:5]
    assert report.tasks[0].stats["rows"] == 2_429
