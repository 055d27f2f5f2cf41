"""Take an export's objects out of the store: its package and the rows kept for conversions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import islice

import structlog

from export_pipelines.core.errors import ExportError, Unavailable
from export_pipelines.core.naming import MANIFEST, canonical_prefix
from export_pipelines.core.ports import Freed, ObjectStore
from export_pipelines.core.status import RequestStatus
from export_pipelines.stores.control import Lock
from export_pipelines.stores.requests import ExportRequest, RequestStore
from export_pipelines.stores.retention import Held, RetentionStore

_MOST_FAILURES = 3  # of removals one after another; then it is the store and no single object
_log = structlog.get_logger(__name__)


def clear_package(prefix: str, store: ObjectStore) -> int:
    """The manifest first, so that nobody takes the rest for a package; the bytes freed. Safe to repeat."""
    return store.delete(f"{prefix}/{MANIFEST}") + store.delete(prefix)


def publishing(request_id: str) -> str:
    """Name of the lock without which nobody touches the public place of an export that is not completed."""
    return f"publish {request_id}"


def clear_half_package(
    request_id: str,
    prefix: str,
    requests: RequestStore,
    store: ObjectStore,
    exclusively: Callable[[str], AbstractContextManager[Lock]],
    *,
    run_id: str | None = None,
) -> None:
    """Take away what was moved for a package that did not become one.

    Only under the lock, and only when the request is over, or still held by ``run_id``, as seen under the lock: what
    lies there may be the package of another run, and another run that is at work clears the place itself.
    """
    if not _is_left(requests.get(request_id), run_id):
        return
    with exclusively(publishing(request_id)) as lock:
        if _is_left(requests.get(request_id), run_id):
            lock.prove()
            clear_package(prefix, store)


def _is_left(request: ExportRequest, run_id: str | None) -> bool:
    if request.status is RequestStatus.PROCESSING:
        return run_id is not None and request.run_id == run_id
    return request.status in (RequestStatus.FAILED, RequestStatus.CANCELLED)


def remove_objects(request: ExportRequest, store: ObjectStore) -> Freed:
    """Package and kept rows. Safe to repeat after a failure."""
    canonical = canonical_prefix(request.scope, request.id)
    prefixes = [prefix for prefix in (request.package_prefix, canonical) if prefix]
    files = sum(len(store.list(prefix)) for prefix in prefixes)
    return Freed(items=files, size_bytes=sum(clear_package(prefix, store) for prefix in prefixes))


def expire_due(retention: RetentionStore) -> Held:
    """Every completed export whose time is over becomes expired; its links end."""
    expired = Held()
    while (batch := retention.expire_due()).exports:
        expired += batch
    return expired


def remove_unremoved(
    retention: RetentionStore, requests: RequestStore, store: ObjectStore, *, most: int | None = None
) -> Freed:
    """The objects of expired and deleted exports, of all or of ``most``. One that fails is left for the next time.

    Raises `Unavailable` in the end when there was one, and at once when the store seems to be down.
    """
    freed, problems, in_a_row = Freed(), 0, 0
    for request in islice(_unremoved(retention), most):
        try:
            freed += remove_objects(request, store)
            requests.objects_removed(request.id)
            in_a_row = 0
        except ExportError as error:
            problems, in_a_row = problems + 1, in_a_row + 1
            _log.warning("objects_not_removed", request_id=request.id, error=str(error))
            if in_a_row == _MOST_FAILURES:
                raise
    if problems:
        raise Unavailable(f"the objects of {problems} exports could not be removed; the log names them; run it again")
    return freed


def _unremoved(retention: RetentionStore) -> Iterator[ExportRequest]:
    after: str | None = None
    while page := retention.unremoved(after=after):
        yield from page
        after = page[-1].id
