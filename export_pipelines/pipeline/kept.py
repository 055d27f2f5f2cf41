"""The canonical rows of finished exports, kept for conversions to other formats.

``stage.json`` is written last: without it nothing was kept.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import NotFound, RequestRejected
from export_pipelines.core.model import ExportPlan, KeptStage, Stage, TenantScope
from export_pipelines.core.naming import canonical_prefix
from export_pipelines.core.ports import ObjectStore
from export_pipelines.stores.requests import ExportRequest, RequestStore

_RECORD = "stage.json"
_FORM = TypeAdapter(KeptStage)


def keep_stage(plan: ExportPlan, stage: Stage, store: ObjectStore) -> None:
    """Move the attempt's canonical objects to where conversions find them, replacing an earlier attempt's."""
    prefix = canonical_prefix(plan.scope, plan.request_id)
    store.delete(f"{prefix}/{_RECORD}")
    tables = []
    for table in stage.tables:
        keys = tuple(f"{prefix}/{key.rpartition('/')[2]}" for key in table.keys)
        for key, kept in zip(table.keys, keys, strict=True):
            store.move(key, kept)
        tables.append(replace(table, keys=keys))
    record = KeptStage(
        request_id=plan.request_id,
        catalog=plan.catalog,
        selections=plan.selections,
        stage=replace(stage, tables=tuple(tables)),
    )
    with store.writing(f"{prefix}/{_RECORD}") as sink:
        sink.write(_FORM.dump_json(record))


def find_kept(
    request_id: str,
    scope: TenantScope,
    catalog: Catalog,
    requests: RequestStore,
    store: ObjectStore,
    *,
    owner: str | None = None,
) -> KeptStage:
    """What that export, or the one it was converted from, had read.

    `RequestRejected` when the tenant has no such export, when nothing of it was kept, or when the catalog has changed
    since then. A foreign export, or with ``owner`` one that somebody else asked for, is like one that does not exist.
    """
    origin = _origin(request_id, scope, requests, owner)
    key = f"{canonical_prefix(scope, origin.id)}/{_RECORD}"
    if not store.exists(key):
        raise RequestRejected(f"the rows of export {origin.id} are not kept (any more); export again", field="convert")
    with store.reading(key) as source:
        content = source.read()
    try:
        kept = _FORM.validate_json(content)
    except ValidationError as error:
        raise RequestRejected(
            f"the rows of export {origin.id} were kept by another version; export again", field="convert"
        ) from error
    _require_same_catalog(kept, catalog, store)
    return kept


def _origin(request_id: str, scope: TenantScope, requests: RequestStore, owner: str | None) -> ExportRequest:
    """The export at the beginning of a chain of conversions."""
    request = requests.get(request_id)
    while _may_be_read(request, scope, owner) and request.config.get("convert"):
        request = requests.get(str(request.config["convert"]))
    if not _may_be_read(request, scope, owner):
        raise NotFound(f"there is no request {request_id}", field="convert")
    return request


def _may_be_read(request: ExportRequest, scope: TenantScope, owner: str | None) -> bool:
    return request.tenant_id == scope.tenant_id and owner in (None, request.requested_by)


def _require_same_catalog(kept: KeptStage, catalog: Catalog, store: ObjectStore) -> None:
    for table in kept.stage.tables:
        known = catalog.tables.get(table.table)
        measured = known is not None and (table.aggregation is None or known.measures)
        if kept.catalog != catalog.name or not measured:
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
