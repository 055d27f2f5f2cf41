"""Is an export still what it was, and what exactly is in it: validation on demand, and its metadata."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.concurrency import ConcurrencyLimit
from export_pipelines.api.paths import JOBS
from export_pipelines.api.payloads import JobEvent, LeftOut, description_of, left_out_of
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.rate_limits import count_against
from export_pipelines.api.request_context import CurrentRequest
from export_pipelines.api.visibility import completed
from export_pipelines.core.access import Action
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.rates import Rate
from export_pipelines.core.types import Kind, plain_number
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.archive_encryption import Keys
from export_pipelines.packaging.omissions import omissions_in
from export_pipelines.pipeline.verification.findings import Check, Depth, Verification
from export_pipelines.pipeline.verification.published import inspect_package, published_manifest
from export_pipelines.stores.rate_limits import subject_of
from export_pipelines.stores.requests import ExportRequest
from export_pipelines.stores.signing_keys import SigningKeyStore

MAX_SAMPLE_ROWS = 100
VALIDATIONS = Rate(capacity=20, per_seconds=600)  # of a user
# Each reads whole packages; the other routes keep the rest of the machine.
VALIDATING = ConcurrencyLimit("validations", at_once=2, waiting=0, per_subject=1, retry_seconds=5)
router = APIRouter(prefix=JOBS, tags=["validation"], responses=ANSWERS)


class ValidationWanted(BaseModel):
    """How closely to look."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    validation_type: Depth = Field(
        default=Depth.CHECKSUM,
        description="checksum: every byte; schema: also that every file can be read and has the columns it should; "
        "full: every row is read again and compared with the database's counts and totals.",
    )
    sample_rows: int = Field(default=0, ge=0, le=MAX_SAMPLE_ROWS, description="First rows of each table to show.")
    password: SecretStr | None = Field(
        default=None, description="Of an encrypted export; without it only what lies outside is checked."
    )


class Checks(BaseModel):
    """None: not looked at."""

    checksum_valid: bool | None
    schema_valid: bool | None
    row_count_match: bool | None
    omissions_stated: bool | None = Field(
        description="That the manifest states what was left out, and agrees with itself on it."
    )
    no_corruption: bool = Field(description="No problem of any kind, values that do not add up included.")
    signature_valid: bool = Field(description="By a key of this service that is not revoked.")


class Validation(BaseModel):
    valid: bool
    checks: Checks
    problems: list[str]
    files: int
    rows: int | None = Field(description="Read again; None where none were.")
    sample_data: dict[str, list[dict[str, Any]]] = Field(description="What JSON cannot hold exactly is text.")


class Lineage(BaseModel):
    source: dict[str, Any] = Field(description="Catalog, snapshot, role.")
    isolation: dict[str, Any] | None
    signature_key: str | None
    software: dict[str, str]
    converted_from: str | None
    attempts: int
    run_ids: list[str]
    events: list[JobEvent]


class DateRange(BaseModel):
    start: dt.datetime | None = Field(description="None: from the beginning.")
    end: dt.datetime | None = Field(description="Not included; None: to the time of the snapshot.")


class Metadata(BaseModel):
    job_id: str
    manifest_sha256: str | None
    encrypted: bool
    note: str | None = Field(description="Why there is less than usual.")
    name: str
    description: str = Field(description="What it is for, as whoever asked for it says.")
    date_range: DateRange | None = Field(description="From the first to the last range of its tables; None: all times.")
    tables: list[dict[str, Any]] = Field(
        alias="schema", serialization_alias="schema", description="Tables with columns, types, filters and key."
    )
    left_out: LeftOut | None = Field(description="What of the source is not in it, and why.")
    statistics: dict[str, Any] = Field(
        description="Rows, bytes, files; for each table what the database counted, and of each column how many values "
        "it has, with their total or bounds."
    )
    lineage: Lineage


@router.post("/{job_id}/validate", summary="Verify an export", response_model=Validation)
def validate_job(context: CurrentRequest, response: Response, job_id: UUID, wanted: ValidationWanted) -> Validation:
    """What is stored now is checked as `export-pipelines verify` does it; what is wrong is in `problems`."""
    with ExitStack() as held:
        with context.unit_of_work(Action.VALIDATE, str(job_id)) as work:
            export = completed(work, job_id)
            keys = _keys_for(export, wanted.password)
            # Before it counts: who finds no place has had nothing.
            held.enter_context(VALIDATING.held(subject_of(context.caller, "validations")))
            response.headers.update(count_against(context, work, "validations", VALIDATIONS))
            trusted = {key.key_id: key for key in SigningKeyStore(work.control).published()}
            work.detail["validation_type"] = wanted.validation_type
        found = inspect_package(
            export,
            context.services.store,
            find_format,
            trusted=trusted,
            depth=wanted.validation_type,
            sample_rows=wanted.sample_rows,
            keys=keys,
            scratch=context.services.settings.home.resolve() / "scratch",
        )
    return _payload(found)


@router.get("/{job_id}/metadata", summary="Get metadata", response_model=Metadata)
def get_metadata(context: CurrentRequest, job_id: UUID) -> Metadata:
    """As its manifest tells; of an encrypted or damaged export what the service itself knows."""
    with context.unit_of_work(Action.READ, str(job_id)) as work:
        export = completed(work, job_id)
        events = [JobEvent(**event) for event in work.requests.events(export.id)]
        files = work.deliveries.files_of(export.id)
    manifest, note = _manifest(export, context.services.store)
    return Metadata(
        job_id=export.id,
        manifest_sha256=export.manifest_sha256,
        encrypted=bool(_encryption(export)),
        note=note,
        name=str(export.config.get("name") or ""),
        description=description_of(export),
        date_range=_date_range(manifest.get("tables", [])),
        schema=[_schema(table) for table in manifest.get("tables", [])],
        left_out=_left_out(manifest),
        statistics={
            "rows": export.package_rows,
            "size_bytes": export.package_bytes,
            "files": len(files),
            "tables": {table["name"]: _figures(table) for table in manifest.get("tables", [])},
        },
        lineage=_lineage(export, manifest, events),
    )


def _manifest(export: ExportRequest, store: ObjectStore) -> tuple[dict[str, Any], str | None]:
    """The manifest, empty where there is none to be believed; and why it says less than usual."""
    try:
        manifest = published_manifest(export, store)
    except IntegrityViolation as error:
        return {}, f"{error}; this is what the service itself knows."
    return manifest, "Schema and figures are inside the encrypted archive." if "sealed" in manifest else None


def _left_out(manifest: dict[str, Any]) -> LeftOut | None:
    stated = omissions_in(manifest)
    return left_out_of(stated) if stated else None


def _lineage(export: ExportRequest, manifest: dict[str, Any], events: list[JobEvent]) -> Lineage:
    origin = manifest.get("source", {})
    return Lineage(
        source={name: origin[name] for name in origin if name != "converted_from"},
        isolation=manifest.get("isolation"),
        signature_key=(manifest.get("signature") or {}).get("key_id"),
        software=manifest.get("software", {}),
        converted_from=export.config.get("convert"),
        attempts=export.attempt,
        run_ids=list(dict.fromkeys(event.run_id for event in events if event.run_id)),
        events=events,
    )


def _encryption(export: ExportRequest) -> dict[str, Any]:
    """How it is encrypted; empty where it is not."""
    encryption: dict[str, Any] = export.config.get("encryption") or {}
    return encryption if encryption.get("method") else {}


def _keys_for(export: ExportRequest, password: SecretStr | None) -> Keys | None:
    """What opens the export; None to look at it from outside."""
    encryption = _encryption(export)
    if password is not None and encryption.get("recipients"):
        raise RequestRejected(
            "does not open this export, which is encrypted for recipients; leave it out to check from outside",
            field="password",
        )
    return Keys(password=password) if password is not None or not encryption else None


def _payload(found: Verification) -> Validation:
    return Validation(
        valid=found.valid and found.signature.trusted,
        checks=Checks(
            checksum_valid=found.checks.get(Check.BYTES),
            schema_valid=found.checks.get(Check.SCHEMA),
            row_count_match=found.checks.get(Check.ROWS),
            omissions_stated=found.checks.get(Check.OMISSIONS),
            no_corruption=found.valid,
            signature_valid=found.signature.trusted,
        ),
        problems=found.problems,
        files=found.files,
        rows=found.rows if Check.ROWS in found.checks else None,
        sample_data=found.samples,
    )


def _schema(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in ("rows", "aggregates", "validation")}


def _figures(table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: table[name] for name in ("rows", "aggregates", "validation") if name in table}
    keys = table.get("primary_key", [])
    columns = {
        column["name"]: _column(column, table["rows"], table["aggregates"][column["name"]], keys)
        for column in table["columns"]
    }
    return {**found, "columns": columns}


def _column(column: dict[str, Any], rows: int, figures: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """For people: what the database's figures of a column mean. Sums of keys, and octets of texts, mean nothing."""
    stated: dict[str, Any] = {"values": figures["non_null"], "empty": rows - figures["non_null"]}
    kind, total = Kind(column["kind"]), figures.get("total")
    if kind is Kind.BOOLEAN:
        stated["true"] = int(total or 0)
    elif kind in (Kind.INTEGER, Kind.DECIMAL) and total is not None and column["name"] not in keys:
        stated["total"] = plain_number(total)
    elif kind is Kind.FLOAT:
        stated |= {bound: figures[bound] for bound in ("low", "high") if bound in figures}
    return stated


def _date_range(tables: Sequence[dict[str, Any]]) -> DateRange | None:
    """Of the tables that were cut by time; an end that one of them lacks is none."""
    cut = [table["filters"] for table in tables if table["filters"].get("start") or table["filters"].get("end")]
    if not cut:
        return None
    starts, ends = ([filters[name] for filters in cut] for name in ("start", "end"))
    return DateRange(
        start=None if None in starts else min(map(dt.datetime.fromisoformat, starts)),
        end=None if None in ends else max(map(dt.datetime.fromisoformat, ends)),
    )
