"""Validation on demand and metadata, of real exports: each kind of damage is found by the check that is for it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import httpx
import psycopg
import pyarrow as pa
import pyrage
import pytest
from typer.testing import CliRunner

from export_pipelines.api.verification import VALIDATING
from export_pipelines.cli import app
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.types import field_of
from export_pipelines.pipeline.verification.findings import Depth
from export_pipelines.pipeline.verification.sampling import SAMPLE_BYTES, Sampler, json_row
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.acceptance.test_export_job import forge_checksums
from export_pipelines_tests.api.inside import Inside, inside
from export_pipelines_tests.workshop import TENANTS, FinishedExports, Workshop

JOBS = "/api/v1/exports/jobs"
PETS: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
SECRET = "correct horse battery"
CALLERS = {
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
    "stranger": Caller(role=Role.ADMIN, tenant_id=TENANTS[1], user_id="eve", credential="key"),
}


@pytest.fixture(scope="module")
def workshop(finished: FinishedExports) -> Workshop:
    """One for all these tests, whose exports are there already."""
    return finished.workshop


@pytest.fixture(scope="module")
def application(workshop: Workshop) -> Iterator[Inside]:
    with inside(workshop.settings, CALLERS) as made:
        yield made


@pytest.fixture
def client(application: Inside, workshop: Workshop) -> Inside:
    """The application, of which nobody has asked anything yet."""
    _execute(workshop, "DELETE FROM export_control.rate_limits", ())
    return application


@pytest.fixture
def export(finished: FinishedExports, tmp_path: Path) -> Iterator[ExportRequest]:
    """An export whose files may be damaged: they are put back."""
    request = finished.request(PETS)
    folder = finished.workshop.package(request)
    shutil.copytree(folder, tmp_path / "sound")
    yield request
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "sound", folder)


def checked(client: Inside, export: ExportRequest, kind: str = "full", **wanted: Any) -> dict[str, Any]:
    answer = client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={"validation_type": kind, **wanted})
    assert answer.status_code == 200, answer.text
    reported: dict[str, Any] = answer.json()
    return reported


@pytest.mark.parametrize(
    ("kind", "schema", "rows"), [("checksum", None, None), ("schema", True, None), ("full", True, True)]
)
def test_a_sound_export_is_valid_as_deep_as_one_looks(
    client: Inside, export: ExportRequest, kind: str, schema: bool | None, rows: bool | None
) -> None:
    reported = checked(client, export, kind)
    assert reported["checks"] == {
        "checksum_valid": True, "schema_valid": schema, "row_count_match": rows, "no_corruption": True,
        "omissions_stated": True, "signature_valid": True,
    }  # fmt: skip
    assert (reported["valid"], reported["problems"], reported["files"]) == (True, [], 4)
    assert reported["rows"] == (export.package_rows if rows else None)


def _flip(folder: Path) -> None:
    data = bytearray((folder / "data/pets.csv").read_bytes())
    data[-3] ^= 1
    (folder / "data/pets.csv").write_bytes(bytes(data))


def _sign_nothing(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["signature"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def _link_out(folder: Path) -> None:
    store = next(parent for parent in folder.parents if parent.name == "exports").parent
    elsewhere = store.parent / "elsewhere.csv"  # the same bytes, out of the store
    (folder / "data/pets.csv").rename(elsewhere)
    (folder / "data/pets.csv").symlink_to(elsewhere)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit flips": (_flip, "data/pets.csv has another SHA-256 than the manifest says"),
    "a file is cut": (lambda f: (f / "README.md").write_bytes(b""), "README.md has 0 bytes"),
    "a file is gone": (lambda f: (f / "data/pets.csv").unlink(), "data/pets.csv is missing"),
    "a file is added": (lambda f: (f / "data/more.csv").write_bytes(b"x"), "data/more.csv is not in the manifest"),
    "a file leads elsewhere": (_link_out, "data/pets.csv is listed and cannot be fetched"),
    "the manifest is gone": (lambda f: (f / MANIFEST).unlink(), "manifest.json is missing"),
    "the manifest is nonsense": (lambda f: (f / MANIFEST).write_text("{}"), "manifest.json is not a manifest"),
    "the manifest is another": (_sign_nothing, "manifest.json is not the one that was published"),
}


@pytest.mark.parametrize("what", sorted(DAMAGE))
def test_damage_is_told_and_breaks_nothing(
    client: Inside, workshop: Workshop, export: ExportRequest, what: str
) -> None:
    damage, problem = DAMAGE[what]
    damage(workshop.package(export))
    reported = checked(client, export, "checksum")
    assert (reported["valid"], reported["checks"]["no_corruption"]) == (False, False)
    assert problem in " ".join(reported["problems"])


def _rename_a_column(data: bytes) -> bytes:
    return data.replace(b"clinic_id", b"branch_id", 1)


def _lose_a_row(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


def _change_a_value(data: bytes) -> bytes:
    head, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
    rows[0][head.index("name")] += "xx"
    text = io.StringIO(newline="")
    csv.writer(text).writerows([head, *rows])
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("forge", "schema", "rows", "problem"),
    [
        (_rename_a_column, False, None, "is not the one of table pets"),
        (_lose_a_row, True, False, "rows of pets, the manifest says"),
        (_change_a_value, True, True, "column 'name'"),
    ],
)
def test_with_checksums_that_fit_each_check_tells_its_own(
    client: Inside,
    workshop: Workshop,
    export: ExportRequest,
    forge: Callable[[bytes], bytes],
    schema: bool,
    rows: bool | None,
    problem: str,
) -> None:
    folder = workshop.package(export)
    data = folder / "data/pets.csv"
    data.write_bytes(forge(data.read_bytes()))
    forge_checksums(folder, data, folder / MANIFEST)
    reported = checked(client, export, "full", sample_rows=1)
    assert (reported["checks"]["schema_valid"], reported["checks"]["row_count_match"]) == (schema, rows)
    assert reported["checks"]["no_corruption"] is False
    assert problem in " ".join(reported["problems"])
    closely = [CliRunner().invoke(app, ["verify", str(folder), "--depth", depth]) for depth in Depth]
    assert [done.exit_code for done in closely] == [0, 0 if schema else 3, 3]


def test_a_damaged_archive_is_told_in_its_own_words_and_who_signed_it_still_shows(
    client: Inside, workshop: Workshop
) -> None:
    export = workshop.export({**PETS, "compression": "zip"})
    [archive] = workshop.package(export).glob("*.zip")
    whole = archive.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content, problem in ((bytes(flipped), "is damaged"), (whole[:-100], "damaged or incomplete archive")):
        archive.write_bytes(content)
        reported = checked(client, export, "full")
        [said] = reported["problems"]
        assert said.startswith(f"{archive.name} ")
        assert problem in said
        assert not re.search(r"(^|\s|')/", said), "names a place of this machine"
        assert (reported["checks"]["checksum_valid"], reported["checks"]["signature_valid"]) == (False, True)
    archive.write_bytes(whole)
    assert checked(client, export, "full")["valid"]
    (archive.parent / "setup.exe").write_bytes(b"MZ")
    reported = checked(client, export)
    assert (reported["problems"], reported["checks"]["checksum_valid"]) == (
        ["setup.exe is not part of the package"],
        False,
    )


def test_rows_that_do_not_add_up_are_found_by_the_full_check_alone(
    client: Inside, workshop: Workshop, export: ExportRequest
) -> None:
    """A manifest with other figures, and everything else made to fit: only counting shows it, and the signature."""
    manifest = workshop.package(export) / MANIFEST
    manifest.write_text(re.sub(r'"rows": [1-9][0-9]*', '"rows": 1', manifest.read_text()))
    reported = checked(client, export, "full")
    assert reported["checks"]["row_count_match"] is False
    assert "the manifest says 1" in " ".join(reported["problems"])
    assert reported["checks"]["signature_valid"] is False


def test_sample_rows_are_the_callers_own_first_rows(client: Inside, export: ExportRequest) -> None:
    reported = checked(client, export, "checksum", sample_rows=3)
    rows = reported["sample_data"]["pets"]
    assert len(rows) == 3
    assert {row["clinic_id"] for row in rows} == {TENANTS[0]}
    assert reported["rows"] is None  # shown, not counted
    assert client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={"sample_rows": 101}).status_code == 422


def test_an_encrypted_export_is_opened_with_its_password_only(client: Inside, workshop: Workshop) -> None:
    export = workshop.export({**PETS, "encryption": {"method": "AES256", "password": SECRET}})
    outside = checked(client, export, "full")
    assert (outside["valid"], outside["checks"]["checksum_valid"], outside["checks"]["schema_valid"]) == (
        True,
        True,
        None,
    )
    assert (outside["rows"], outside["sample_data"]) == (None, {})
    inside = checked(client, export, "full", password=SECRET, sample_rows=1)
    assert (inside["valid"], inside["rows"], len(inside["sample_data"]["pets"])) == (True, export.package_rows, 1)
    wrong = client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={"password": "another password"})
    assert wrong.status_code == 422
    assert "password" in wrong.json()["detail"]
    reported = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata").json()
    assert (reported["encrypted"], reported["schema"]) == (True, [])
    assert reported["statistics"]["rows"] == export.package_rows


def test_metadata_tells_schema_statistics_and_lineage(client: Inside, export: ExportRequest) -> None:
    reported = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata").json()
    (pets,) = reported["schema"]
    assert {column["name"]: column["type"] for column in pets["columns"]}["id"] == "uuid"
    assert reported["statistics"]["tables"]["pets"]["rows"] == reported["statistics"]["rows"] == export.package_rows
    assert reported["lineage"]["source"]["snapshot"]["id"]
    assert reported["lineage"]["run_ids"] == [export.run_id]
    assert reported["lineage"]["signature_key"]
    assert [event["new_status"] for event in reported["lineage"]["events"]] == ["queued", "processing", "completed"]


def test_metadata_tells_totals_of_columns_the_range_and_the_description(client: Inside, workshop: Workshop) -> None:
    order = {
        "tables": ["invoices"],
        "format": "ndjson",
        "name": "2024",
        "description": "For the auditor; see ticket 7.",
        "filters": {"date_range": {"start": "2024-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}},
    }
    export = workshop.export(order)
    reported = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata").json()
    assert (reported["name"], reported["description"]) == ("2024", order["description"])
    assert client.ask("admin", "GET", f"{JOBS}/{export.id}").json()["description"] == order["description"]
    assert reported["date_range"] == {"start": "2024-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}
    text = (workshop.package(export) / "data/invoices.ndjson").read_text()
    rows = [json.loads(line, parse_float=Decimal) for line in text.splitlines()]
    columns = reported["statistics"]["tables"]["invoices"]["columns"]
    assert 0 < len(rows) == reported["statistics"]["tables"]["invoices"]["rows"]
    for name, stated in columns.items():
        filled = [row[name] for row in rows if row[name] is not None]
        assert (stated["values"], stated["empty"]) == (len(filled), len(rows) - len(filled)), name
        if "total" in stated:
            assert Decimal(stated["total"]) == sum(map(Decimal, filled)), name
    assert any("total" in stated for stated in columns.values())
    assert "total" not in columns["id"]
    whole = client.ask("admin", "GET", f"{JOBS}/{workshop.export(PETS).id}/metadata").json()
    assert (whole["date_range"], whole["description"]) == (None, "")


@pytest.mark.parametrize(("method", "path"), [("POST", "validate"), ("GET", "metadata")])
def test_foreign_and_unfinished_exports_are_not_looked_into(
    client: Inside, workshop: Workshop, export: ExportRequest, method: str, path: str
) -> None:
    body = {"json": {}} if method == "POST" else {}
    foreign = client.ask("stranger", method, f"{JOBS}/{export.id}/{path}", **body)
    assert foreign.status_code == 404
    waiting = client.ask("admin", method, f"{JOBS}/{workshop.order(PETS)}/{path}", **body)
    assert (waiting.status_code, waiting.json()["detail"]) == (
        409,
        "job_id: is queued; only a completed export has files",
    )


def test_nothing_is_left_in_the_scratch_folder(client: Inside, workshop: Workshop, export: ExportRequest) -> None:
    checked(client, export, "full")
    scratch = workshop.settings.home / "scratch"
    assert [path for path in scratch.rglob("*") if "inspection" in path.name] == []


def test_metadata_of_a_damaged_manifest_is_what_the_service_knows(
    client: Inside, workshop: Workshop, export: ExportRequest
) -> None:
    manifest = workshop.package(export) / MANIFEST
    edited = json.loads(manifest.read_text())
    edited["source"]["role"] = "FORGED"
    for content in (json.dumps(edited).encode(), manifest.read_bytes()[:-9], b"[]", b"\xff", None):
        manifest.unlink() if content is None else manifest.write_bytes(content)
        answer = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata")
        assert answer.status_code == 200, answer.text
        reported = answer.json()
        problem = "is missing" if content is None else "is not the one that was published"
        assert reported["note"] == f"manifest.json {problem}; this is what the service itself knows."
        assert (reported["schema"], reported["lineage"]["source"]) == ([], {})
        assert (reported["statistics"]["rows"], reported["statistics"]["files"]) == (export.package_rows, 5)
        assert reported["lineage"]["run_ids"] == [export.run_id]


@pytest.mark.parametrize(("method", "path"), [("POST", "validate"), ("GET", "metadata"), ("GET", "download/0")])
def test_an_export_that_has_expired_is_closed_before_the_sweep_comes(
    client: Inside, workshop: Workshop, method: str, path: str
) -> None:
    export = workshop.export(PETS)
    _execute(
        workshop,
        "UPDATE export_control.export_requests SET expires_at = now() - interval '1 hour' WHERE id = %s",
        (export.id,),
    )
    body = {"json": {"sample_rows": 2}} if method == "POST" else {}
    answer = client.ask("admin", method, f"{JOBS}/{export.id}/{path}", **body)
    assert answer.status_code == 409
    assert "has expired at" in answer.json()["detail"]


def _execute(workshop: Workshop, statement: LiteralString, values: tuple[Any, ...]) -> list[Any]:
    with psycopg.connect(workshop.settings.require_control_url(), autocommit=True) as control:
        done = control.execute(statement, values)
        return done.fetchall() if done.description else []


def test_a_password_does_not_open_what_is_encrypted_for_recipients(client: Inside, workshop: Workshop) -> None:
    recipients = [str(pyrage.x25519.Identity.generate().to_public())]
    export = workshop.export({**PETS, "encryption": {"method": "age", "recipients": recipients}})
    assert checked(client, export)["valid"]
    refused = client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={"password": SECRET})
    assert (refused.status_code, refused.json()["field"]) == (422, "password")
    assert "--" not in refused.json()["detail"]


def test_who_finds_no_slot_has_used_nothing_and_limits_are_told(client: Inside, workshop: Workshop) -> None:
    export = workshop.export(PETS)

    def tried() -> httpx.Response:
        return client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={})

    with VALIDATING.held("somebody"), VALIDATING.held("somebody else"):
        busy = [tried() for _ in range(3)]
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in busy] == [(429, "5")] * 3
    first = tried()
    assert (first.status_code, first.headers["ratelimit-policy"]) == (200, '"validations";q=20;w=600')
    assert first.headers["ratelimit"].startswith('"validations";r=19;')
    [(lines,)] = _execute(
        workshop,
        "SELECT count(*) FROM export_control.audit_log WHERE action = %s AND target_id = %s",
        ("export.validate", export.id),
    )
    assert lines == 1
    _execute(workshop, "UPDATE export_control.rate_limits SET tokens = 0", ())
    refused = tried()
    assert (refused.status_code, refused.headers["ratelimit"].split(";")[1]) == (429, "r=0")
    assert int(refused.headers["retry-after"]) >= 1


def _batch(columns: dict[str, tuple[str, list[Any]]]) -> pa.RecordBatch:
    """Columns of PostgreSQL's types."""
    schema = pa.schema([field_of(name, pg_type, nullable=True) for name, (pg_type, _) in columns.items()])
    return pa.RecordBatch.from_pydict({name: values for name, (_, values) in columns.items()}, schema=schema)


def test_samples_never_hold_more_than_there_is_room_for() -> None:
    taken: dict[str, list[dict[str, Any]]] = {}
    sampler = Sampler(taken, rows=100, tables=4)
    for table, width in (("a", 40_000), ("b", 1_000), ("c", 10), ("d", 1_000_000)):
        sampler.take(table, _batch({"v": ("text", ["é" * width] * 50 + ["x"] * 100)}))
    assert [len(rows) for rows in taken.values()] == [0, 32, 100, 0]
    assert len(json.dumps(taken, ensure_ascii=False).encode()) < SAMPLE_BYTES


def test_samples_are_exact_or_the_text_that_files_have() -> None:
    row = _batch(
        {
            "narrow": ("real", [0.1]), "bytes": ("bytea", [b"\xde"]), "nan": ("double precision", [float("nan")]),
            "low": ("real", [float("-inf")]), "big": ("bigint", [2**53 + 1]), "small": ("integer", [-3]),
            "yes": ("boolean", [True]), "none": ("bigint", [None]), "price": ("numeric(5,2)", [Decimal("1.50")]),
            "day": ("date", [dt.date(2024, 1, 31)]), "text": ("text", ["true"]),
        }
    )  # fmt: skip
    assert json_row(row) == {
        "narrow": 0.1, "bytes": "\\xde", "nan": "NaN", "low": "-Infinity", "big": "9007199254740993", "small": -3,
        "yes": True, "none": None, "price": "1.50", "day": "2024-01-31", "text": "true",
    }  # fmt: skip
