"""From a configuration in a call to a row in the request table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from export_pipelines.api.calls import Call, Work
from export_pipelines.core.access import Role
from export_pipelines.core.errors import ExportError, RequestRejected, TooMany
from export_pipelines.core.estimating import Estimate
from export_pipelines.core.model import ExportPlan, KeptStage, TenantScope
from export_pipelines.destinations.registry import open_destinations
from export_pipelines.pipeline.kept import find_kept, kept_origin
from export_pipelines.pipeline.plan import check_order
from export_pipelines.stores.acting import InName
from export_pipelines.stores.passwords import is_sealed
from export_pipelines.stores.requests import ExportRequest, RequestStore

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
    here = open_destinations(call.services.settings)
    return check_order(raw, scope, catalog, kept=keeper(call, work), role=call.caller.role, destinations=here)


def look_up_kept(call: Call, raw: dict[str, Any]) -> None:
    """What the export has read that a conversion names, for `keeper`. It asks the object store, so outside of
    transactions: one that waits keeps a connection from all other calls.
    """
    try:
        origin = str(UUID(raw.get("convert")))
    except (ValueError, TypeError, AttributeError):  # none, or one that is refused anyway
        return
    if call.caller.tenant_id is None:
        return
    requests = RequestStore(InName(call.services.pool, call.caller))
    scope, services = TenantScope(tenant_id=call.tenant_id), call.services
    try:
        call.kept[origin] = find_kept(origin, scope, services.catalog, requests, services.store, owner=_owner(call))
    except ExportError as error:
        call.kept[origin] = error


def keeper(call: Call, work: Work) -> Callable[[str], KeptStage]:
    """What `look_up_kept` has found, if it may still be converted."""

    def kept(origin: str) -> KeptStage:
        found = call.kept.get(origin)
        if isinstance(found, ExportError):
            raise found
        if found is None:  # beyond a limit it is not looked for, and the limit was met a moment ago
            raise TooMany("was not looked for; try again", field="convert", retry_after_seconds=1)
        kept_origin(origin, TenantScope(tenant_id=call.tenant_id), work.requests, owner=_owner(call))
        return found

    return kept


def _owner(call: Call) -> str | None:
    """Whose exports alone the caller may convert."""
    return call.caller.name if call.caller.role is Role.MEMBER else None
