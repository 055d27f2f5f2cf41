"""Make a package visible: move its files to their public place, the manifest last."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import structlog

from export_pipelines.core.errors import Cancelled, IntegrityViolation, Unavailable
from export_pipelines.core.model import ExportPlan, Package, Stage, TenantScope
from export_pipelines.core.naming import export_prefix, stage_prefix
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.pipeline.estimate import remember
from export_pipelines.pipeline.kept import keep_stage
from export_pipelines.pipeline.package import StagedPackage
from export_pipelines.pipeline.removal import clear_package
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.requests import ExportRequest, RequestStore

_log = structlog.get_logger(__name__)


def publish(plan: ExportPlan, stage: Stage, staged: StagedPackage, services: ExportServices, *, run_id: str) -> Package:
    """The package under its public prefix and the request completed, or neither.

    The lock and the two checks under it keep a run that lost its request (a paused machine, a cancelled request)
    from publishing over its successor.
    """
    prefix = export_prefix(plan.scope, plan.export_type, plan.requested_at, plan.request_id)
    package = Package(
        prefix=prefix,
        files=tuple(replace(file, key=f"{prefix}/{file.path}") for file in staged.files),
        manifest_sha256=staged.manifest.sha256,
        rows=staged.rows,
        size_bytes=sum(file.size_bytes for file in staged.files),
    )
    with services.exclusively(f"publish {plan.request_id}"):
        if services.requests.record_progress(plan.request_id, run_id=run_id, percentage=97) is not False:
            raise Cancelled("cancelled on request, or taken over by another run, before publishing")
        clear_package(prefix, services.store)
        try:
            for file in staged.files:
                services.store.move(file.key, f"{prefix}/{file.path}")
            _require_whole(services.store, package)
        except BaseException:  # an interrupt, too: what is not complete must not stay public
            clear_package(prefix, services.store)
            raise
        completed = services.requests.complete(
            plan.request_id, run_id=run_id, package=package, emails=plan.emails, keep=_keep(plan, services)
        )
        if not completed:
            clear_package(prefix, services.store)
            raise Cancelled("cancelled on request, or taken over by another run, while publishing")
    try:
        remember(plan, stage, staged.files, services.measures)
    except Unavailable as error:  # the export is complete; only later estimates would have known better
        _log.warning("measures_lost", request_id=plan.request_id, error=str(error))
    if services.keep_canonical and plan.sealing is None and plan.converted_from is None and plan.export_type != "audit":
        keep_stage(plan, stage, services.store)
    services.store.delete(stage_prefix(plan.request_id, plan.attempt))
    return package


def _keep(plan: ExportPlan, services: ExportServices) -> dt.timedelta:
    """As long as was asked for, and never longer than the service keeps any."""
    return services.keep_exports if plan.keep is None else min(plan.keep, services.keep_exports)


def abandon(request: ExportRequest, requests: RequestStore, store: ObjectStore) -> None:
    """Take away what an attempt that was given up has left: its stage and, once nobody goes on, half a package."""
    store.delete(stage_prefix(request.id, request.attempt))
    if requests.get(request.id).status in (RequestStatus.FAILED, RequestStatus.CANCELLED):
        scope = TenantScope(tenant_id=request.tenant_id)
        export_type = str(request.config.get("export_type", "selective"))
        clear_package(export_prefix(scope, export_type, request.created_at, request.id), store)


def _require_whole(store: ObjectStore, package: Package) -> None:
    stored = dict(store.list(package.prefix))
    expected = {file.key: file.size_bytes for file in package.files}
    if stored != expected:
        raise IntegrityViolation(f"the store does not hold what was published under {package.prefix}")
