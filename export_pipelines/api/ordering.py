"""From a configuration in a call to a row in the request table."""

from __future__ import annotations

from typing import Any

from export_pipelines.api.calls import Call, Work
from export_pipelines.core.access import Role
from export_pipelines.core.model import ExportPlan, KeptStage, TenantScope
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.pipeline.plan import check_order
from export_pipelines.stores.requests import ExportRequest


def order(call: Call, work: Work, raw: dict[str, Any]) -> tuple[ExportRequest, ExportPlan]:
    """A new request in the caller's name. `RequestRejected` for whatever its plan would refuse."""
    plan = checked(call, work, raw)
    request_id = work.requests.insert(
        tenant_id=call.tenant_id,
        config=raw,
        requested_by=call.caller.name,
        requested_role=call.caller.role,
    )
    work.target = request_id
    request = work.requests.get(request_id)
    work.requests.asked([request])  # the sensor leaves it to us for a while
    return request, plan


def checked(call: Call, work: Work, raw: dict[str, Any]) -> ExportPlan:
    """The plan of a configuration that this caller may ask for."""
    scope, catalog = TenantScope(tenant_id=call.tenant_id), call.services.catalog
    owner = call.caller.name if call.caller.role is Role.MEMBER else None

    def kept(origin: str) -> KeptStage:
        return find_kept(origin, scope, catalog, work.requests, call.services.store, owner=owner)

    return check_order(raw, scope, catalog, kept=kept, role=call.caller.role)
