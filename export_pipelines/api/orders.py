"""The way of an order through the API, whichever route it comes by.

What costs is asked last: first the role, then whether the call was answered already, then the limit on its user, all of
them before the tenant's database. The answer, what was inserted and the line in the audit log are one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import BackgroundTasks, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from export_pipelines.api.concurrency import ConcurrencyLimit
from export_pipelines.api.idempotency import Answer, once, replayed
from export_pipelines.api.payloads import created_of
from export_pipelines.api.rate_limits import ESTIMATES, ORDERS, enforce_rate_limit, require_within_rate_limit
from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.access import Action
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.errors import RequestRejected, TooMany, Unavailable
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import ExportPlan
from export_pipelines.core.packing import require_few_files
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.planning.estimate import ExpectedRows, grounds_of, planned_rows, weigh
from export_pipelines.pipeline.planning.orders import (
    EstimatedOrder,
    Order,
    PlannedOrder,
    find_retained,
    insert_order,
    plan_order,
    require_partitions,
)
from export_pipelines.stores.export_statistics import MeasureStore
from export_pipelines.stores.passwords import is_sealed
from export_pipelines.stores.rate_limits import subject_of
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines.stores.tenant_session import TenantSession

RETRY_AFTER_SECONDS = 2  # a client that asks this often sees a small export end
# Each takes a connection of the tenants' database.
ESTIMATING = ConcurrencyLimit("estimates", at_once=4, waiting=4, per_subject=2, retry_seconds=2)
_PASSWORD = "encryption.password"  # noqa: S105 - a field's name

Insert = Callable[[UnitOfWork, Sequence[EstimatedOrder]], tuple[Sequence[ExportRequest], Answer]]


def place_order(
    context: RequestContext,
    action: Action,
    configuration: Configuration | Mapping[str, Any],
    background: BackgroundTasks,
    key: str | None,
    *,
    also: Callable[[UnitOfWork], None] = lambda _work: None,
) -> Response:
    """A new export, counted against its user's limit; ``also`` is done with it, in its transaction."""

    def insert(work: UnitOfWork, orders: Sequence[EstimatedOrder]) -> tuple[Sequence[ExportRequest], Answer]:
        [order] = orders
        request = insert_estimated(work, order)
        work.target = request.id
        work.detail["format"] = order.planned.plan.format
        also(work)
        created = created_of(
            request,
            order.planned.plan,
            context.services.base_url,
            order.estimate.omissions if order.estimate else None,
            timezone=context.services.catalog.timezone,
        )
        return [request], accepted(created, created.tracking_url)

    return place_orders(context, action, [configuration], background, key, insert)


def place_orders(
    context: RequestContext,
    action: Action,
    configurations: Sequence[Configuration | Mapping[str, Any]],
    background: BackgroundTasks,
    key: str | None,
    insert: Insert,
) -> Response:
    """New exports that count once against their user's limit. A mapping is one that the service put together itself."""
    made: list[ExportRequest] = []
    limits: dict[str, str] = {}
    with context.attempting(action):
        with context.transaction() as work:
            answered = replayed(context, work, action, key)
            if answered is not None:
                return answered
            require_within_rate_limit(context, work, ORDERS)
        planned = [planned_order(context, configuration) for configuration in configurations]
        estimates = estimated_if_possible(context, planned)
        orders = [
            EstimatedOrder(planned=order, estimate=found) for order, found in zip(planned, estimates, strict=True)
        ]
        for order in orders:
            if order.estimate is not None and order.estimate.files is not None:
                require_few_files(order.planned.plan.split, order.estimate.files, about="about ")
        with context.transaction() as work:

            def write() -> Answer:
                limits.update(enforce_rate_limit(context, work, ORDERS))
                requests, answer = insert(work, orders)
                made.extend(requests)
                return answer

            response = once(context, work, key, write)
            context.note(work, action)
    response.headers.update(limits)
    return launched(context, made, response, background)


def order_of(context: RequestContext, configuration: Configuration | Mapping[str, Any]) -> Order:
    """What the caller orders."""
    if not isinstance(configuration, Configuration):
        configuration = Configuration.of(configuration)
    return Order(
        configuration=configuration, scope=context.scope, role=context.caller.role, requested_by=context.caller.name
    )


def planned_order(
    context: RequestContext, configuration: Configuration | Mapping[str, Any], *, stored: bool = False
) -> PlannedOrder:
    """To be called outside of transactions: for a conversion it asks the object store.

    A ``stored`` configuration has a mark in place of its password, which nobody else may give.
    """
    order = order_of(context, configuration)
    if is_sealed(order.configuration.written) and not stored:
        raise RequestRejected("is what the service keeps in its place; give the password itself", field=_PASSWORD)
    requests = RequestStore(TenantSession(context.services.pool, context.caller))
    retained = find_retained(order, context.services.catalog, requests, context.services.store)
    here = open_destinations(context.services.settings)
    keep = context.services.settings.keep
    return plan_order(order, context.services.catalog, retained=retained, destinations=here, longest_keep=keep)


def estimated(
    context: RequestContext, planned: Sequence[PlannedOrder], *, counted: bool
) -> tuple[list[Estimate], dict[str, str]]:
    """Estimates of orders for the same rows, and the fields that tell the limit on estimates where it is ``counted``.

    The source is asked once, and when the transaction has ended: it may keep us waiting. `Unavailable` where it does
    not answer or this process is not told where it is, `TooMany` where too many ask it.
    """
    with context.transaction() as work:
        measures = MeasureStore(work.control)
        grounds = [grounds_of(order.plan, measures, order.retained) for order in planned]
        limits = enforce_rate_limit(context, work, ESTIMATES) if counted else {}
    first = planned[0]
    require_partitions(first, context.services.catalog, context.services.store)
    rows = grounds[0].rows or _rows_in_source(context, first.plan)
    estimates = [
        weigh(order.plan, context.services.catalog, known, rows) for order, known in zip(planned, grounds, strict=True)
    ]
    return estimates, limits


def estimated_if_possible(
    context: RequestContext, planned: Sequence[PlannedOrder], *, counted: bool = False
) -> Sequence[Estimate | None]:
    """None where nobody can tell now, or a limit stops it: an order does not have to wait for its estimate."""
    try:
        return estimated(context, planned, counted=counted)[0]
    except (TooMany, Unavailable):
        return [None] * len(planned)


def _rows_in_source(context: RequestContext, plan: ExportPlan) -> ExpectedRows:
    if context.services.source is None:
        raise Unavailable("estimates need EXPORT_SOURCE_URL where the API runs")
    with ESTIMATING.held(subject_of(context.caller, ESTIMATES)):
        return planned_rows(plan, context.services.source)


def insert_estimated(work: UnitOfWork, order: EstimatedOrder, *, batch_id: str | None = None) -> ExportRequest:
    """The new request, whose run the API asks for; the sensor leaves it alone for a while."""
    request = insert_order(order, work.requests, batch_id=batch_id)
    work.requests.asked([request])
    return request


def accepted(created: BaseModel, tracking_url: str) -> Answer:
    """The answer to an order, with where to look how far it is."""
    headers = {"Location": tracking_url, "Retry-After": str(RETRY_AFTER_SECONDS)}
    return Answer(status=HTTPStatus.ACCEPTED, body=created, headers=headers)


def launched(
    context: RequestContext, requests: Sequence[ExportRequest], response: JSONResponse, background: BackgroundTasks
) -> JSONResponse:
    """Once the answer is out, ask for the runs, of which a replay has none; the sensor does when this fails."""
    for request in requests:
        background.add_task(_launch, context, request)
    response.background = background
    return response


async def _launch(context: RequestContext, request: ExportRequest) -> None:
    try:
        await context.services.launcher.launch_in_order(request)
    except Unavailable:
        await run_in_threadpool(_not_asked, context, request)


def _not_asked(context: RequestContext, request: ExportRequest) -> None:
    with context.transaction() as work:
        work.requests.not_asked(request.id)
