"""The run of a request, as Dagster knows it."""

from dagster import DagsterInstance, DagsterRun, RunsFilter

from export_pipelines.pipeline.planning.runs import ATTEMPT_TAG, MAX_RUNTIME_SECONDS, MAX_RUNTIME_TAG, REQUEST_TAG
from export_pipelines.stores.requests import ExportRequest

SOURCE_POOL = "source"  # runs that read the tenants' database; dagster.yaml says how many at once
RUN_LIMITS = {MAX_RUNTIME_TAG: str(MAX_RUNTIME_SECONDS)}


def run_of(request: ExportRequest, instance: DagsterInstance) -> DagsterRun | None:
    """The run that holds the request, else the newest one made for this attempt."""
    if request.run_id is not None:
        return instance.get_run_by_id(request.run_id)
    tags = {REQUEST_TAG: request.id, ATTEMPT_TAG: str(request.attempt)}
    found = instance.get_runs(RunsFilter(tags=tags), limit=1)
    return found[0] if found else None
