"""What an export would be, without making one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, Field

from export_pipelines.api.orders import estimated, planned_order
from export_pipelines.api.payloads import LeftOut, Resolved, left_out_of, megabytes, resolved_of
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.rate_limits import ESTIMATES, require_within_rate_limit
from export_pipelines.api.request_context import CurrentRequest
from export_pipelines.core.access import Action, require
from export_pipelines.core.catalog import Classification
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.estimating import Basis, PastError

router = APIRouter(prefix="/api/v1/exports", tags=["exports"], responses=ANSWERS)


class TableOut(BaseModel):
    table: str
    rows: int
    size_mb: float
    seconds: float
    basis: Basis = Field(description="What size and seconds rest on: past exports of the table, of others, or nothing.")
    past_exports: int = Field(description="Of this table in this form, which they rest on.")
    corrected: bool = Field(description="Whether rows are the planner's, corrected by what past exports had.")
    analysed: bool = Field(description="Whether the source has statistics of the table; without, rows are a default.")


class PastErrorOut(BaseModel):
    """The median relative error of past estimates: 0.1 is ten percent off."""

    exports: int
    own: bool = Field(description="Of this tenant in this format; else of many tenants, or of this one in any format.")
    rows: float
    size: float
    seconds: float


class EstimateOut(BaseModel):
    """Nothing was made for it, and no row read; rows left out were counted where that is cheap."""

    estimated_rows: int
    estimated_size_mb: float = Field(description="Of the whole package.")
    estimated_time_seconds: float = Field(description="Of the run, without waiting for one.")
    estimated_files: int | None = Field(
        description="Data files, before they are put into an archive. null: cannot be told before the rows are read."
    )
    tables: list[TableOut]
    classes: dict[Classification, int] = Field(description="How many of the chosen columns are of each class.")
    recipients: list[str] = Field(description="Who would be told, and where files would be put.")
    basis: Basis = Field(description="The weakest of the tables'.")
    past_error: PastErrorOut | None = Field(description="None until an estimate could be compared with its export.")
    resolved: Resolved
    left_out: LeftOut = Field(description="What the export would leave out.")


@router.post("/estimate", summary="Estimate an export", response_model=EstimateOut)
def estimate(
    context: CurrentRequest,
    response: Response,
    configuration: Annotated[Configuration, Body()],
) -> EstimateOut:
    """Takes what `POST /jobs` takes and refuses what it refuses."""
    require(context.caller, Action.ESTIMATE)
    with context.transaction() as work:
        require_within_rate_limit(context, work, ESTIMATES)
    planned = planned_order(context, configuration)
    [found], limits = estimated(context, [planned], counted=True)
    response.headers.update(limits)
    return EstimateOut(
        estimated_rows=found.rows,
        estimated_size_mb=megabytes(found.size_bytes),
        estimated_time_seconds=round(found.seconds, 3),
        estimated_files=found.files,
        tables=[
            TableOut(
                table=table.table,
                rows=table.rows,
                size_mb=megabytes(table.size_bytes),
                seconds=round(table.seconds, 3),
                basis=table.basis,
                past_exports=table.past_exports,
                corrected=table.corrected,
                analysed=table.analysed,
            )
            for table in found.tables
        ],
        classes={Classification(name): count for name, count in found.classes.items()},
        recipients=list(found.recipients),
        basis=found.basis,
        past_error=_past(found.past_error),
        resolved=resolved_of(planned.plan, context.services.catalog.timezone),
        left_out=left_out_of(found.omissions),
    )


def _past(error: PastError | None) -> PastErrorOut | None:
    if error is None:
        return None
    rows, size, seconds = (round(part, 4) for part in (error.rows, error.size_bytes, error.seconds))
    return PastErrorOut(exports=error.exports, own=error.own, rows=rows, size=size, seconds=seconds)
