"""Partitions of the lake with their past: each materialisation is a generation in a folder of its own.

The newest generation is the partition; older ones are kept for exports of a point in time, as long as the retention
says. Nothing else reads or builds the folders of generations.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.model import ExportPlan, LakeRetention, SnapshotInfo, TenantScope
from export_pipelines.core.naming import generation_time, lake_prefix, lake_prefix_of_catalog
from export_pipelines.core.ports import Freed, ObjectStore
from export_pipelines.core.windows import next_period, period_of

_SNAPSHOT, _ROWS = b"snapshot", b"rows"  # keys in the footer of a part
_FORM = TypeAdapter(SnapshotInfo)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A partition as one snapshot had it."""

    partition: str  # its folder inside the tenant's: month=2024-03; empty for a table that is not cut
    key: str
    taken_at: dt.datetime


def footer_of(snapshot: SnapshotInfo) -> dict[bytes, bytes]:
    """What a part says of itself."""
    return {_SNAPSHOT: _FORM.dump_json(snapshot)}


def read_footer(store: ObjectStore, generation: Generation) -> tuple[SnapshotInfo, int]:
    """The snapshot that a part was read from, and its rows."""
    with store.reading(generation.key) as stream, pq.ParquetFile(stream) as file:
        said = (file.schema_arrow.metadata or {}).get(_SNAPSHOT)
        rows = file.metadata.num_rows
    try:
        return _FORM.validate_json(said or b""), rows
    except ValidationError as error:
        raise IntegrityViolation(
            f"{generation.key} does not say which snapshot it is of; materialise it again"
        ) from error


def generations(catalog: Catalog, table: str, scope: TenantScope, store: ObjectStore) -> dict[str, list[Generation]]:
    """By partition, oldest first. One listing of the tenant's folder; no other tenant's is looked at."""
    folder = lake_prefix(catalog.name, table, scope, Grain.NONE, None)
    found: dict[str, list[Generation]] = defaultdict(list)
    for generation in _in_keys((key for key, _ in store.list(folder)), folder):
        found[generation.partition].append(generation)
    return found


def _in_keys(keys: Iterable[str], folder: str) -> Iterator[Generation]:
    for key in keys:
        partition, _, named = key.removeprefix(folder).rpartition("/")[0].rpartition("/")
        taken_at = generation_time(named)
        if taken_at is not None:
            yield Generation(partition=partition.removeprefix("/"), key=key, taken_at=taken_at)


def at_point(plan: ExportPlan, at: dt.datetime, catalog: Catalog, store: ObjectStore) -> dict[str, list[Generation]]:
    """For each table the newest generation at or before ``at`` of every partition that began before, in order of time.

    `RequestRejected` naming the first partition without one, and what there is of it.
    """
    if catalog.canary is not None and catalog.canary.tenant == plan.scope.tenant_id:
        raise RequestRejected("is the catalog's canary, whose rows are never exported", field="tenant_id")
    chosen: dict[str, list[Generation]] = {}
    missing: list[tuple[str, str, list[Generation]]] = []
    for selection in plan.selections:
        known = generations(catalog, selection.table, plan.scope, store)
        chosen[selection.table] = []
        for partition in _partitions(catalog, selection.table, plan.scope, at):
            past = [generation for generation in known.get(partition, ()) if generation.taken_at <= at]
            if past:
                chosen[selection.table].append(past[-1])
            else:
                missing.append((selection.table, partition, known.get(partition, [])))
    if missing:
        raise _not_there(at, missing)
    return chosen


def _partitions(catalog: Catalog, name: str, scope: TenantScope, at: dt.datetime) -> Iterator[str]:
    grain = catalog.tables[name].partition.grain
    if grain is Grain.NONE:
        yield ""
        return
    folder = lake_prefix(catalog.name, name, scope, Grain.NONE, None)
    first = catalog.history_start.replace(day=1) if grain is Grain.MONTH else catalog.history_start
    # A period that begins at the very instant has no past yet. The first one of all is open to what was before it.
    last = max(first, period_of(at - dt.timedelta.resolution, grain=grain, timezone=catalog.timezone))
    while first <= last:
        yield lake_prefix(catalog.name, name, scope, grain, first).removeprefix(f"{folder}/")
        first = next_period(first, grain)


def _not_there(at: dt.datetime, missing: list[tuple[str, str, list[Generation]]]) -> RequestRejected:
    table, partition, known = missing[0]
    named = f"{table} {partition}".strip()
    if known:
        hint = f"its nearest is of {known[0].taken_at.isoformat()}"
        hint += "; ask for a time from then on" if len(missing) == 1 else ""
    else:
        hint = "it was never materialised, which operators do in Dagster"
    more = f"; {len(missing) - 1} more partitions have none either" if len(missing) > 1 else ""
    return RequestRejected(
        f"{named} has no snapshot at or before {at.isoformat()}: {hint}{more}", field="point_in_time"
    )


def retire(
    store: ObjectStore, folder: str, retention: LakeRetention, *, now: dt.datetime, dry_run: bool = False
) -> Freed:
    """Remove what a partition's folder need not keep any longer: what was the newest at no time that is to be kept.

    A part that lies in the folder itself is of a version that kept no past, and goes once there is a generation.
    """
    sizes = dict(store.list(folder))
    own = sorted(
        (generation for generation in _in_keys(sizes, folder) if not generation.partition),
        key=lambda generation: generation.taken_at,
    )
    if not own:
        return Freed()
    edge = now - dt.timedelta(days=retention.days)
    past = islice(pairwise(own), max(0, len(own) - retention.snapshots))
    gone = [generation.key for generation, successor in past if successor.taken_at < edge]
    gone += [key for key in sizes if key.count("/") == folder.count("/") + 1]
    if not dry_run:
        for key in gone:
            store.delete(key)
    return Freed(items=len(gone), size_bytes=sum(sizes[key] for key in gone))


def retire_all(
    catalog: Catalog, store: ObjectStore, retention: LakeRetention, *, now: dt.datetime, dry_run: bool = False
) -> Freed:
    """`retire` for every partition of the catalog, also of those that nobody materialises again."""
    keys = (key for key, _ in store.list(lake_prefix_of_catalog(catalog.name)))
    folders = {key.rpartition("/snapshot=")[0] for key in keys if "/snapshot=" in key}
    freed = Freed()
    for folder in sorted(folders):
        freed += retire(store, folder, retention, now=now, dry_run=dry_run)
    return freed
