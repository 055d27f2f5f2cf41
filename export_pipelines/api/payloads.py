"""What the API says about an export."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from export_pipelines.api.paths import JOBS
from export_pipelines.core.destinations import DeliveryKind, Receipt
from export_pipelines.core.measures import Aggregation
from export_pipelines.core.model import ExportPlan
from export_pipelines.core.omissions import Omissions, OmittedTable, TableOmissions
from export_pipelines.core.status import DeliveryStatus, RequestStatus
from export_pipelines.core.windows import window_in_words
from export_pipelines.packaging.omissions import summary
from export_pipelines.pipeline.progress import STEP_ENDS
from export_pipelines.stores.requests import ExportRequest

_MB = 1_000_000


def megabytes(size_bytes: int) -> float:
    return round(size_bytes / _MB, 6)


class Progress(BaseModel):
    percentage: float = Field(ge=0, le=100)
    rows_processed: int
    total_rows: int | None = Field(description="An estimate while `total_rows_estimated`, which may turn out too low.")
    total_rows_estimated: bool = Field(description="That `total_rows` may still change: not all rows were read yet.")
    note: str | None = Field(description="Why `total_rows` is not what it was before.")
    current_table: str | None
    files_created: int


class FileOut(BaseModel):
    index: int = Field(description="Goes into `/download/{index}`.")
    filename: str = Field(description="Path inside the package.")
    media_type: str
    size_mb: float = Field(description="1 MB is 1,000,000 bytes.")
    size_bytes: int
    rows: int
    checksum: str = Field(description="SHA-256 of the stored bytes, hex.")
    download_url: str


class DeliveryOut(BaseModel):
    kind: DeliveryKind = Field(description="A package, or a notice that the export failed.")
    method: str
    recipient: str
    status: DeliveryStatus
    attempts: int
    error: str | None
    receipt: Receipt | None = Field(description="What the destination said when it had happened.")
    delivered_at: dt.datetime | None


class ErrorOut(BaseModel):
    type: str = Field(description="What to do: request_rejected, unavailable, integrity_violation, cancelled, …")
    message: str


class JobStatus(BaseModel):
    """How far an export is, and what came of it."""

    job_id: str
    status: RequestStatus
    progress: Progress
    created_at: dt.datetime
    started_at: dt.datetime | None
    completed_at: dt.datetime | None
    expires_at: dt.datetime | None
    files: list[FileOut]
    deliveries: list[DeliveryOut]
    error: ErrorOut | None


class JobSummary(BaseModel):
    """A line of the history."""

    job_id: str
    name: str
    status: RequestStatus
    percentage: float
    format: str
    tables: list[str] = Field(description="As they were named.")
    modules: list[str]
    requested_by: str | None
    rows: int | None
    size_mb: float | None
    created_at: dt.datetime
    completed_at: dt.datetime | None
    expires_at: dt.datetime | None
    tracking_url: str


class JobEvent(BaseModel):
    at: dt.datetime
    old_status: RequestStatus | None
    new_status: RequestStatus
    attempt: int
    run_id: str | None
    detail: str | None


class Job(JobStatus):
    """All of an export."""

    name: str
    description: str = Field(description="What it is for, as whoever asked for it says.")
    config: dict[str, Any] = Field(description="As it was asked for; passwords are never kept.")
    requested_by: str | None
    schedule_id: str | None = Field(description="Whose export it is.")
    scheduled_for: dt.datetime | None = Field(description="The fire; None when nobody scheduled it, or it was run now.")
    attempt: int
    max_attempts: int
    cancel_requested: bool
    rows: int | None
    size_mb: float | None
    manifest_sha256: str | None
    estimated_rows: int | None
    estimated_size_mb: float | None
    estimated_time_seconds: float | None
    tracking_url: str
    events: list[JobEvent]
    left_out: LeftOut | None = Field(description="What it leaves out, as its manifest states it.")
    left_out_note: str | None = Field(description="Why `left_out` is None.")


class LeftOut(BaseModel):
    """What of the source is not in an export, and why."""

    tables: tuple[TableOmissions, ...] = Field(description="Those that are exported, in their order.")
    other_tables: tuple[OmittedTable, ...] = Field(description="Those that are not.")
    compared_with_database: bool = Field(
        description="Whether the database was searched for tables and columns that the catalog lacks."
    )
    summary: list[str] = Field(description="The same in sentences, as they are in the package's README.md.")


class SelectionOut(BaseModel):
    """What a part of the configuration came to mean."""

    table: str
    columns: list[str]
    start: dt.datetime | None
    end: dt.datetime | None = Field(description="Not included.")
    period: str | None = Field(description="`start` and `end` in words; null: not limited to a date range.")
    include_deleted: bool
    filters: dict[str, list[str | None]] = Field(description="Column → the values its rows have; null is NULL.")
    aggregation: Aggregation | None


class Resolved(BaseModel):
    """What a configuration came to mean."""

    tables: list[SelectionOut]
    whole_tables: list[str] = Field(description="Tables with all of their rows although a date range was asked for.")
    tables_left_out: list[str] = Field(description="Tables asked for and left out, since they have no time column.")
    period: str | None = Field(
        description="The date range in words, with how to include the day of its end; null: none, or several."
    )


class JobCreated(BaseModel):
    job_id: str
    name: str = Field(description="As given, or what kind of export it is; also in file names.")
    status: RequestStatus
    estimated_rows: int | None
    estimated_size_mb: float | None
    estimated_time_seconds: float | None
    tracking_url: str
    resolved: Resolved
    left_out: LeftOut | None = Field(
        description="What it will leave out, as estimated; None where the source was not asked."
    )


class JobPage(BaseModel):
    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="Goes into `cursor` for the next page; also in the Link field.")


def status_of(
    request: ExportRequest, files: Sequence[Mapping[str, Any]], deliveries: Sequence[Mapping[str, Any]], base: str
) -> dict[str, Any]:
    """Fields of `JobStatus`; files only while there are any."""
    present = files if request.status is RequestStatus.COMPLETED else ()
    return {
        "job_id": request.id,
        "status": request.status,
        "progress": Progress(
            percentage=request.percentage,
            rows_processed=request.rows_processed,
            total_rows=request.total_rows,
            total_rows_estimated=total_is_estimated(request),
            note=note_on_total(request),
            current_table=request.current_table,
            files_created=request.files_created,
        ),
        "created_at": request.created_at,
        "started_at": request.started_at,
        "completed_at": request.completed_at,
        "expires_at": request.expires_at,
        "files": [file_out(file, request.id, base) for file in present],
        "deliveries": [DeliveryOut(**{**row, "error": row["error_message"]}) for row in deliveries],
        "error": _error(request),
    }


def total_is_estimated(request: ExportRequest) -> bool:
    """Whether rows are still to be read, and so to be counted."""
    if request.status is RequestStatus.COMPLETED:
        return False
    return request.percentage < STEP_ENDS["stage"]


def note_on_total(request: ExportRequest) -> str | None:
    """A total that grows, or that turned out another, is never without a word."""
    expected, total = request.estimated_rows, request.total_rows
    if expected is None or total is None or total == expected:
        return None
    if not total_is_estimated(request):
        return f"{expected:,} rows were estimated."
    if total > expected:
        return f"There are more rows than the {expected:,} that were estimated; total_rows grows until all are read."
    return f"{expected:,} rows were estimated at first."


def left_out_of(omissions: Omissions) -> LeftOut:
    return LeftOut(
        tables=omissions.tables,
        other_tables=omissions.other_tables,
        compared_with_database=omissions.compared_with_database,
        summary=list(summary(omissions)),
    )


def details_of(
    request: ExportRequest,
    events: Sequence[Mapping[str, Any]],
    base: str,
    *,
    stated: Omissions | str,
) -> dict[str, Any]:
    """Fields of `Job` beyond its status; ``stated`` is what its manifest leaves out, or why nobody can tell."""
    return {
        "name": str(request.config.get("name") or ""),
        "description": description_of(request),
        "config": request.config,
        "requested_by": request.requested_by,
        "schedule_id": request.schedule_id,
        "scheduled_for": request.scheduled_for,
        "attempt": request.attempt,
        "max_attempts": request.max_attempts,
        "cancel_requested": request.cancel_requested,
        "rows": request.package_rows,
        "size_mb": _optional_megabytes(request.package_bytes),
        "manifest_sha256": request.manifest_sha256,
        "estimated_rows": request.estimated_rows,
        "estimated_size_mb": _optional_megabytes(request.estimated_bytes),
        "estimated_time_seconds": request.estimated_seconds,
        "tracking_url": tracking_url(request.id, base),
        "events": [JobEvent(**event) for event in events],
        "left_out": left_out_of(stated) if isinstance(stated, Omissions) else None,
        "left_out_note": stated if isinstance(stated, str) else None,
    }


def description_of(request: ExportRequest) -> str:
    """A row inserted by SQL may hold anything."""
    return str(request.config.get("description") or "")


def summary_of(request: ExportRequest, base: str) -> JobSummary:
    return JobSummary(
        job_id=request.id,
        name=str(request.config.get("name") or ""),
        status=request.status,
        percentage=request.percentage,
        format=str(request.config["format"]),
        tables=tables_of(request.config),
        modules=_names(request.config.get("modules")),
        requested_by=request.requested_by,
        rows=request.package_rows,
        size_mb=_optional_megabytes(request.package_bytes),
        created_at=request.created_at,
        completed_at=request.completed_at,
        expires_at=request.expires_at,
        tracking_url=tracking_url(request.id, base),
    )


def created_of(
    request: ExportRequest, plan: ExportPlan, base: str, expected: Omissions | None = None, *, timezone: str
) -> JobCreated:
    """``timezone`` is the catalog's, whose days a date range is told in."""
    return JobCreated(
        job_id=request.id,
        name=plan.name,
        status=request.status,
        estimated_rows=request.estimated_rows,
        estimated_size_mb=_optional_megabytes(request.estimated_bytes),
        estimated_time_seconds=request.estimated_seconds,
        tracking_url=tracking_url(request.id, base),
        resolved=resolved_of(plan, timezone),
        left_out=left_out_of(expected) if expected else None,
    )


def resolved_of(plan: ExportPlan, timezone: str) -> Resolved:
    tables = _selections(plan, timezone)
    periods = {table.period for table in tables if table.period}
    return Resolved(
        tables=tables,
        whole_tables=list(plan.whole_tables),
        tables_left_out=list(plan.left_out),
        period=periods.pop() if len(periods) == 1 else None,
    )


def _selections(plan: ExportPlan, timezone: str) -> list[SelectionOut]:
    return [
        SelectionOut(
            table=selection.table,
            columns=list(selection.columns),
            start=selection.window.start_at if selection.window else None,
            end=selection.window.end_at if selection.window else None,
            period=window_in_words(selection.window, timezone) if selection.window else None,
            include_deleted=selection.include_deleted,
            filters={condition.column: condition.wanted for condition in selection.conditions},
            aggregation=selection.aggregation,
        )
        for selection in plan.selections
    ]


def file_out(file: Mapping[str, Any], request_id: str, base: str) -> FileOut:
    return FileOut(
        index=file["position"],
        filename=file["path"],
        media_type=file["media_type"],
        size_mb=megabytes(file["size_bytes"]),
        size_bytes=file["size_bytes"],
        rows=file["rows"],
        checksum=file["sha256"],
        download_url=f"{tracking_url(request_id, base)}/download/{file['position']}",
    )


def tracking_url(request_id: str, base: str) -> str:
    return f"{base}{JOBS}/{request_id}"


def tables_of(config: Mapping[str, Any]) -> list[str]:
    """Names of the tables asked for; a row inserted by SQL may hold anything."""
    named = config.get("tables") or [
        source.get("type") for source in config.get("data_sources") or () if isinstance(source, dict)
    ]
    return _names(named)


def _names(given: object) -> list[str]:
    return [str(name) for name in given] if isinstance(given, list) else []


def _optional_megabytes(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else megabytes(size_bytes)


def _error(request: ExportRequest) -> ErrorOut | None:
    if request.error_message is None:
        return None
    return ErrorOut(type=request.error_type or "internal", message=request.error_message)
