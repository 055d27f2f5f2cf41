"""``cleanup`` and ``sweep``: old exports and leftovers, by an operator's hand. The service does both every night."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from export_pipelines.commands import output
from export_pipelines.commands.control import at_work, record
from export_pipelines.core.access import Action
from export_pipelines.embedded.workplace import prepared
from export_pipelines.pipeline.publish.removal import remove_unremoved
from export_pipelines.pipeline.services import open_services
from export_pipelines.settings import load_settings
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.retention import MOST_DAYS, Held, Older, RetentionStore

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def clean_up(
    older_than_days: Annotated[int, typer.Option(min=1, max=MOST_DAYS, help="Completed longer ago than that.")],
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    keep_scheduled: Annotated[bool, typer.Option(help="Exports that a schedule made stay.")] = True,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let old exports expire before their time and remove their files; the history keeps a line of each."""
    with output.reported(as_json=as_json), at_work(load_settings()) as services:
        retention = services.retention
        older = Older.than(older_than_days, tenant_id=tenant, keep_scheduled=keep_scheduled)
        if dry_run:
            gone, removed = retention.older(older), None
        else:
            gone = _expired(older, retention, services.control)
            removed = remove_unremoved(retention, services.requests, services.store)
        if as_json:
            freed = asdict(removed) if removed else None
            output.say_json({"exports_deleted": gone.exports, "package_bytes": gone.size_bytes, "removed": freed})
        else:
            what = "would be removed" if dry_run else "removed"
            output.say(f"{gone.exports} exports {what}, {output.size(gone.size_bytes)} of packages")


def _expired(older: Older, retention: RetentionStore, control: ControlDatabase) -> Held:
    """In batches, each with its line in the audit log."""
    gone = Held()
    while True:
        with control.transaction():
            batch = retention.expire_older(older)
            if batch.exports:
                detail = {"before": older.before.isoformat(), "exports_deleted": batch.exports}
                record(
                    control,
                    Action.CLEAN_UP,
                    target=("tenant", older.tenant_id or "all"),
                    tenant_id=older.tenant_id,
                    detail=detail,
                )
        if not batch.exports:
            return gone
        gone += batch


def sweep(dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Remove what killed processes and given up attempts left in the object store and in the service's tables."""
    with output.reported(as_json=as_json), prepared(load_settings()) as workplace:
        os.environ.update(workplace.environment)  # for Dagster, which reads it in this process
        from dagster import DagsterInstance

        from export_pipelines.orchestration.run_history import sweep_all

        with DagsterInstance.get() as instance, open_services(workplace.settings) as services:
            swept = sweep_all(services, instance, dry_run=dry_run)
        if as_json:
            output.say_json(swept.as_dict())
            return
        for what, freed in swept.freed.items():
            output.say(f"{what:20} {freed.items:>8} {output.size(freed.size_bytes):>10}")
        for table, rows in swept.rows.items():
            output.say(f"{table:20} {rows:>8} rows")
        output.say("nothing was removed" if dry_run else f"{output.size(swept.size_bytes)} freed")
