"""Dagster's own records, kept within bounds.

Dagster forgets a partition together with the run that materialised it. So old runs go, but those that hold the newest
materialization of an asset or partition; of those the events go, but what says that and whether the checks passed
(docs/adr/0025).
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from dagster import DagsterEventType, DagsterInstance, RunsFilter
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from export_pipelines.core.ports import Freed
from export_pipelines.pipeline.maintenance.sweep import Swept, sweep, sweep_folder
from export_pipelines.pipeline.services import ExportServices

PAGE = 200  # runs judged together
_events = SqlEventLogStorageTable.c
_MATERIALIZATION = DagsterEventType.ASSET_MATERIALIZATION.value
_KEPT_OF_NEEDED = (_MATERIALIZATION, DagsterEventType.ASSET_CHECK_EVALUATION.value)


@dataclass(kw_only=True)
class Pruned:
    """What was, or would be, removed."""

    runs: int = 0
    trimmed: int = 0  # runs that stay for what they made, without their other events
    events: int = 0  # of those


def prune_runs(instance: DagsterInstance, *, before: dt.datetime, dry_run: bool = False) -> Pruned:
    """Ended runs that were created before an instant. What a run is needed for is never taken, so this may be killed,
    and run twice at a time.
    """
    storage = instance.event_log_storage
    pruned = Pruned()
    if not isinstance(storage, SqlEventLogStorage):
        return pruned  # what a run is needed for can be asked of no other one
    for run_ids in _pages(instance, before):
        needed = _needed(storage, run_ids)
        for run_id in run_ids:
            if run_id not in needed:
                pruned.runs += 1
                if not dry_run:
                    instance.delete_run(run_id)
        trimmed = _trim(storage, needed, dry_run=dry_run)
        pruned.trimmed += len(trimmed)
        pruned.events += sum(trimmed.values())
    return pruned


def sweep_all(services: ExportServices, instance: DagsterInstance, *, dry_run: bool = False) -> Swept:
    """The service's stores and what Dagster keeps beside them."""
    now = dt.datetime.now(dt.UTC)
    swept = sweep(services, now=now, at_work=lambda run_id: at_work(run_id, instance), dry_run=dry_run)
    swept.add("steps of runs", sweep_handovers(instance, before=now - services.settings.sweep_after, dry_run=dry_run))
    return swept


def sweep_handovers(instance: DagsterInstance, *, before: dt.datetime, dry_run: bool = False) -> Freed:
    """Files by which the steps of a run hand on plans, with recipients and the text of mails. Only the run, and one
    that goes on from its failure, reads them.
    """
    folder = Path(instance.storage_directory())
    return sweep_folder(folder, before=before, dry_run=dry_run, needed=lambda name: not _over(name, instance))


def at_work(run_id: str, instance: DagsterInstance) -> bool:
    """Whether Dagster knows a run that has not ended."""
    run = instance.get_run_by_id(run_id)
    return run is not None and not run.is_finished


def _over(name: str, instance: DagsterInstance) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False  # not a run's
    return not at_work(name, instance)


def _pages(instance: DagsterInstance, before: dt.datetime) -> Iterator[list[str]]:
    """Each page is read before the one before it is handed out: a run that was deleted is no cursor."""
    wanted = RunsFilter(statuses=list(FINISHED_STATUSES), created_before=before)
    page = list(instance.get_run_ids(wanted, limit=PAGE))
    while page:
        following = list(instance.get_run_ids(wanted, cursor=page[-1], limit=PAGE))
        yield page
        page = following


def _needed(storage: SqlEventLogStorage, run_ids: Sequence[str]) -> list[str]:
    """Those that hold the newest materialization of an asset or of one of its partitions."""
    newer = SqlEventLogStorageTable.alias("newer").c
    same = sa.and_(
        newer.asset_key == _events.asset_key,
        newer.dagster_event_type == _MATERIALIZATION,
        newer.id > _events.id,
    )
    # Two questions instead of IS NOT DISTINCT FROM, for which PostgreSQL has no index.
    of_partition = sa.exists().where(same, newer.partition == _events.partition)
    of_whole = sa.exists().where(same, newer.partition.is_(None), _events.partition.is_(None))
    question = sa.select(_events.run_id).distinct().where(
        _events.run_id.in_(run_ids), _events.dagster_event_type == _MATERIALIZATION, ~of_partition, ~of_whole
    )  # fmt: skip
    with storage.index_connection() as connection:
        return [row[0] for row in connection.execute(question)]


def _trim(storage: SqlEventLogStorage, run_ids: Sequence[str], *, dry_run: bool) -> dict[str, int]:
    """Runs that had events to spare, and how many."""
    other = sa.or_(_events.dagster_event_type.is_(None), _events.dagster_event_type.not_in(_KEPT_OF_NEEDED))
    spare = sa.and_(_events.run_id.in_(run_ids), other)
    counted = sa.select(_events.run_id, sa.func.count()).where(spare).group_by(_events.run_id)
    with storage.index_connection() as connection:
        found = {row[0]: row[1] for row in connection.execute(counted)}
        if found and not dry_run:
            ids = sa.select(_events.id).where(spare)
            connection.execute(AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(ids)))
            connection.execute(SqlEventLogStorageTable.delete().where(spare))
    return found
