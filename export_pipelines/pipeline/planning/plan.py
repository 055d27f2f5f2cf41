"""From a request to its plan, in its run; what it was before there was a request is in `orders`."""

from __future__ import annotations

from dataclasses import replace

from export_pipelines.core.access import Role
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import ExportPlan, RetainedStage, Stage, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.core.service_catalog import catalog_of
from export_pipelines.destinations.registry import all_destinations
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest


def plan_request(request: ExportRequest, services: ExportServices) -> ExportPlan:
    """Check the request's configuration against the catalog as it is now; `RequestRejected` names the field."""
    wanted = parse_configuration(request.config)
    role = Role(request.requested_role) if request.requested_role else None
    owner = request.requested_by if role is Role.MEMBER else None
    plan = plan_export(
        wanted,
        catalog_of(wanted.export_type, services.catalog),
        request_id=request.id,
        attempt=request.attempt,
        scope=request.scope,
        requested_at=request.created_at,
        formats=services.formats(),
        codecs=CODECS,
        destinations=all_destinations(),
        retained=_retained(str(wanted.convert), request.scope, services, owner) if wanted.convert else None,
        role=role,
        longest_keep=services.settings.keep,
    )
    services.destinations.require(plan.deliveries)
    return replace(plan, expected_rows=request.total_rows)


def services_for(plan: ExportPlan, services: ExportServices) -> ExportServices:
    """The services with the catalog that the plan was made by."""
    return services.having(catalog=catalog_of(plan.export_type, services.catalog))


def retained_rows(plan: ExportPlan, services: ExportServices) -> Stage:
    """What a conversion converts."""
    return _retained(str(plan.converted_from), plan.scope, services).stage


def _retained(request_id: str, scope: TenantScope, services: ExportServices, owner: str | None = None) -> RetainedStage:
    return find_retained_stage(
        request_id, scope, services.catalog, services.requests, services.store, owner=owner, accepted=True
    )
