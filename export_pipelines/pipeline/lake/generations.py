"""Partitions of the lake with their past: each materialisation is a generation in a folder of its own.

The newest generation is the partition; older ones are kept for exports of a point in time, as long as the retention
says. Nothing else reads or builds the folders of generations.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.core.errors import IntegrityViolation, RequestRejected
from export_pipelines.core.grains import NIGHTLY_SCHEDULES
from export_pipelines.core.model import ExportPlan, LakeRetention, SnapshotInfo, TenantScope
from export_pipelines.core.naming import generation_time, lake_prefix, lake_prefix_of_catalog
from export_pipelines.core.ports import Freed, ObjectStore
from export_pipelines.core.windows import next_period, period_of

_SNAPSHOT, _ROWS, _SPELLINGS = b"snapshot", b"rows", b"tenant_spellings"  # keys in the footer of a part
_FORM = TypeAdapter(SnapshotInfo)


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A partition as one snapshot had it."""

    partition: str  # its folder inside the tenant's: month=2024-03; empty for a table that is not cut
    key: str
    size_bytes: int
    taken_at: dt.datetime


def footer_of(snapshot: SnapshotInfo) -> dict[bytes, bytes]:
    """What a part says of itself."""
    return {_SNAPSHOT: _FORM.dump_json(snapshot)}


def read_footer(store: ObjectStore, generation: Generation) -> tuple[SnapshotInfo, int]:
    """The snapshot that a part was read from, and its rows."""
    with store.reading(generation.key) as stream, pq.ParquetFile(stream) as file:
        stored = (file.schema_arrow.metadata or {}).get(_SNAPSHOT)
        rows = file.metadata.num_rows
    try:
        return _FORM.validate_json(stored or b""), rows
    except ValidationError as error:
        raise IntegrityViolation(
            f"{generation.key} does not say which snapshot it is of; materialise it again"
        ) from error


def spellings_footer(spellings: Iterable[str]) -> dict[bytes, bytes]:
    """What a part says of texts in its tenant column that are the tenant's id to the source only; nothing if none."""
    listed = sorted(spellings)
    return {_SPELLINGS: json.dumps(listed).encode()} if listed else {}


def read_spellings(store: ObjectStore, generation: Generation) -> frozenset[str]:
    """The texts of `spellings_footer`."""
    with store.reading(generation.key) as stream, pq.ParquetFile(stream) as file:
        stored = (file.metadata.metadata or {}).get(_SPELLINGS)
    return frozenset(json.loads(stored)) if stored else frozenset()


def has_schema(store: ObjectStore, generation: Generation, schema: pa.Schema) -> bool:
    """Whether a part still has the columns and types that the catalog describes."""
    with store.reading(generation.key) as stream:
        stored = pq.read_schema(stream)
    return bool(stored.remove_metadata().equals(schema, check_metadata=True))


def generations(catalog: Catalog, table: str, scope: TenantScope, store: ObjectStore) -> dict[str, list[Generation]]:
    """By partition, oldest first. One listing of the tenant's folder; no other tenant's is looked at."""
    folder = lake_prefix(catalog.name, table, scope, Grain.NONE, None)
    found: dict[str, list[Generation]] = defaultdict(list)
    for generation in _in_keys(store.list(folder), folder):
        found[generation.partition].append(generation)
    return found


def newest(catalog: Catalog, table: str, scope: TenantScope, store: ObjectStore) -> dict[str, Generation]:
    """The current generation of each partition of a tenant's table."""
    return {partition: past[-1] for partition, past in generations(catalog, table, scope, store).items()}


def _in_keys(objects: Iterable[tuple[str, int]], folder: str) -> Iterator[Generation]:
    for key, size_bytes in objects:
        partition, _, named = key.removeprefix(folder).rpartition("/")[0].rpartition("/")
        taken_at = generation_time(named)
        if taken_at is not None:
            yield Generation(partition=partition.removeprefix("/"), key=key, size_bytes=size_bytes, taken_at=taken_at)


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
        for period in periods_until(catalog, selection.table, at):
            partition = partition_folder(catalog, selection.table, plan.scope, period)
            past = [generation for generation in known.get(partition, ()) if generation.taken_at <= at]
            if past:
                chosen[selection.table].append(past[-1])
            else:
                missing.append((selection.table, partition, known.get(partition, [])))
    if missing:
        raise _not_there(at, missing, catalog)
    return chosen


def periods_until(catalog: Catalog, name: str, at: dt.datetime) -> Iterator[dt.date | None]:
    """Periods of a table from the beginning of history that began before ``at``; None for a table that is not cut."""
    grain = catalog.tables[name].partition.grain
    if grain is Grain.NONE:
        yield None
        return
    first = catalog.history_start.replace(day=1) if grain is Grain.MONTH else catalog.history_start
    # A period that begins at the very instant has no past yet. The first one of all is open to what was before it.
    last = max(first, period_of(at - dt.timedelta.resolution, grain=grain, timezone=catalog.timezone))
    while first <= last:
        yield first
        first = next_period(first, grain)


def partition_folder(catalog: Catalog, name: str, scope: TenantScope, period: dt.date | None) -> str:
    """The folder of a partition inside the tenant's: ``month=2024-03``; empty for a table that is not cut."""
    whole = lake_prefix(catalog.name, name, scope, Grain.NONE, None)
    partition = lake_prefix(catalog.name, name, scope, catalog.tables[name].partition.grain, period)
    return partition.removeprefix(whole).removeprefix("/")


def _not_there(at: dt.datetime, missing: list[tuple[str, str, list[Generation]]], catalog: Catalog) -> RequestRejected:
    table, partition, known = missing[0]
    named = f"{table} {partition}".strip()
    if known:
        hint = f"its nearest is of {known[0].taken_at.isoformat()}"
        hint += "; ask for a time from then on" if len(missing) == 1 else ""
    else:
        hint = "it was never materialised"
    switch = NIGHTLY_SCHEDULES.get(catalog.tables[table].partition.grain)
    if switch:
        hint += f"; for points in time from tonight on, ask the service's operator to switch on the schedule {switch}"
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
        (generation for generation in _in_keys(sizes.items(), folder) if not generation.partition),
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
