"""Has Dagster start a request's run at once, through its webserver's GraphQL.

Only a shortcut: the request sensor starts whatever this could not, and knows by its tags what this has started.
"""

from __future__ import annotations

from typing import Any

import httpx
import structlog
from anyio import CapacityLimiter, to_thread

from export_pipelines.core.errors import Unavailable
from export_pipelines.pipeline.planning.runs import job_name, run_config, run_key, run_tags
from export_pipelines.stores.requests import ExportRequest

_TIMEOUT_SECONDS = 10
AT_ONCE = 4  # threads that a Dagster which does not answer may keep from the other calls
MOST_WAITING = 32  # beyond that the sensor is faster
_LOCATION, _REPOSITORY = "export_pipelines", "__repository__"  # names of workspace.yaml and of Dagster's default
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
_log = structlog.get_logger(__name__)


class Launcher:
    """Asks the webserver at ``url``."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)
        self._turns = CapacityLimiter(AT_ONCE)

    async def launch_in_order(self, request: ExportRequest) -> str:
        """`launch` in one of few threads. `Unavailable` at once when too many wait for one."""
        if self._turns.statistics().tasks_waiting >= MOST_WAITING:
            raise Unavailable("too many wait for Dagster's webserver")
        return await to_thread.run_sync(self.launch, request, limiter=self._turns)

    def launch(self, request: ExportRequest) -> str:
        """The new run's id. `Unavailable` when there is none."""
        tags = {**run_tags(request), "dagster/run_key": run_key(request)}
        params = {
            "selector": {
                "repositoryLocationName": _LOCATION,
                "repositoryName": _REPOSITORY,
                "jobName": job_name(request),
            },
            "runConfigData": run_config(request),
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(params)
        if answer.get("__typename") != "LaunchRunSuccess":
            raise Unavailable(f"Dagster does not start a run: {answer.get('__typename')} {answer.get('message', '')}")
        return str(answer["run"]["runId"])

    def _ask(self, params: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._client.post("/graphql", json={"query": _LAUNCH, "variables": {"params": params}})
            answer.raise_for_status()
            launched = answer.json()["data"]["launchRun"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"Dagster's webserver does not answer: {type(error).__name__}") from error
        return dict(launched)

    def close(self) -> None:
        self._client.close()
