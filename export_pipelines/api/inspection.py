"""Is an export still what it was, and what exactly is in it: validation on demand, and its metadata."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from export_pipelines.api.calls import Call, Calling, Work
from export_pipelines.api.jobs import visible
from export_pipelines.api.payloads import JOBS, JobEvent
from export_pipelines.api.problems import ANSWERS
from export_pipelines.core.access import Action
from export_pipelines.core.errors import Conflict, TooMany
from export_pipelines.core.naming import MANIFEST
from export_pipelines.core.rates import Rate
from export_pipelines.core.status import RequestStatus
from export_pipelines.formats.registry import find_format
from export_pipelines.packaging.sealing import Keys
from export_pipelines.pipeline.inspection import SAMPLE_BYTES, inspect_package, json_rows
from export_pipelines.pipeline.verify import Depth, Verification
from export_pipelines.stores.rate_limits import RateLimits, subject_of
from export_pipelines.stores.requests import ExportRequest
from export_pipelines.stores.signing_keys import SigningKeyStore

MAX_SAMPLE_ROWS = 100
VALIDATIONS = Rate(capacity=20, per_seconds=600)  # of a user
_RETRY_SECONDS = 5.0
_at_once = threading.BoundedSemaphore(2)  # of a process: each reads whole packages
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
    no_corruption: bool
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


class Metadata(BaseModel):
    job_id: str
    manifest_sha256: str | None
    encrypted: bool
    note: str | None = Field(description="Why there is less than usual.")
    tables: list[dict[str, Any]] = Field(
        alias="schema", serialization_alias="schema", description="Tables with columns, types, filters and key."
    )
    statistics: dict[str, Any] = Field(description="Rows, bytes, files; for each table what the database counted.")
    lineage: Lineage


@router.post("/{job_id}/validate", summary="Check it again", response_model=Validation)
def validate_job(call: Calling, job_id: UUID, wanted: ValidationWanted) -> Validation:
    """What is stored now is checked as `export-pipelines verify` does it; what is wrong is in `problems`."""
    with call.acting(Action.VALIDATE, str(job_id)) as work:
        export = _completed(work, job_id)
        _take_turn(call, work)
        trusted = {key.key_id: key for key in SigningKeyStore(work.control).published()}
        work.detail["validation_type"] = wanted.validation_type
    sealed = bool((export.config.get("encryption") or {}).get("method"))
    keys = Keys(password=wanted.password) if wanted.password or not sealed else None
    with _slot():
        found = inspect_package(
            export,
            call.services.store,
            find_format,
            trusted=trusted,
            depth=wanted.validation_type,
            sample_rows=wanted.sample_rows,
            keys=keys,
            scratch=call.services.settings.home.resolve() / "scratch",
        )
    return _told(found)


@router.get("/{job_id}/metadata", summary="Schema, statistics, lineage", response_model=Metadata)
def get_metadata(call: Calling, job_id: UUID) -> Metadata:
    """As its manifest tells; of an encrypted export what the service itself knows."""
    with call.acting(Action.READ, str(job_id)) as work:
        export = _completed(work, job_id)
        events = [JobEvent(**event) for event in work.requests.events(export.id)]
        files = work.deliveries.files_of(export.id)
    with call.services.store.reading(f"{export.package_prefix}/{MANIFEST}") as source:
        manifest = json.load(source)
    sealed = "sealed" in manifest
    origin = manifest.get("source", {})
    return Metadata(
        job_id=export.id,
        manifest_sha256=export.manifest_sha256,
        encrypted=sealed,
        note="Schema and figures are inside the encrypted archive." if sealed else None,
        schema=[_schema(table) for table in manifest.get("tables", [])],
        statistics={
            "rows": export.package_rows,
            "size_bytes": export.package_bytes,
            "files": len(files),
            "tables": {table["name"]: _figures(table) for table in manifest.get("tables", [])},
        },
        lineage=Lineage(
            source={name: origin[name] for name in origin if name != "converted_from"},
            isolation=manifest.get("isolation"),
            signature_key=(manifest.get("signature") or {}).get("key_id"),
            software=manifest.get("software", {}),
            converted_from=origin.get("converted_from"),
            attempts=export.attempt,
            run_ids=list(dict.fromkeys(event.run_id for event in events if event.run_id)),
            events=events,
        ),
    )


def _completed(work: Work, job_id: UUID) -> ExportRequest:
    export = visible(work, job_id)
    if export.status is not RequestStatus.COMPLETED:
        raise Conflict(f"is {export.status}; only a completed export has files", field="job_id")
    return export


def _take_turn(call: Call, work: Work) -> None:
    taken = RateLimits(work.control).take(subject_of(call.caller, "validations"), VALIDATIONS)
    if not taken.allowed:
        raise TooMany("too many validations", retry_after_seconds=taken.retry_after_seconds)


@contextmanager
def _slot() -> Iterator[None]:
    """A place among those that may read whole packages; the other routes keep the rest of the machine."""
    if not _at_once.acquire(blocking=False):
        raise TooMany("others are being validated", retry_after_seconds=_RETRY_SECONDS)
    try:
        yield
    finally:
        _at_once.release()


def _told(found: Verification) -> Validation:
    room = SAMPLE_BYTES // max(1, len(found.samples))
    return Validation(
        valid=found.valid and found.signature.trusted,
        checks=Checks(
            checksum_valid=found.bytes_match if found.opened else found.valid,
            schema_valid=found.schema_matches,
            row_count_match=found.rows_match,
            no_corruption=found.valid,
            signature_valid=found.signature.trusted,
        ),
        problems=found.problems,
        files=found.files,
        rows=found.rows if found.rows_match is not None else None,
        sample_data={table: json_rows(rows, room) for table, rows in found.samples.items()},
    )


def _schema(table: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in ("rows", "aggregates", "validation")}


def _figures(table: dict[str, Any]) -> dict[str, Any]:
    return {name: table[name] for name in ("rows", "aggregates", "validation") if name in table}
