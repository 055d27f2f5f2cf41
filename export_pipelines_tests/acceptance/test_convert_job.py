"""A finished export in another format: from what it had read, for its tenant only, with the same proofs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from export_pipelines.core.errors import NotFound, RequestRejected
from export_pipelines.core.naming import canonical_prefix
from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import all_formats, find_format
from export_pipelines.packaging.sealing import Keys
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.pipeline.verify import verify_package
from export_pipelines.settings import Settings
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.workshop import TENANTS, ClinicSource, FinishedExports, Workshop, make_workshop, open_workshop

TABLES = ["clients", "pets", "invoices"]
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:9/none"


ORDER: dict[str, Any] = {"tables": TABLES, "format": "csv", "compression": "gzip"}


@pytest.fixture
def kept(finished: FinishedExports) -> ExportRequest:
    """A finished export, which the test leaves as it is."""
    return finished.request(ORDER)


@pytest.fixture(scope="session")
def sourceless(finished: FinishedExports) -> Iterator[Workshop]:
    """The service of the finished exports, without a source to ask."""
    with open_workshop(finished.workshop.settings.model_copy(update={"source_url": SecretStr(NOWHERE)})) as made:
        yield made


def manifest_of(workshop: Workshop, request: ExportRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((workshop.package(request) / "manifest.json").read_text())
    return loaded


@pytest.mark.usefixtures("without_source")
@pytest.mark.parametrize("format_name", list(all_formats()))
def test_an_export_is_converted_without_its_source(
    workshop: Workshop, finished: ExportRequest, format_name: str
) -> None:
    converted = workshop.export({"convert": finished.id, "format": format_name})
    assert (converted.status, converted.error_message) == (RequestStatus.COMPLETED, None)
    assert verify_package(workshop.package(converted), find_format).problems == []
    before, after = manifest_of(workshop, finished), manifest_of(workshop, converted)
    assert after["source"].pop("converted_from") == finished.id
    assert after["source"] == before["source"]  # the same snapshot
    assert [table | {"fidelity": None} for table in after["tables"]] == [
        table | {"fidelity": None} for table in before["tables"]
    ]
    assert converted.package_rows == finished.package_rows
    assert converted.percentage == 100
    assert converted.rows_processed == converted.total_rows == finished.package_rows


@pytest.mark.usefixtures("without_source")
def test_a_conversion_can_be_converted(workshop: Workshop, finished: ExportRequest) -> None:
    once = workshop.export({"convert": finished.id, "format": "xml"})
    twice = workshop.export({"convert": once.id, "format": "parquet"})
    assert twice.status is RequestStatus.COMPLETED
    assert manifest_of(workshop, twice)["source"]["converted_from"] == finished.id


def test_another_tenant_cannot_tell_an_export_from_none(workshop: Workshop, finished: ExportRequest) -> None:
    unknown = "00000000-0000-4000-8000-00000000dead"
    foreign = workshop.export({"convert": finished.id, "format": "csv"}, TENANTS[1])
    missing = workshop.export({"convert": unknown, "format": "csv"}, TENANTS[1])
    assert foreign.status is missing.status is RequestStatus.FAILED
    assert str(foreign.error_message).replace(finished.id, unknown).removeprefix("convert: ") == str(
        missing.error_message
    ).removeprefix("request_id: ").removeprefix("convert: ")


def test_a_foreign_conversion_opens_no_chain(workshop: Workshop, finished: ExportRequest) -> None:
    """A request of one's own that names another tenant's export is no way to it."""
    own = workshop.export({"convert": finished.id, "format": "csv"}, TENANTS[1])
    chained = workshop.export({"convert": own.id, "format": "csv"}, TENANTS[1])
    assert chained.status is RequestStatus.FAILED
    assert "there is no request" in str(chained.error_message)


def test_only_a_finished_export_is_converted(workshop: Workshop) -> None:
    failed = workshop.export({"tables": ["nothing"], "format": "csv"})
    converted = workshop.export({"convert": failed.id, "format": "csv"})
    assert converted.status is RequestStatus.FAILED
    assert "not kept" in str(converted.error_message)
    assert "export again" in str(converted.error_message)


@pytest.mark.usefixtures("without_source")
def test_canonical_rows_that_were_changed_are_noticed(workshop: Workshop, finished: ExportRequest) -> None:
    """The figures of the database, kept beside the rows, do not fit another table's rows."""
    path = workshop.objects / canonical_prefix(workshop.scope(), finished.id) / "invoices.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    converted = workshop.export({"convert": finished.id, "format": "csv"})
    assert (converted.status, converted.error_type) == (RequestStatus.FAILED, "integrity_violation")


def test_a_catalog_that_changed_is_said(workshop: Workshop, finished: ExportRequest) -> None:
    pets = workshop.catalog.tables["pets"]
    name = pets.columns["name"].model_copy(update={"exclude": "no longer ours to give"})
    table = pets.model_copy(update={"columns": {**pets.columns, "name": name}})
    catalog = workshop.catalog.model_copy(update={"tables": {**workshop.catalog.tables, "pets": table}})
    services = workshop.services
    with pytest.raises(RequestRejected, match="pets otherwise than when it was exported"):
        find_kept(finished.id, workshop.scope(), catalog, services.requests, services.store)


GONE = {
    "deleted": "status = 'expired', deleted_at = now()",
    "expired": "status = 'expired'",
    "past its time": "expires_at = now()",
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.usefixtures("without_source")
def test_what_people_no_longer_have_cannot_be_ordered_in_another_format(
    workshop: Workshop, finished: ExportRequest, control_url: str, gone: str
) -> None:
    """Nor by way of a conversion of it; what was accepted before goes on."""
    once = workshop.export({"convert": finished.id, "format": "xml"})
    accepted = workshop.order({"convert": once.id, "format": "ndjson"})
    services, scope = workshop.services, workshop.scope()
    find_kept(once.id, scope, workshop.catalog, services.requests, services.store)
    with psycopg.connect(control_url) as connection:
        change = f"UPDATE export_control.export_requests SET {GONE[gone]} WHERE id = %s"
        connection.execute(change, (finished.id,))
    for request_id in (finished.id, once.id):
        with pytest.raises(NotFound, match="there is no export"):
            find_kept(request_id, scope, workshop.catalog, services.requests, services.store)
    workshop.run(accepted)
    assert services.requests.get(accepted).status is RequestStatus.COMPLETED


SEALED = {"enabled": True, "method": "AES256", "password": "twelve letters and more"}


def test_of_an_encrypted_export_nothing_is_kept_in_clear(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["pets"], "format": "csv", "encryption": SEALED})
    assert request.status is RequestStatus.COMPLETED
    assert not [key for key in workshop.object_keys() if not key.startswith(f"{request.package_prefix}/")]
    converted = workshop.export({"convert": request.id, "format": "json"})
    assert "not kept" in str(converted.error_message)


@pytest.mark.usefixtures("without_source")
def test_a_conversion_can_be_split_and_encrypted(workshop: Workshop, finished: ExportRequest) -> None:
    how = {"split_files": {"enabled": True, "split_by": "month"}, "encryption": SEALED}
    converted = workshop.export({"convert": finished.id, "format": "csv", **how})
    assert (converted.status, converted.error_message) == (RequestStatus.COMPLETED, None)
    keys = Keys(password=SecretStr(str(SEALED["password"])))
    assert verify_package(workshop.package(converted), find_format, keys=keys).problems == []


def test_nothing_is_kept_where_the_settings_say_so(clinic: ClinicSource, control_url: str, tmp_path: Path) -> None:
    settings = Settings(
        EXPORT_SOURCE_URL=clinic.url, EXPORT_CONTROL_URL=control_url, EXPORT_HOME=tmp_path, EXPORT_KEEP_CANONICAL=False
    )
    with make_workshop(settings) as made:
        request = made.export({"tables": ["pets"], "format": "csv"})
        assert not [key for key in made.object_keys() if not key.startswith(f"{request.package_prefix}/")]
