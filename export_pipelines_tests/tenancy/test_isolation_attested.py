"""What a manifest says of isolation is true, and when isolation fails the canary stops the export."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.check import check
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Canary, Catalog
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.isolation import RowSecurityState
from export_pipelines.core.model import SharedSnapshot, TenantScope
from export_pipelines.core.status import RequestStatus
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline import assembly
from export_pipelines.pipeline.extract.stage import stage_tables
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.pipeline.verification.validate import validate_files
from export_pipelines.pipeline.write.convert import convert_tables
from export_pipelines.samples.loader import load_sample
from export_pipelines.settings import Settings
from export_pipelines.sources import relation
from export_pipelines.sources.postgres import PostgresSnapshot, PostgresSource
from export_pipelines_tests.tenancy.test_no_foreign_row_leaves import (
    CATALOG,
    OURS,
    open_all_policies,
    plan_for,
    services_on,
)
from export_pipelines_tests.workshop import TENANTS, ClinicSource, Workshop, login_url, make_workshop

CANARY = CATALOG.canary
assert CANARY is not None
UNGUARDED = "lab_results"  # no tenant column, whose guard would notice first
LEAK = "holds the canary's marker, so rows of another tenant are in it"


@pytest.fixture(scope="module")
def open_source(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> ClinicSource:
    """A database whose policies let everything through."""
    admin_url = database("leaking")
    load_sample(admin_url, "clinic", tenants=2, rows=1_000)
    with psycopg.connect(admin_url, autocommit=True) as connection:
        open_all_policies(connection)
    return ClinicSource(admin_url=admin_url, url=login_url(postgres, admin_url, CATALOG.reader_role))


class LeakySource(PostgresSource):
    """Forgets the tenant filter, as a careless change might; its session still is the tenant's."""

    @contextmanager
    def snapshot(self, scope: TenantScope, *, join: SharedSnapshot | None = None) -> Iterator[PostgresSnapshot]:
        with super().snapshot(scope, join=join) as snapshot, pytest.MonkeyPatch.context() as patch:
            patch.setattr(relation, "tenant_condition", lambda *_: sql.SQL("TRUE"))
            yield snapshot


def leaking(url: str, folder: Path, catalog: Catalog = CATALOG) -> ExportServices:
    services = services_on(url, folder, checked=False, catalog=catalog)
    source = LeakySource(url, catalog, check_tables=lambda *_: None, report=attest_session, compare=find_unknown)
    return services.having(source=source)


@pytest.mark.parametrize("compression", ["none", *CODECS])
@pytest.mark.parametrize("format_name", list(all_formats()))
def test_rows_that_leak_in_spite_of_everything_stop_at_the_canary(
    open_source: ClinicSource, tmp_path: Path, format_name: str, compression: str
) -> None:
    if compression != "none" and not all_formats()[format_name].compressible:
        pytest.skip("is compressed already")
    services = leaking(open_source.url, tmp_path)
    plan = replace(plan_for(format_name, [UNGUARDED]), compression=compression)
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    with pytest.raises(IntegrityViolation, match=LEAK):
        validate_files(plan, stage, files, services, Unwatched())


def test_without_the_canary_nothing_would_have_noticed(open_source: ClinicSource, tmp_path: Path) -> None:
    """The test above can fail: counts, totals and digests agree about the rows that leaked."""
    blind = CATALOG.model_copy(update={"canary": None})
    services = leaking(open_source.url, tmp_path, blind)
    plan = plan_for("csv", [UNGUARDED])
    stage = stage_tables(plan, services, Unwatched())
    files = convert_tables(plan, stage, services, Unwatched())
    [verdict] = validate_files(plan, stage, files, services, Unwatched())
    assert (verdict.valid, verdict.canary_seen) == (True, None)
    assert stage.isolation is not None
    assert stage.isolation.session.row_security == {UNGUARDED: RowSecurityState.ENFORCED}
    assert (stage.isolation.canary_rows, stage.isolation.marker_sha256) == (None, None)


def test_a_leak_ends_the_job_with_nothing_published(
    open_source: ClinicSource, control_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "require_sound", lambda *_: None)
    monkeypatch.setattr(assembly, "PostgresSource", LeakySource)
    settings = Settings(EXPORT_SOURCE_URL=open_source.url, EXPORT_CONTROL_URL=control_url, EXPORT_HOME=tmp_path)
    with make_workshop(settings) as workshop:
        request = workshop.export({"tables": [UNGUARDED], "format": "ndjson"})
        assert (request.status, request.error_type) == (RequestStatus.FAILED, "integrity_violation")
        assert LEAK in str(request.error_message)
        assert CANARY.marker not in str(request.error_message)
        assert [key for key in workshop.object_keys() if not key.startswith("stage/")] == []


def isolation_of(workshop: Workshop, config: dict[str, Any], tenant: str = OURS) -> dict[str, Any]:
    request = workshop.export(config, tenant)
    assert (request.status, request.error_message) == (RequestStatus.COMPLETED, None)
    text = (workshop.package(request) / "manifest.json").read_text()
    assert CANARY.marker not in text
    found: dict[str, Any] = json.loads(text)["isolation"]
    return found


def counted(url: str, statement: str, *values: object) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode(), values).fetchone()
    assert row is not None
    return int(row[0])


def test_the_manifest_says_who_read_and_what_kept_others_out(workshop: Workshop, clinic: ClinicSource) -> None:
    found = isolation_of(workshop, {"tables": ["pets", "invoice_items"], "format": "csv"})
    assert found["role"] == {"name": "export_reader", "superuser": False, "bypasses_rls": False, "inherits": True}
    assert found["canary_marker_sha256"] == hashlib.sha256(CANARY.marker.encode()).hexdigest()
    mine = {
        "pets": "SELECT count(*) FROM clinic.pets WHERE clinic_id = %s AND deleted_at IS NULL",
        "invoice_items": "SELECT count(*) FROM clinic.invoice_items i JOIN clinic.invoices o ON o.id = invoice_id "
        "WHERE clinic_id = %s",
    }
    for table in found["tables"]:
        rows = counted(clinic.admin_url, mine[table["name"]], OURS)
        planted = counted(clinic.admin_url, mine[table["name"]], CANARY.tenant)
        assert planted > 1
        assert table == {
            "name": table["name"],
            "row_security": "enforced",
            "rows_read": rows,
            "rows_by_policy": rows,
            "canary_rows": {"planted": planted, "seen": 0},
        }


@pytest.mark.parametrize(
    ("source", "planted"),
    [
        ({}, True),
        ({"filters": {"date_range": {"start": "2023-05-01", "end": "2023-06-01"}}}, 1),
        ({"filters": {"date_range": {"start": "2022-01-01", "end": "2023-01-01"}}}, 0),
        ({"fields": ["id", "born_on"]}, 0),
        ({"fields": ["id", "name"]}, True),
    ],
)
def test_planted_counts_what_this_very_export_would_have_shown(
    workshop: Workshop, source: dict[str, Any], planted: int
) -> None:
    found = isolation_of(workshop, {"data_sources": [{"type": "pets", **source}], "format": "csv"})
    [table] = found["tables"]
    count = table["canary_rows"]["planted"]
    assert count > 1 if planted is True else count == planted


def test_a_conversion_carries_on_what_its_export_attested(workshop: Workshop) -> None:
    config = {"tables": ["pets"], "format": "csv"}
    request = workshop.export(config, OURS)
    first = json.loads((workshop.package(request) / "manifest.json").read_text())["isolation"]
    assert isolation_of(workshop, {"convert": request.id, "format": "parquet"}) == first


def test_rows_kept_by_a_version_that_did_not_attest_say_nothing_about_isolation(workshop: Workshop) -> None:
    request = workshop.export({"tables": ["pets"], "format": "csv"}, OURS)
    record = workshop.objects / "canonical" / OURS / request.id / "stage.json"
    kept = json.loads(record.read_text())
    del kept["stage"]["isolation"]
    record.write_text(json.dumps(kept))
    converted = workshop.export({"convert": request.id, "format": "csv"}, OURS)
    assert (converted.status, converted.error_message) == (RequestStatus.COMPLETED, None)
    assert json.loads((workshop.package(converted) / "manifest.json").read_text())["isolation"] is None


def test_the_policies_digest_is_stable_and_changes_with_a_policy(workshop: Workshop, clinic: ClinicSource) -> None:
    config = {"tables": ["products"], "format": "csv"}
    before = isolation_of(workshop, config)["policies_sha256"]
    assert isolation_of(workshop, config, TENANTS[1])["policies_sha256"] == before
    assert isolation_of(workshop, {"tables": ["pets"], "format": "csv"})["policies_sha256"] != before
    change = "ALTER POLICY export_tenant_read ON clinic.products USING ({})"
    rule = "clinic_id = NULLIF(current_setting('export.tenant_id', true), '')::uuid"
    with psycopg.connect(clinic.admin_url, autocommit=True) as connection:
        try:
            connection.execute(change.format(f"{rule} AND sku <> ''").encode())
            assert isolation_of(workshop, config)["policies_sha256"] != before
        finally:
            connection.execute(change.format(rule).encode())
    assert isolation_of(workshop, config)["policies_sha256"] == before


def test_the_canary_is_no_tenant_to_list_and_none_to_export(workshop: Workshop) -> None:
    source = workshop.services.source
    assert source.tenants() == list(TENANTS)
    with pytest.raises(RequestRejected, match=r"^tenant_id: .* is the catalog's canary"):
        source.snapshot(TenantScope(tenant_id=CANARY.tenant)).__enter__()
    request = workshop.export({"tables": ["pets"], "format": "csv"}, CANARY.tenant)
    assert (request.status, request.error_type) == (RequestStatus.FAILED, "request_rejected")
    assert workshop.object_keys() == []


def test_another_spelling_of_its_id_in_the_catalog_does_not_set_the_canary_free(clinic: ClinicSource) -> None:
    spelled = Canary(tenant=CANARY.tenant.upper(), marker=CANARY.marker)
    catalog = CATALOG.model_copy(update={"canary": spelled})
    source = PostgresSource(
        clinic.url, catalog, check_tables=assembly.require_sound, report=attest_session, compare=find_unknown
    )
    assert source.tenants() == list(TENANTS)
    with pytest.raises(RequestRejected, match="is the catalog's canary"):
        source.snapshot(TenantScope(tenant_id=CANARY.tenant)).__enter__()
    with psycopg.connect(clinic.admin_url) as connection:
        [finding] = check(connection, catalog)
    assert (finding.level, finding.table) == ("warning", None)
    assert "is not among the tenants" in finding.message


def test_catalog_check_names_the_tables_that_have_no_canary_row(clinic: ClinicSource) -> None:
    with psycopg.connect(clinic.admin_url) as connection:
        assert check(connection, CATALOG) == []
        connection.execute("UPDATE clinic.payments SET reference = NULL WHERE currency = 'EUR' AND amount = 0")
        [finding] = check(connection, CATALOG)
        connection.rollback()
    assert (finding.level, finding.table) == ("warning", "payments")
    assert "has no canary row" in finding.message
