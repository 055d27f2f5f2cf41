"""Packages in the hands of those who get them: opened in every form, checked, and the database's rows again."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest
from psycopg.rows import dict_row

import export_pipelines
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.signing import SignatureStatus
from export_pipelines.packaging.key_sets import key_set
from export_pipelines.packaging.manifest import to_json
from export_pipelines_tests.unit.test_signing import THEIRS
from export_pipelines_tests.workshop import TENANTS, ClinicSource, FinishedExports

PASSWORD = "Tr0ub4dor & 3 staples"
TABLES = ("pets", "invoices", "lab_results")  # NULL, empty texts, arrays, jsonb, numerics with and without a scale
AES: dict[str, Any] = {"method": "AES256", "password": PASSWORD}
FORMS: dict[str, dict[str, Any]] = {
    "CSV folder": {"format": "csv"},
    "NDJSON, each in AES": {"format": "ndjson", "compression": "gzip", "encryption": {**AES, "hide_names": False}},
    "JSON zstd": {"format": "json", "compression": "zstd"},
    "Parquet ZIP": {"format": "parquet", "compression": "zip"},
    "XLSX hidden in AES": {"format": "xlsx", "encryption": AES},
    "XML bz2": {"format": "xml", "compression": "bz2"},
}
CSV: dict[str, Any] = {"name": "Pets of ours", "tables": ["pets", "invoices"], "format": "csv"}


def database_rows(clinic: ClinicSource, table: str) -> dict[str, dict[str, Any]]:
    """The tenant's rows by id, as the driver has them; UUIDs as text, documents with exact numbers."""
    owner, way = "t", ""
    if table == "lab_results":
        owner = "p"
        way = "JOIN clinic.medical_records r ON r.id = t.medical_record_id JOIN clinic.pets p ON p.id = r.pet_id"
    with psycopg.connect(clinic.admin_url, row_factory=dict_row) as connection:
        psycopg.types.json.set_json_loads(exactly, connection)
        query = f"SELECT t.* FROM clinic.{table} t {way} WHERE {owner}.clinic_id = %s"
        rows = connection.execute(query.encode(), [TENANTS[0]]).fetchall()
    return {
        str(row["id"]): {name: str(value) if isinstance(value, UUID) else value for name, value in row.items()}
        for row in rows
    }


def exactly(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def read_rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    """The rows by id with what Arrow has as text in Python's types."""
    convert: dict[str, Callable[[str], Any]] = {"json": exactly, "numeric": Decimal}
    rows = {}
    for row in table.to_pylist():
        for field in table.schema:
            kind = field.metadata[b"kind"].decode()
            if kind in convert and row[field.name] is not None:
                row[field.name] = convert[kind](row[field.name])
        rows[row["id"]] = row
    assert len(rows) == table.num_rows
    return rows


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_of_every_form_are_those_of_the_database(
    finished: FinishedExports, clinic: ClinicSource, tmp_path: Path, form: str
) -> None:
    order = {"name": "Ours", "tables": list(TABLES), "filters": {"include_deleted": True}, **FORMS[form]}
    folder = finished.package(tmp_path, order)
    encrypted = "encryption" in FORMS[form]
    with export_pipelines.read(folder, PASSWORD if encrypted else None) as package:
        assert (package.name, package.tenant_id, package.format) == ("Ours", TENANTS[0], FORMS[form]["format"])
        for name in TABLES:
            expected, found = database_rows(clinic, name), read_rows(package.to_arrow(name))
            assert len(expected) == package.tables[name].rows > 0
            different = [key for key, row in expected.items() if found.get(key) != row]
            assert (different, len(found)) == ([], len(expected)), name


def test_the_rows_compared_have_what_is_hard_to_keep(clinic: ClinicSource) -> None:
    """NULL beside the empty text, unbounded numbers, documents: else the test above proves little."""
    rows = [row for table in TABLES for row in database_rows(clinic, table).values()]
    references = {row["reference"] for row in database_rows(clinic, "invoices").values()}
    assert {None, ""} < references
    assert any(isinstance(value, dict) for row in rows for value in row.values())
    assert any(isinstance(value, Decimal) and value.as_tuple().exponent < -4 for row in rows for value in row.values())


def test_records_nested_in_each_other_are_tables_again(
    finished: FinishedExports, clinic: ClinicSource, tmp_path: Path
) -> None:
    order = {"tables": ["clients", "pets"], "format": "json", "filters": {"include_deleted": True}}
    folder = finished.package(tmp_path, order)
    assert [path.name for path in (folder / "data").iterdir()] == ["clients.json"]
    package = export_pipelines.read(folder / "manifest.json")
    assert read_rows(package.to_arrow("pets")) == database_rows(clinic, "pets")
    assert set(package.to_arrow("clients")["id"].to_pylist()) == database_rows(clinic, "clients").keys()


def test_files_of_a_table_follow_each_other_in_the_order_of_the_manifest(
    finished: FinishedExports, clinic: ClinicSource, tmp_path: Path
) -> None:
    order = {"tables": ["invoices"], "format": "csv", "compression": "gzip", "filters": {"include_deleted": True}}
    folder = finished.package(tmp_path, {**order, "split_files": {"split_by": "month"}})
    package = export_pipelines.read(folder)
    assert read_rows(package.to_arrow("invoices")) == database_rows(clinic, "invoices")
    months = [str(at)[:7] for at in package.to_arrow("invoices")["created_at"].to_pylist()]
    assert len(list((folder / "data").glob("invoices.*"))) == len(set(months)) > 2
    assert months == sorted(months)
    assert sum(batch.num_rows for batch in package.batches("invoices")) == package.tables["invoices"].rows


def test_a_package_says_what_it_is(finished: FinishedExports, tmp_path: Path) -> None:
    order = {**CSV, "filters": {"date_range": {"start": "2024-01-01", "end": "2025-01-01"}}}
    package = export_pipelines.read(finished.package(tmp_path, order))
    request = finished.request(order)
    assert (package.id, package.export_type, package.catalog) == (request.id, "selective", "clinic")
    assert package.requested_at is not None
    assert package.snapshot_at is not None
    assert package.requested_at <= package.snapshot_at
    assert list(package.tables) == ["pets", "invoices"]
    total = package.tables["invoices"].columns["total"]
    assert (total.type, total.kind, total.nullable, total.label) == ("numeric(12,2)", "decimal", False, "Total")
    assert any("`created_at` from 2024-01-01" in sentence for sentence in package.tables["invoices"].left_out)
    assert any("`login_sessions`" in sentence for sentence in package.left_out)
    assert "invoices (" in repr(package)
    with pytest.raises(RequestRejected, match=r"name: 'cats' is not in this package, which has pets, invoices"):
        package.to_arrow("cats")


# Whose package it is ----------------------------------------------------------------------------------------------


def test_the_signature_is_checked_where_keys_are_given(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, CSV)
    ours = key_set(finished.workshop.services.signing.published())
    (tmp_path / "keys.json").write_text(json.dumps(ours))
    for keys in (ours, tmp_path / "keys.json", str(tmp_path / "keys.json")):
        assert export_pipelines.read(folder, keys=keys).trusted
    unasked = export_pipelines.read(folder)
    assert (unasked.trusted, unasked.signature.status) == (False, SignatureStatus.UNCHECKED)
    assert unasked.signature.key_id == ours["keys"][-1]["kid"]
    with pytest.raises(IntegrityViolation, match="not signed by any of the given keys; signature: unknown key"):
        export_pipelines.read(folder, keys=key_set([THEIRS.published()]))
    with pytest.raises(RequestRejected, match=r"keys: .* is not a JSON Web Key Set"):
        export_pipelines.read(folder, keys=folder / "README.md")


def test_rows_that_somebody_changed_with_all_checksums_are_refused_by_the_signature(
    finished: FinishedExports, tmp_path: Path
) -> None:
    folder = finished.package(tmp_path, CSV)
    data, document = folder / "data" / "pets.csv", folder / "manifest.json"
    before = data.read_bytes()
    data.write_bytes(before.replace(b",f,", b",m,"))
    assert data.read_bytes() != before
    manifest = json.loads(document.read_bytes())
    [entry] = [file for file in manifest["files"] if file["path"] == "data/pets.csv"]
    sums = folder / "SHA256SUMS"
    forged = sha256(data.read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(entry["sha256"], forged))
    entry["sha256"] = forged
    [own] = [file for file in manifest["files"] if file["path"] == "SHA256SUMS"]
    own["sha256"] = sha256(sums.read_bytes()).hexdigest()
    document.write_bytes(to_json(manifest))
    assert not export_pipelines.read(folder).trusted
    with pytest.raises(IntegrityViolation, match="signature: wrong"):
        export_pipelines.read(folder, keys=key_set(finished.workshop.services.signing.published()))


# Damage -----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "another byte": lambda folder: flip(folder / "data/pets.csv"),
    "a byte less": lambda folder: (folder / "data/pets.csv").write_bytes((folder / "data/pets.csv").read_bytes()[:-1]),
    "missing": lambda folder: (folder / "data/pets.csv").unlink(),
    "one more": lambda folder: (folder / "data/cats.csv").write_text("id\r\n"),
    "a document": lambda folder: flip(folder / "README.md"),
}
NAMED = {"one more": "data/cats.csv", "a document": "README.md"}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_package_is_refused_before_any_row_and_the_file_named(
    finished: FinishedExports, tmp_path: Path, damage: str
) -> None:
    folder = finished.package(tmp_path, CSV)
    DAMAGE[damage](folder)
    with pytest.raises(IntegrityViolation, match=NAMED.get(damage, r"data/pets\.csv")) as found:
        export_pipelines.read(folder)
    assert "is damaged" in str(found.value)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_cut_archive_is_refused(finished: FinishedExports, tmp_path: Path, cut: float) -> None:
    [archive] = finished.package(tmp_path, {**CSV, "compression": "zip"}).glob("*.zip")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(IntegrityViolation, match="damaged or incomplete archive"):
        export_pipelines.read(archive)


def test_a_file_that_changes_after_it_was_checked_is_no_table(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, CSV)
    package = export_pipelines.read(folder)
    flip(folder / "data/pets.csv")
    with pytest.raises(IntegrityViolation, match=r"data/pets\.csv was changed since"):
        package.to_arrow("pets")
    assert package.to_arrow("invoices").num_rows
    (folder / "data/invoices.csv").unlink()
    with pytest.raises(IntegrityViolation, match=r"data/invoices\.csv cannot be read"):
        package.to_arrow("invoices")


def test_a_manifest_that_forgets_the_files_of_a_table_gives_no_table(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, CSV)
    document = folder / "manifest.json"
    manifest = json.loads(document.read_bytes())
    for file in manifest["files"]:
        file["parts"] = [part for part in file["parts"] if part["table"] != "pets"]
    document.write_bytes(to_json(manifest))
    with pytest.raises(IntegrityViolation, match=r"the files of pets have 0 rows, the manifest says [1-9]"):
        export_pipelines.read(folder).to_arrow("pets")


def test_a_file_with_other_rows_than_the_manifest_says_is_no_table(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, CSV)
    document = folder / "manifest.json"
    manifest = json.loads(document.read_bytes())
    [part] = [part for file in manifest["files"] for part in file["parts"] if part["table"] == "pets"]
    part["rows"] += 1
    document.write_bytes(to_json(manifest))
    with pytest.raises(IntegrityViolation, match=r"data/pets\.csv has \d+ rows of pets, the manifest says"):
        export_pipelines.read(folder).to_arrow("pets")


# Keys that open ---------------------------------------------------------------------------------------------------


def test_a_package_for_a_public_key_opens_with_its_private_one(finished: FinishedExports, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        subprocess.run(["age-keygen", "-o", str(tmp_path / name)], check=True, capture_output=True)
    public = (tmp_path / "ours").read_text().split("public key: ")[1].split()[0]
    order = {**CSV, "encryption": {"method": "age", "recipients": [public]}}
    folder = finished.package(tmp_path, order)
    [archive] = folder.glob("*.age")
    for package in (folder, archive):
        assert export_pipelines.read(package, identity=tmp_path / "ours").to_arrow("pets").num_rows
    with pytest.raises(RequestRejected, match="identity: is needed"):
        export_pipelines.read(archive)
    with pytest.raises(RequestRejected, match=r"theirs|key"):
        export_pipelines.read(archive, identity=tmp_path / "theirs")
    with pytest.raises(RequestRejected, match=r"identity: .* cannot be read as a key file"):
        export_pipelines.read(archive, identity=tmp_path / "nowhere")


def test_a_missing_or_wrong_password_is_said_as_such(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, {**CSV, "encryption": AES})
    with pytest.raises(RequestRejected, match="password: is needed for this package, which is encrypted"):
        export_pipelines.read(folder)
    with pytest.raises(RequestRejected, match="password: does not open") as found:
        export_pipelines.read(folder, "another password")
    assert "another password" not in str(found.value)


# What is left behind ----------------------------------------------------------------------------------------------


def test_nothing_that_was_unpacked_stays(
    finished: FinishedExports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.package(tmp_path, {**CSV, "compression": "zip"})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with export_pipelines.read(folder) as closed:
        assert closed.to_arrow("pets").num_rows
        assert len(list(scratch.iterdir())) == 1
    assert list(scratch.iterdir()) == []
    with pytest.raises(RequestRejected, match="package: was closed; open it again"):
        closed.to_arrow("pets")
    forgotten: Any = export_pipelines.read(folder)
    assert list(scratch.iterdir())
    del forgotten
    gc.collect()
    assert list(scratch.iterdir()) == []
    flip(next(folder.glob("*.zip")))
    with pytest.raises(IntegrityViolation):
        export_pipelines.read(folder)
    assert list(scratch.iterdir()) == []


# What it takes ----------------------------------------------------------------------------------------------------

SERVICE = ("dagster", "fastapi", "starlette", "uvicorn", "psycopg", "psycopg2", "sqlalchemy", "alembic", "boto3")
SERVICE += ("adbc_driver_postgresql", "smart_open", "structlog", "typer")
READING = """
import sys
import export_pipelines
assert not [name for name in sys.modules if name.startswith("export_pipelines.")], "nothing is loaded before it is used"
package = export_pipelines.read(sys.argv[1])
rows = [(package.to_arrow(name), package.to_pandas(name), package.to_polars(name)) for name in package.tables]
assert all(len(frame) for tables in rows for frame in tables)
print(sorted(set(sys.modules) & set(sys.argv[2].split(","))))
"""


def test_reading_loads_no_service_no_driver_and_no_dagster(finished: FinishedExports, tmp_path: Path) -> None:
    folder = finished.package(tmp_path, {**CSV, "compression": "zip"})
    command = [sys.executable, "-W", "error", "-c", READING, str(folder), ",".join(SERVICE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
