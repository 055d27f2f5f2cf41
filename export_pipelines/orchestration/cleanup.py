"""The nightly cleanup: expired exports, leftovers in the stores, old runs of Dagster. Each step stands for itself."""

import datetime as dt
from dataclasses import asdict

from dagster import Config, MetadataValue, OpExecutionContext, job, op
from pydantic import Field

from export_pipelines.orchestration.resources import ExportResource
from export_pipelines.orchestration.run_history import prune_runs, sweep_all
from export_pipelines.orchestration.runs import RUN_LIMITS
from export_pipelines.pipeline.publish.removal import expire_due, remove_unremoved

CLEANUP_JOB = "cleanup_job"


class CleanupConfig(Config):
    """Whether to do it."""

    dry_run: bool = Field(default=False, description="Only say what would be removed.")


def _clock_is_ahead(context: OpExecutionContext, export: ExportResource) -> bool:
    """By a clock that jumped ahead everything is past its time, and what is removed does not come back."""
    if export.services.state.look().steady:
        return False
    context.log.warning("nothing is removed: the clock jumped ahead, and that is not confirmed")
    context.add_output_metadata({"skipped": "the clock is ahead"})
    return True


@op
def remove_expired(context: OpExecutionContext, config: CleanupConfig, export: ExportResource) -> None:
    """Exports past their time expire; their objects and those of deleted exports are removed."""
    if _clock_is_ahead(context, export):
        return
    services = export.services
    if config.dry_run:
        due = services.retention.due()
        context.add_output_metadata({"dry_run": True, "expired": due.exports, "size_bytes": due.size_bytes})
        return
    expired = expire_due(services.retention)
    freed = remove_unremoved(services.retention, services.requests, services.store)
    context.add_output_metadata({"expired": expired.exports, "files": freed.items, "size_bytes": freed.size_bytes})


@op
def sweep_leftovers(context: OpExecutionContext, config: CleanupConfig, export: ExportResource) -> None:
    """Stages, packages and other things that nobody needs and nobody took away."""
    if _clock_is_ahead(context, export):
        return
    swept = sweep_all(export.services, context.instance, dry_run=config.dry_run)
    context.add_output_metadata(
        {"size_bytes": swept.size_bytes, "swept": MetadataValue.json(swept.as_dict()), "dry_run": config.dry_run}
    )


@op
def prune_history(context: OpExecutionContext, config: CleanupConfig, export: ExportResource) -> None:
    """Old runs, but those that made what is in the lake now."""
    if _clock_is_ahead(context, export):
        return
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=export.services.settings.history_days)
    pruned = prune_runs(context.instance, before=before, dry_run=config.dry_run)
    context.add_output_metadata({**asdict(pruned), "dry_run": config.dry_run})


@job(name=CLEANUP_JOB, tags=RUN_LIMITS, description="Expire and remove exports, sweep leftovers, prune run history.")
def cleanup_job() -> None:
    remove_expired()
    sweep_leftovers()
    prune_history()
