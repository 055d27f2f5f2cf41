"""Make a package visible: move its files to their public place, the manifest last."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace

import structlog

from export_pipelines.core.errors import Cancelled, IntegrityViolation, Unavailable
from export_pipelines.core.model import ExportFile, ExportPlan, Package, Stage
from export_pipelines.core.naming import export_prefix, stage_prefix
from export_pipelines.core.ports import ObjectStore
from export_pipelines.pipeline.extract.retained_stage import retain_stage
from export_pipelines.pipeline.planning.estimate import remember
from export_pipelines.pipeline.publish.package import StagedPackage
from export_pipelines.pipeline.publish.removal import clear_half_package, clear_package, publishing
from export_pipelines.pipeline.services import ExportServices
from export_pipelines.stores.control import Lock
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
    try:
        with services.exclusively(publishing(plan.request_id)) as lock:
            _move(plan, staged, package, services, lock, run_id=run_id)
            completed = services.requests.complete(
                plan.request_id, run_id=run_id, package=package, deliveries=plan.deliveries, keep=_keep(plan, services)
            )
            if not completed:
                raise Cancelled("cancelled on request, or taken over by another run, while publishing")
    except BaseException:  # an interrupt, too: what is not complete must not stay public
        _take_back(plan, prefix, services, run_id=run_id)
        raise
    try:
        remember(plan, stage, staged.files, services.measures)
    except Unavailable as error:  # the export is complete; only later estimates would have known better
        _log.warning("measures_lost", request_id=plan.request_id, error=str(error))
    convertible = plan.sealing is None and plan.converted_from is None and plan.export_type != "audit"
    if services.settings.keep_canonical and convertible:
        retain_stage(plan, stage, services.requests, services.store)
    for attempt in range(1, plan.attempt + 1):  # whoever gave up an earlier one may have been killed before clearing it
        services.store.delete(stage_prefix(plan.request_id, attempt))
    return package


def _move(
    plan: ExportPlan, staged: StagedPackage, package: Package, services: ExportServices, lock: Lock, *, run_id: str
) -> None:
    """Each step only while the lock lives: a control database that fails over gives it to our successor."""
    if services.requests.record_progress(plan.request_id, run_id=run_id, percentage=97) is not False:
        raise Cancelled("cancelled on request, or taken over by another run, before publishing")
    lock.prove()
    clear_package(package.prefix, services.store)
    services.store.move_all(_proved(staged.files[:-1], package, lock))
    services.store.move_all(_proved(staged.files[-1:], package, lock))  # the manifest, once all else is durable
    _require_whole(services.store, package)


def _proved(files: Iterable[ExportFile], package: Package, lock: Lock) -> Iterator[tuple[str, str]]:
    for file in files:
        lock.prove()
        yield file.key, f"{package.prefix}/{file.path}"


def _take_back(plan: ExportPlan, prefix: str, services: ExportServices, *, run_id: str) -> None:
    """Clear the public place again, under a lock taken anew: the one before may be lost, and with it the place."""
    try:
        clear_half_package(
            plan.request_id, prefix, services.requests, services.store, services.exclusively, run_id=run_id
        )
    except Unavailable as error:  # the next attempt clears it, or whoever ends the request
        _log.warning("half_package_left", request_id=plan.request_id, error=str(error))


def _keep(plan: ExportPlan, services: ExportServices) -> dt.timedelta:
    """As long as was asked for, and never longer than the service keeps any."""
    return services.settings.keep if plan.keep is None else min(plan.keep, services.settings.keep)


def abandon(
    request: ExportRequest,
    requests: RequestStore,
    store: ObjectStore,
    exclusively: Callable[[str], AbstractContextManager[Lock]],
) -> None:
    """Take away what an attempt that was given up has left: its stage and, once nobody goes on, half a package."""
    store.delete(stage_prefix(request.id, request.attempt))
    export_type = str(request.config.get("export_type", "selective"))
    prefix = export_prefix(request.scope, export_type, request.created_at, request.id)
    clear_half_package(request.id, prefix, requests, store, exclusively)


def _require_whole(store: ObjectStore, package: Package) -> None:
    stored = dict(store.list(package.prefix))
    expected = {file.key: file.size_bytes for file in package.files}
    if stored != expected:
        raise IntegrityViolation(f"the store does not hold what was published under {package.prefix}")
