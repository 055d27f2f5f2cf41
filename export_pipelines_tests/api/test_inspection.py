"""Validation on demand and metadata, of real exports: each kind of damage is found by the check that is for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.core.access import Caller, Role
from export_pipelines.core.naming import MANIFEST
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.api.inside import Inside, inside
from export_pipelines_tests.workshop import TENANTS, Workshop

JOBS = "/api/v1/exports/jobs"
PETS: dict[str, Any] = {"tables": ["pets"], "format": "csv"}
SECRET = "correct horse battery"
CALLERS = {
    "admin": Caller(role=Role.ADMIN, tenant_id=TENANTS[0], user_id="admin", credential="key"),
    "stranger": Caller(role=Role.ADMIN, tenant_id=TENANTS[1], user_id="eve", credential="key"),
}


@pytest.fixture
def client(workshop: Workshop) -> Iterator[Inside]:
    with inside(workshop.settings, CALLERS) as made:
        yield made


@pytest.fixture
def export(workshop: Workshop) -> ExportRequest:
    return workshop.export(PETS)


def checked(client: Inside, export: ExportRequest, kind: str = "full", **wanted: Any) -> dict[str, Any]:
    answer = client.ask("admin", "POST", f"{JOBS}/{export.id}/validate", json={"validation_type": kind, **wanted})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize(
    ("kind", "schema", "rows"), [("checksum", None, None), ("schema", True, None), ("full", True, True)]
)
def test_a_sound_export_is_valid_as_deep_as_one_looks(
    client: Inside, export: ExportRequest, kind: str, schema: bool | None, rows: bool | None
) -> None:
    told = checked(client, export, kind)
    assert told["checks"] == {
        "checksum_valid": True, "schema_valid": schema, "row_count_match": rows, "no_corruption": True,
        "signature_valid": True,
    }  # fmt: skip
    assert (told["valid"], told["problems"], told["files"]) == (True, [], 4)
    assert told["rows"] == (export.package_rows if rows else None)


def _flip(folder: Path) -> None:
    data = bytearray((folder / "data/pets.csv").read_bytes())
    data[-3] ^= 1
    (folder / "data/pets.csv").write_bytes(bytes(data))


def _sign_nothing(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["signature"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit flips": (_flip, "data/pets.csv has another SHA-256 than the manifest says"),
    "a file is cut": (lambda f: (f / "README.md").write_bytes(b""), "README.md has 0 bytes"),
    "a file is gone": (lambda f: (f / "data/pets.csv").unlink(), "data/pets.csv is missing"),
    "a file is added": (lambda f: (f / "data/more.csv").write_bytes(b"x"), "data/more.csv is not in the manifest"),
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
    told = checked(client, export, "checksum")
    assert (told["valid"], told["checks"]["no_corruption"]) == (False, False)
    assert problem in " ".join(told["problems"])


def test_rows_that_do_not_add_up_are_found_by_the_full_check_alone(
    client: Inside, workshop: Workshop, export: ExportRequest
) -> None:
    """A manifest with other figures, and everything else made to fit: only counting shows it, and the signature."""
    manifest = workshop.package(export) / MANIFEST
    manifest.write_text(re.sub(r'"rows": [1-9][0-9]*', '"rows": 1', manifest.read_text()))
    told = checked(client, export, "full")
    assert told["checks"]["row_count_match"] is False
    assert "the manifest says 1" in " ".join(told["problems"])
    assert told["checks"]["signature_valid"] is False


def test_sample_rows_are_the_callers_own_first_rows(client: Inside, export: ExportRequest) -> None:
    told = checked(client, export, "checksum", sample_rows=3)
    rows = told["sample_data"]["pets"]
    assert len(rows) == 3
    assert {row["clinic_id"] for row in rows} == {TENANTS[0]}
    assert told["rows"] is None  # shown, not counted
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
    told = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata").json()
    assert (told["encrypted"], told["schema"]) == (True, [])
    assert told["statistics"]["rows"] == export.package_rows


def test_metadata_tells_schema_statistics_and_lineage(client: Inside, export: ExportRequest) -> None:
    told = client.ask("admin", "GET", f"{JOBS}/{export.id}/metadata").json()
    (pets,) = told["schema"]
    assert {column["name"]: column["type"] for column in pets["columns"]}["id"] == "uuid"
    assert told["statistics"]["tables"]["pets"]["rows"] == told["statistics"]["rows"] == export.package_rows
    assert told["lineage"]["source"]["snapshot"]["id"]
    assert told["lineage"]["run_ids"] == [export.run_id]
    assert told["lineage"]["signature_key"]
    assert [event["new_status"] for event in told["lineage"]["events"]] == ["queued", "processing", "completed"]


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
