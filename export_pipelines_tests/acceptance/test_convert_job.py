"""A finished export in another format: from what it had read, for its tenant only, with the same proofs."""

from __future__ import annotations

import json
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
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage
from export_pipelines.pipeline.verification.verify import verify_package
from export_pipelines.settings import Settings
from export_pipelines.stores.requests import ExportRequest
from export_pipelines_tests.workshop import (
    TENANTS,
    ClinicSource,
    FinishedExports,
    Workshop,
    make_workshop,
    open_workshop,
)

TABLES = ["clients", "pets", "invoices"]
NOWHERE = "postgresql://nobody:nothing@127.0.0.1:9/none"


ORDER: dict[str, Any] = {"tables": TABLES, "format": "csv", "compression": "gzip"}


@pytest.fixture
def kept(finished: FinishedExports) -> ExportRequest:
    """A finished export, which the test leaves as it is."""
    return finished.request(ORDER)


@pytest.fixture
def own(finished: FinishedExports) -> ExportRequest:
    """A finished export to do anything with."""
    return finished.workshop.export(ORDER)


@pytest.fixture(scope="session")
def sourceless(finished: FinishedExports) -> Iterator[Workshop]:
    """The service of the finished exports, without a source to ask."""
    with open_workshop(finished.workshop.settings.model_copy(update={"source_url": SecretStr(NOWHERE)})) as made:
        yield made


def manifest_of(service: Workshop, request: ExportRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((service.package(request) / "manifest.json").read_text())
    return loaded


@pytest.mark.parametrize("format_name", list(all_formats()))
def test_an_export_is_converted_without_its_source(sourceless: Workshop, kept: ExportRequest, format_name: str) -> None:
    converted = sourceless.export({"convert": kept.id, "format": format_name})
    assert (converted.status, converted.error_message) == (RequestStatus.COMPLETED, None)
    assert verify_package(sourceless.package(converted), find_format).problems == []
    before, after = manifest_of(sourceless, kept), manifest_of(sourceless, converted)
    assert after["source"].pop("converted_from") == kept.id
    assert after["source"] == before["source"]  # the same snapshot
    assert [table | {"fidelity": None} for table in after["tables"]] == [
        table | {"fidelity": None} for table in before["tables"]
    ]
    assert converted.package_rows == kept.package_rows
    assert converted.percentage == 100
    assert converted.rows_processed == converted.total_rows == kept.package_rows


def test_a_conversion_can_be_converted(sourceless: Workshop, kept: ExportRequest) -> None:
    once = sourceless.export({"convert": kept.id, "format": "xml"})
    twice = sourceless.export({"convert": once.id, "format": "parquet"})
    assert twice.status is RequestStatus.COMPLETED
    assert manifest_of(sourceless, twice)["source"]["converted_from"] == kept.id


def test_another_tenant_cannot_tell_an_export_from_none(finished: FinishedExports, kept: ExportRequest) -> None:
    unknown = "00000000-0000-4000-8000-00000000dead"
    foreign = finished.workshop.export({"convert": kept.id, "format": "csv"}, TENANTS[1])
    missing = finished.workshop.export({"convert": unknown, "format": "csv"}, TENANTS[1])
    assert foreign.status is missing.status is RequestStatus.FAILED
    assert str(foreign.error_message).replace(kept.id, unknown).removeprefix("convert: ") == str(
        missing.error_message
    ).removeprefix("request_id: ").removeprefix("convert: ")


def test_a_foreign_conversion_opens_no_chain(finished: FinishedExports, kept: ExportRequest) -> None:
    """A request of one's own that names another tenant's export is no way to it."""
    own = finished.workshop.export({"convert": kept.id, "format": "csv"}, TENANTS[1])
    chained = finished.workshop.export({"convert": own.id, "format": "csv"}, TENANTS[1])
    assert chained.status is RequestStatus.FAILED
    assert "there is no request" in str(chained.error_message)


def test_only_a_finished_export_is_converted(workshop: Workshop) -> None:
    failed = workshop.export({"tables": ["nothing"], "format": "csv"})
    converted = workshop.export({"convert": failed.id, "format": "csv"})
    assert converted.status is RequestStatus.FAILED
    assert "not kept" in str(converted.error_message)
    assert "export again" in str(converted.error_message)


def test_canonical_rows_that_were_changed_are_noticed(sourceless: Workshop, own: ExportRequest) -> None:
    """The figures of the database, kept beside the rows, do not fit another table's rows."""
    path = sourceless.objects / canonical_prefix(sourceless.scope(), own.id) / "invoices.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    converted = sourceless.export({"convert": own.id, "format": "csv"})
    assert (converted.status, converted.error_type) == (RequestStatus.FAILED, "integrity_violation")


def test_a_catalog_that_changed_is_said(finished: FinishedExports, kept: ExportRequest) -> None:
    pets = finished.workshop.catalog.tables["pets"]
    name = pets.columns["name"].model_copy(update={"exclude": "no longer ours to give"})
    table = pets.model_copy(update={"columns": {**pets.columns, "name": name}})
    catalog = finished.workshop.catalog.model_copy(
        update={"tables": {**finished.workshop.catalog.tables, "pets": table}}
    )
    services = finished.workshop.services
    with pytest.raises(RequestRejected, match="pets otherwise than when it was exported"):
        find_retained_stage(kept.id, finished.workshop.scope(), catalog, services.requests, services.store)


GONE = {
    "deleted": "status = 'expired', deleted_at = now()",
    "expired": "status = 'expired'",
    "past its time": "expires_at = now()",
}


@pytest.mark.parametrize("gone", GONE)
def test_what_people_no_longer_have_cannot_be_ordered_in_another_format(
    sourceless: Workshop, own: ExportRequest, gone: str
) -> None:
    """Nor by way of a conversion of it; what was accepted before goes on."""
    once = sourceless.export({"convert": own.id, "format": "xml"})
    accepted = sourceless.order({"convert": once.id, "format": "ndjson"})
    services, scope = sourceless.services, sourceless.scope()
    find_retained_stage(once.id, scope, sourceless.catalog, services.requests, services.store)
    with psycopg.connect(sourceless.settings.require_control_url()) as connection:
        change = f"UPDATE export_control.export_requests SET {GONE[gone]} WHERE id = %s"
        connection.execute(change, (own.id,))
    for request_id in (own.id, once.id):
        with pytest.raises(NotFound, match="there is no export"):
            find_retained_stage(request_id, scope, sourceless.catalog, services.requests, services.store)
    sourceless.run(accepted)
    assert services.requests.get(accepted).status is RequestStatus.COMPLETED


SEALED = {"enabled": True, "method": "AES256", "password": "twelve letters and more"}


def test_of_an_encrypted_export_nothing_is_kept_in_clear(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["pets"], "format": "csv", "encryption": SEALED})
    assert request.status is RequestStatus.COMPLETED
    assert not [key for key in workshop.object_keys() if not key.startswith(f"{request.package_prefix}/")]
    converted = workshop.export({"convert": request.id, "format": "json"})
    assert "not kept" in str(converted.error_message)


def test_a_conversion_can_be_split_and_encrypted(sourceless: Workshop, kept: ExportRequest) -> None:
    how = {"split_files": {"enabled": True, "max_size_mb": 0.1}, "encryption": SEALED}
    converted = sourceless.export({"convert": kept.id, "format": "csv", **how})
    assert (converted.status, converted.error_message) == (RequestStatus.COMPLETED, None)
    keys = Keys(password=SecretStr(str(SEALED["password"])))
    assert verify_package(sourceless.package(converted), find_format, keys=keys).problems == []


def test_nothing_is_kept_where_the_settings_say_so(clinic: ClinicSource, control_url: str, tmp_path: Path) -> None:
    settings = Settings(
        EXPORT_SOURCE_URL=clinic.url, EXPORT_CONTROL_URL=control_url, EXPORT_HOME=tmp_path, EXPORT_KEEP_CANONICAL=False
    )
    with make_workshop(settings) as made:
        request = made.export({"tables": ["pets"], "format": "csv"})
        assert not [key for key in made.object_keys() if not key.startswith(f"{request.package_prefix}/")]
