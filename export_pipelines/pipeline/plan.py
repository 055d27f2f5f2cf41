"""From a request row to its plan."""

from __future__ import annotations

from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import ExportPlan, KeptStage, Stage, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.kept import find_kept
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest


def plan_request(request: ExportRequest, services: ExportServices) -> ExportPlan:
    """Check the request's configuration against the catalog; `RequestRejected` names the field."""
    wanted = parse_configuration(request.config)
    scope = TenantScope(tenant_id=request.tenant_id)
    return plan_export(
        wanted,
        services.catalog,
        request_id=request.id,
        attempt=request.attempt,
        scope=scope,
        requested_at=request.created_at,
        formats=services.formats(),
        codecs=CODECS,
        kept=_kept(str(wanted.convert), scope, services) if wanted.convert else None,
    )


def kept_rows(plan: ExportPlan, services: ExportServices) -> Stage:
    """What a conversion converts."""
    return _kept(str(plan.converted_from), plan.scope, services).stage


def _kept(request_id: str, scope: TenantScope, services: ExportServices) -> KeptStage:
    return find_kept(request_id, scope, services.catalog, services.requests, services.store)
