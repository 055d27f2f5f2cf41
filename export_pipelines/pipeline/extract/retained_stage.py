"""The canonical rows of finished exports, retained for conversions to other formats.

``stage.json`` is written last: without it nothing was retained.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow.parquet as pq
import structlog
from pydantic import TypeAdapter, ValidationError

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import NotFound, RequestRejected, Unavailable
from export_pipelines.core.model import ExportPlan, RetainedStage, Stage, TenantScope
from export_pipelines.core.naming import canonical_prefix
from export_pipelines.core.ports import ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.requests import ExportRequest, RequestStore

_log = structlog.get_logger(__name__)
_RECORD = "stage.json"
_FORM = TypeAdapter(RetainedStage)


def retain_stage(plan: ExportPlan, stage: Stage, requests: RequestStore, store: ObjectStore) -> None:
    """Move the attempt's canonical objects to where conversions find them, replacing an earlier attempt's.

    Its export is public already, so somebody may delete it meanwhile and find nothing here yet to remove.
    """
    prefix = canonical_prefix(plan.scope, plan.request_id)
    store.delete(f"{prefix}/{_RECORD}")
    tables = []
    for table in stage.tables:
        keys = tuple(f"{prefix}/{key.rpartition('/')[2]}" for key in table.keys)
        for key, retained in zip(table.keys, keys, strict=True):
            store.move(key, retained)
        tables.append(replace(table, keys=keys))
    record = RetainedStage(
        request_id=plan.request_id,
        catalog=plan.catalog,
        selections=plan.selections,
        stage=replace(stage, tables=tuple(tables)),
    )
    with store.writing(f"{prefix}/{_RECORD}") as sink:
        sink.write(_FORM.dump_json(record))
    if not _is_still_wanted(plan.request_id, requests):
        store.delete(f"{prefix}/{_RECORD}")
        store.delete(prefix)


def _is_still_wanted(request_id: str, requests: RequestStore) -> bool:
    """Not when nobody can tell: rows that are not kept cost a new export, rows of a deleted one cost trust."""
    try:
        return _is_available(requests.get(request_id))
    except (NotFound, Unavailable) as error:
        _log.warning("rows_not_kept", request_id=request_id, error=str(error))
        return False


def find_retained_stage(
    request_id: str,
    scope: TenantScope,
    catalog: Catalog,
    requests: RequestStore,
    store: ObjectStore,
    *,
    owner: str | None = None,
    accepted: bool = False,
) -> RetainedStage:
    """What that export, or the one it was converted from, had read.

    `RequestRejected` when the tenant has no such export, when nothing of it was kept, or when the catalog has changed
    since then. A foreign export, or with ``owner`` one that somebody else asked for, is like one that does not exist.
    An order finds only exports that people still have; what was ``accepted`` may go on when they are deleted or expire.
    """
    origin = retained_origin(request_id, scope, requests, owner=owner, accepted=accepted)
    key = f"{canonical_prefix(scope, origin.id)}/{_RECORD}"
    if not store.exists(key):
        raise RequestRejected(f"the rows of export {origin.id} are not kept (any more); export again", field="convert")
    with store.reading(key) as source:
        content = source.read()
    try:
        retained = _FORM.validate_json(content)
    except ValidationError as error:
        raise RequestRejected(
            f"the rows of export {origin.id} were kept by another version; export again", field="convert"
        ) from error
    _require_same_catalog(retained, catalog, store)
    return retained


def retained_origin(
    request_id: str,
    scope: TenantScope,
    requests: RequestStore,
    *,
    owner: str | None = None,
    accepted: bool = False,
) -> ExportRequest:
    """The export at the beginning of a chain of conversions, by the request table alone.

    Refused as by `find_retained_stage`.
    """
    named = request = requests.get(request_id)
    while _may_be_read(request, scope, owner) and request.config.get("convert"):
        request = requests.get(str(request.config["convert"]))
    if not _may_be_read(request, scope, owner):
        raise NotFound(f"there is no request {request_id}", field="convert")
    if not accepted and not (_is_available(named) and _is_available(request)):
        raise NotFound(
            f"there is no export {request_id} to convert: it and the one it was made from must be completed, and "
            "neither expired nor deleted; export again",
            field="convert",
        )
    return request


def _is_available(request: ExportRequest) -> bool:
    """Completed, and neither deleted nor past its time, whether or not a cleanup has come by."""
    over = request.expires_at is not None and request.expires_at <= dt.datetime.now(dt.UTC)
    return request.status is RequestStatus.COMPLETED and request.deleted_at is None and not over


def _may_be_read(request: ExportRequest, scope: TenantScope, owner: str | None) -> bool:
    return request.tenant_id == scope.tenant_id and owner in (None, request.requested_by)


def _require_same_catalog(retained: RetainedStage, catalog: Catalog, store: ObjectStore) -> None:
    for table in retained.stage.tables:
        known = catalog.tables.get(table.table)
        measured = known is not None and (table.aggregation is None or known.measures)
        if retained.catalog != catalog.name or not measured:
            raise _changed(table.table)
        shape = catalog.shape(table.table, table.aggregation)
        if not set(table.columns) <= set(shape.exported_columns):
            raise _changed(table.table)
        schema = shape.arrow_schema(table.columns, table.as_text)
        for key in table.keys:
            with store.reading(key) as source:
                if not pq.read_schema(source).equals(schema, check_metadata=True):
                    raise _changed(table.table)


def _changed(table: str) -> RequestRejected:
    return RequestRejected(
        f"the catalog describes {table} otherwise than when it was exported; export again", field="convert"
    )
