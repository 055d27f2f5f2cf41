"""From a configuration in a call to a row in the request table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from export_pipelines.api.request_context import RequestContext, UnitOfWork
from export_pipelines.core.access import Role
from export_pipelines.core.errors import ExportError, RequestRejected, TooMany
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import ExportPlan, RetainedStage, TenantScope
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage, retained_origin
from export_pipelines.pipeline.planning.plan import check_order
from export_pipelines.stores.passwords import is_sealed
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines.stores.tenant_session import TenantSession

PASSWORD = "encryption.password"  # noqa: S105 - a field's name


def order(
    context: RequestContext,
    work: UnitOfWork,
    raw: dict[str, Any],
    foreseen: Estimate | RequestRejected | None = None,
    *,
    batch_id: str | None = None,
) -> tuple[ExportRequest, ExportPlan]:
    """A new request in the caller's name. `RequestRejected` for whatever its plan would refuse."""
    if isinstance(foreseen, RequestRejected):
        raise foreseen
    plan = checked(context, work, raw)
    request_id = work.requests.insert(
        tenant_id=context.tenant_id,
        config=raw,
        requested_by=context.caller.name,
        requested_role=context.caller.role,
        estimate=foreseen,
        batch_id=batch_id,
    )
    work.target = request_id
    work.detail["format"] = plan.format
    request = work.requests.get(request_id)
    work.requests.asked([request])  # the sensor leaves it to us for a while
    return request, plan


def checked(context: RequestContext, work: UnitOfWork, raw: dict[str, Any], *, saved: bool = False) -> ExportPlan:
    """The plan of a configuration that this caller may ask for; a saved one has a mark in place of its password."""
    if is_sealed(raw) and not saved:
        raise RequestRejected("is what the service keeps in its place; give the password itself", field=PASSWORD)
    scope, catalog = TenantScope(tenant_id=context.tenant_id), context.services.catalog
    here = open_destinations(context.services.settings)
    return check_order(
        raw, scope, catalog, retained=retained_stages(context, work), role=context.caller.role, destinations=here
    )


def look_up_retained_stage(context: RequestContext, raw: dict[str, Any]) -> None:
    """What the export has read that a conversion names, for `retained_stages`. It asks the object store, so outside of
    transactions: one that waits keeps a connection from all other calls.
    """
    try:
        origin = str(UUID(raw.get("convert")))
    except (ValueError, TypeError, AttributeError):  # none, or one that is refused anyway
        return
    if context.caller.tenant_id is None:
        return
    requests = RequestStore(TenantSession(context.services.pool, context.caller))
    scope, services = TenantScope(tenant_id=context.tenant_id), context.services
    try:
        context.retained[origin] = find_retained_stage(
            origin, scope, services.catalog, requests, services.store, owner=_owner(context)
        )
    except ExportError as error:
        context.retained[origin] = error


def retained_stages(context: RequestContext, work: UnitOfWork) -> Callable[[str], RetainedStage]:
    """What `look_up_retained_stage` has found, if it may still be converted."""

    def retained(origin: str) -> RetainedStage:
        found = context.retained.get(origin)
        if isinstance(found, ExportError):
            raise found
        if found is None:  # beyond a limit it is not looked for, and the limit was met a moment ago
            raise TooMany("was not looked for; try again", field="convert", retry_after_seconds=1)
        retained_origin(origin, TenantScope(tenant_id=context.tenant_id), work.requests, owner=_owner(context))
        return found

    return retained


def _owner(context: RequestContext) -> str | None:
    """Whose exports alone the caller may convert."""
    return context.caller.name if context.caller.role is Role.MEMBER else None
