"""From a request, or the wish to make one, to its plan."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from export_pipelines.archives.age_writing import recipients_of
from export_pipelines.core.access import Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import parse_configuration
from export_pipelines.core.model import ExportPlan, RetainedStage, Stage, TenantScope
from export_pipelines.core.planning import plan_export
from export_pipelines.core.service_catalog import catalog_of
from export_pipelines.destinations.registry import Destinations, all_destinations
from export_pipelines.formats.registry import all_formats
from export_pipelines.packaging.codecs import CODECS
from export_pipelines.pipeline.extract.retained_stage import find_retained_stage
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest


def check_order(
    raw: Any,
    scope: TenantScope,
    catalog: Catalog,
    *,
    retained: Callable[[str], RetainedStage] | None = None,
    role: Role | None = None,
    destinations: Destinations | None = None,
) -> ExportPlan:
    """What the plan of a request would be; `RequestRejected` for all that can be refused before there is one.

    ``retained`` finds what an export, by its id, has read; whoever may ask for a conversion gives it.
    ``destinations`` are those of the installation; without them, whether it knows a recipient is left to the run.
    """
    wanted = parse_configuration(raw)
    plan = plan_export(
        wanted,
        catalog_of(wanted.export_type, catalog),
        request_id="check",
        attempt=1,
        scope=scope,
        requested_at=dt.datetime.now(dt.UTC),
        formats=all_formats(),
        codecs=CODECS,
        destinations=all_destinations(),
        retained=retained(str(wanted.convert)) if retained and wanted.convert else None,
        role=role,
    )
    recipients_of(plan.sealing.recipients if plan.sealing else ())
    if destinations is not None:
        destinations.require(plan.deliveries)
    return plan


def plan_request(request: ExportRequest, services: ExportServices) -> ExportPlan:
    """Check the request's configuration against the catalog as it is now; `RequestRejected` names the field."""
    wanted = parse_configuration(request.config)
    scope = TenantScope(tenant_id=request.tenant_id)
    role = Role(request.requested_role) if request.requested_role else None
    owner = request.requested_by if role is Role.MEMBER else None
    plan = plan_export(
        wanted,
        catalog_of(wanted.export_type, services.catalog),
        request_id=request.id,
        attempt=request.attempt,
        scope=scope,
        requested_at=request.created_at,
        formats=services.formats(),
        codecs=CODECS,
        destinations=all_destinations(),
        retained=_retained(str(wanted.convert), scope, services, owner) if wanted.convert else None,
        role=role,
    )
    services.destinations.require(plan.deliveries)
    return replace(plan, expected_rows=request.total_rows)


def services_for(plan: ExportPlan, services: ExportServices) -> ExportServices:
    """The services with the catalog that the plan was made by."""
    return replace(services, catalog=catalog_of(plan.export_type, services.catalog))


def retained_rows(plan: ExportPlan, services: ExportServices) -> Stage:
    """What a conversion converts."""
    return _retained(str(plan.converted_from), plan.scope, services).stage


def _retained(request_id: str, scope: TenantScope, services: ExportServices, owner: str | None = None) -> RetainedStage:
    return find_retained_stage(
        request_id, scope, services.catalog, services.requests, services.store, owner=owner, accepted=True
    )
