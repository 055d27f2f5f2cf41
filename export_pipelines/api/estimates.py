"""What an export would be, without making one; and the same figures for those that are made."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from export_pipelines.api.concurrency import ConcurrencyLimit
from export_pipelines.api.ordering import checked, look_up_retained_stage, retained_stages
from export_pipelines.api.payloads import LeftOut, SelectionOut, left_out_of, megabytes, selections_of
from export_pipelines.api.problems import ANSWERS
from export_pipelines.api.rate_limits import ESTIMATES, ORDERS, enforce_rate_limit, is_within_rate_limit
from export_pipelines.api.request_context import CurrentRequest, RequestContext, UnitOfWork, body_of
from export_pipelines.core.access import Action, require
from export_pipelines.core.catalog import Classification
from export_pipelines.core.configuration import ExportConfig
from export_pipelines.core.errors import RequestRejected, TooMany, Unavailable
from export_pipelines.core.estimating import Basis, Estimate, PastError
from export_pipelines.core.model import ExportPlan
from export_pipelines.core.packing import require_few_files
from export_pipelines.pipeline.lake.generations import at_point
from export_pipelines.pipeline.planning.estimate import (
    ExpectedRows,
    audited_rows,
    grounds_of,
    planned_rows,
    retained_rows,
    weigh,
)
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.rate_limits import subject_of

# Each takes a connection of the tenants' database.
ASKING = ConcurrencyLimit("estimates", at_once=4, waiting=4, per_subject=2, retry_seconds=2)
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
    recipients: list[str] = Field(description="Who would get mail.")
    basis: Basis = Field(description="The weakest of the tables'.")
    past_error: PastErrorOut | None = Field(description="None until an estimate could be compared with its export.")
    resolved: list[SelectionOut]
    left_out: LeftOut = Field(description="What the export would leave out.")


@router.post("/estimate", summary="Estimate an export", response_model=EstimateOut)
def estimate(
    context: CurrentRequest,
    response: Response,
    config: ExportConfig,  # noqa: ARG001 - checked by the framework and documented; kept as it came
    body: Annotated[bytes, Depends(body_of)],
) -> EstimateOut:
    """Takes what `POST /jobs` takes and refuses what it refuses."""
    require(context.caller, Action.ESTIMATE)
    plan, found, limits = expected(context, json.loads(body), limit=ESTIMATES)
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
        resolved=selections_of(plan),
        left_out=left_out_of(found.omissions),
    )


def _past(error: PastError | None) -> PastErrorOut | None:
    if error is None:
        return None
    rows, size, seconds = (round(part, 4) for part in (error.rows, error.size_bytes, error.seconds))
    return PastErrorOut(exports=error.exports, own=error.own, rows=rows, size=size, seconds=seconds)


def expected(
    context: RequestContext, raw: dict[str, Any], *, limit: str, saved: bool = False
) -> tuple[ExportPlan, Estimate, dict[str, str]]:
    """The plan, its estimate, and the fields that tell the limit. The source is asked when the transaction has ended:
    it may keep us waiting. Estimates count against their own limit; `TooMany` for an order that has no turn left,
    which is counted elsewhere.
    """
    rows: ExpectedRows | None = None
    if not saved:  # what is saved converts nothing
        _require_rate_limit(context, limit)
        look_up_retained_stage(context, raw)
    with context.services.pool.tenant_session(context.caller) as control:
        work = UnitOfWork.on(control, context.services)
        plan = checked(context, work, raw, saved=saved)
        grounds = grounds_of(plan, MeasureStore(control))
        if plan.converted_from:
            rows = retained_rows(retained_stages(context, work)(plan.converted_from))
        elif plan.export_type == "audit":
            rows = audited_rows(plan, control)
        limits = enforce_rate_limit(context, work, ESTIMATES) if limit == ESTIMATES else {}
    if plan.point_in_time is not None:  # a look at the object store; without its snapshots there is nothing to export
        at_point(plan, plan.point_in_time, context.services.catalog, context.services.store)
    if rows is None:
        rows = _planned(context, plan)
    found = weigh(plan, context.services.catalog, grounds, rows)
    if limit == ORDERS and found.files is not None:  # an estimate is there to tell how many they are
        require_few_files(plan.split, found.files, about="about ")
    return plan, found, limits


def _require_rate_limit(context: RequestContext, limit: str) -> None:
    """Before anything is asked that costs more; nothing is counted yet."""
    with context.services.pool.tenant_session(context.caller) as control:
        work = UnitOfWork.on(control, context.services)
        if is_within_rate_limit(context, work, limit):
            return
        if limit == ESTIMATES:
            enforce_rate_limit(context, work, limit)
    raise TooMany("no estimate for an order beyond the limit", retry_after_seconds=1)


def foresee(
    context: RequestContext, action: Action, raw: dict[str, Any], *, saved: bool = False
) -> Estimate | RequestRejected | None:
    """The estimate of an order, or why it will be refused, to be said where that is written down.

    None where the source is not told to this process or does not answer, or where a limit stops it: an order does not
    have to wait for it. What is ``saved`` counts as an estimate, an order does not.
    """
    try:
        require(context.caller, action)
        return expected(context, raw, limit=ESTIMATES if saved else ORDERS, saved=saved)[1]
    except (TooMany, Unavailable):
        return None
    except RequestRejected as refusal:
        return refusal


def _planned(context: RequestContext, plan: ExportPlan) -> ExpectedRows:
    if context.services.source is None:
        raise Unavailable("estimates need EXPORT_SOURCE_URL where the API runs")
    with ASKING.held(subject_of(context.caller, ESTIMATES)):
        return planned_rows(plan, context.services.source)
