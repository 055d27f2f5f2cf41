"""Dagster's webserver asked in GraphQL, as the operators' UI asks it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

from export_pipelines.embedded.services import Services

WAIT_SECONDS = 240

LAUNCH = """
mutation ($asked: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $asked) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
RUNS = """
query ($tag: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $tag}]}) {
    ... on Runs { results { status tags { key value } } }
  }
}
"""
PARTITIONS = """
query ($path: [String!]!) {
  assetNodeOrError(assetKey: {path: $path}) {
    ... on AssetNode {
      partitionKeysByDimension { name partitionKeys }
      partitionStats { numMaterialized }
    }
  }
}
"""

CHECKED = """
query ($path: [String!]!, $check: String!) {
  assetCheckExecutions(assetKey: {path: $path}, checkName: $check, limit: 100) { status runId }
}
"""


def ask(services: Services, query: str, **variables: Any) -> dict[str, Any]:
    """One GraphQL request to the webserver, as the UI makes it."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = Request(f"{services.ui_url}/graphql", body, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as response:
        answer = json.load(response)
    assert "errors" not in answer, answer
    (data,) = answer["data"].values()
    return data


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s"
        time.sleep(0.5)


def node(services: Services, table: str) -> dict[str, Any]:
    return ask(services, PARTITIONS, path=["clinic", table])


def owners_known(services: Services, dimension: str = "tenant") -> set[str]:
    """Keys of the dimension beside the period."""
    dimensions = node(services, "pets").get("partitionKeysByDimension", [])  # none while the code server starts
    return {key for found in dimensions if found["name"] == dimension for key in found["partitionKeys"]}


def backfill(
    services: Services, tables: list[str], partitions: list[str], run_config: dict[str, Any] | None = None
) -> list[dict[str, str]]:
    """Launch, wait for its good end, and the tags of its runs."""
    asked: dict[str, Any] = {
        "assetSelection": [{"path": ["clinic", table]} for table in tables],
        "partitionNames": partitions,
    }
    if run_config is not None:
        asked["runConfigData"] = run_config
    launched = ask(services, LAUNCH, asked=asked)
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    ended = ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED")
    until(lambda: ask(services, STATUS, id=launched["backfillId"])["status"] in ended)
    assert ask(services, STATUS, id=launched["backfillId"])["status"] == "COMPLETED_SUCCESS"
    runs = ask(services, RUNS, tag=launched["backfillId"])["results"]
    assert {run["status"] for run in runs} == {"SUCCESS"}
    return [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
