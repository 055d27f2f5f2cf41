"""A run of Dagster as the worker of an attempt, and an attempt's errors as Dagster's failures."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterRun, Failure, MetadataValue, OpExecutionContext
from dagster._core.errors import DagsterExecutionInterruptedError

from export_pipelines.core.errors import error_type_of
from export_pipelines.orchestration.reconcile import termination
from export_pipelines.pipeline.attempt import Worker, message_of
from export_pipelines.pipeline.planning.runs import ATTEMPT_TAG


def worker_of(run: DagsterRun) -> Worker:
    """A run made for one attempt; a re-execution, which copies its parent's tags, is for the newest."""
    made_for = None if run.parent_run_id else run.tags.get(ATTEMPT_TAG)
    return Worker(run_id=run.run_id, parent_run_id=run.parent_run_id, attempt=int(made_for) if made_for else None)


@contextmanager
def working(context: OpExecutionContext) -> Iterator[Worker]:
    """This run as a worker. What ends its step fails it without Dagster's own retries: the request has its own."""
    run = worker_of(context.run)
    worker = Worker(
        run_id=run.run_id,
        parent_run_id=run.parent_run_id,
        attempt=run.attempt,
        interruptions=(KeyboardInterrupt, DagsterExecutionInterruptedError),
        terminated_by=lambda: termination(context.instance, context.run_id),
    )
    try:
        yield worker
    except Exception as error:
        raise Failure(
            description=message_of(error, context.run_id),
            metadata={"error_type": MetadataValue.text(error_type_of(error))},
            allow_retries=False,
        ) from error
