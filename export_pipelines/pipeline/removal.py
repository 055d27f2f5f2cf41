"""Take an export's objects out of the store: its package and the rows kept for conversions."""

from __future__ import annotations

from dataclasses import dataclass

from export_pipelines.core.model import TenantScope
from export_pipelines.core.naming import MANIFEST, canonical_prefix
from export_pipelines.core.ports import ObjectStore
from export_pipelines.stores.requests import ExportRequest


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was taken away."""

    files: int
    size_bytes: int


def remove_objects(request: ExportRequest, store: ObjectStore) -> Removal:
    """The manifest first, so that nobody takes the rest for a package. Safe to repeat after a failure."""
    canonical = canonical_prefix(TenantScope(tenant_id=request.tenant_id), request.id)
    prefixes = [prefix for prefix in (request.package_prefix, canonical) if prefix]
    files = sum(len(store.list(prefix)) for prefix in prefixes)
    freed = 0
    if request.package_prefix:
        freed += store.delete(f"{request.package_prefix}/{MANIFEST}")
    freed += sum(store.delete(prefix) for prefix in prefixes)
    return Removal(files=files, size_bytes=freed)
