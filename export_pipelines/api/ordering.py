"""From a configuration in a call to a row in the request table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from export_pipelines.api.calls import Call, Work
from export_pipelines.core.access import Role
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import ExportPlan, KeptStage, TenantScope
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.pipeline.plan import check_order
from export_pipelines.stores.passwords import is_sealed
from export_pipelines.stores.requests import ExportRequest

PASSWORD = "encryption.password"  # noqa: S105 - a field's name


def order(
    call: Call,
    work: Work,
    raw: dict[str, Any],
    foreseen: Estimate | RequestRejected | None = None,
    *,
    batch_id: str | None = None,
) -> tuple[ExportRequest, ExportPlan]:
    """A new request in the caller's name. `RequestRejected` for whatever its plan would refuse."""
    if isinstance(foreseen, RequestRejected):
        raise foreseen
    plan = checked(call, work, raw)
    request_id = work.requests.insert(
        tenant_id=call.tenant_id,
        config=raw,
        requested_by=call.caller.name,
        requested_role=call.caller.role,
        estimate=foreseen,
        batch_id=batch_id,
    )
    work.target = request_id
    work.detail["format"] = plan.format
    request = work.requests.get(request_id)
    work.requests.asked([request])  # the sensor leaves it to us for a while
    return request, plan


def checked(call: Call, work: Work, raw: dict[str, Any], *, saved: bool = False) -> ExportPlan:
    """The plan of a configuration that this caller may ask for; a saved one has a mark in place of its password."""
    if is_sealed(raw) and not saved:
        raise RequestRejected("is what the service keeps in its place; give the password itself", field=PASSWORD)
    scope, catalog = TenantScope(tenant_id=call.tenant_id), call.services.catalog
    return check_order(raw, scope, catalog, kept=keeper(call, work), role=call.caller.role)


def keeper(call: Call, work: Work) -> Callable[[str], KeptStage]:
    """Finds what an export has read that this caller may convert."""
    scope, catalog = TenantScope(tenant_id=call.tenant_id), call.services.catalog
    owner = call.caller.name if call.caller.role is Role.MEMBER else None

    def kept(origin: str) -> KeptStage:
        return find_kept(origin, scope, catalog, work.requests, call.services.store, owner=owner)

    return kept
