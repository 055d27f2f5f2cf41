"""What the pages of Dagster's UI ask its webserver, in the shape of the UI's own queries of the version in use."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

from dagster import AssetKey

from benchmarks.scale.history import Partitions
from export_pipelines.embedded.services import Services

TIMEOUT_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request of a page."""

    name: str
    label: str
    query: str
    variables: dict[str, Any]
    cold: bool = False  # the first one after a change makes Dagster's cache of partitions' states


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    seconds: float
    size_bytes: int
    data: dict[str, Any]


def ask(services: Services, question: Question) -> Answer:
    """Ask the webserver; an error in the answer is an error here."""
    body = json.dumps({"query": question.query, "variables": question.variables}).encode()
    request = Request(f"{services.ui_url}/graphql", body, {"Content-Type": "application/json"})
    began = time.perf_counter()
    with urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        text = response.read()
    seconds = time.perf_counter() - began
    answer = json.loads(text)
    if answer.get("errors"):
        raise RuntimeError(f"{question.name}: {answer['errors'][0]['message']}")
    for found in answer["data"].values():
        if isinstance(found, dict) and "Error" in str(found.get("__typename", "")):
            raise RuntimeError(f"{question.name}: {found}")
    return Answer(seconds=seconds, size_bytes=len(text), data=answer["data"])


def questions(assets: Sequence[AssetKey], partitions: Partitions, check: str) -> list[Question]:
    """Of the pages that show assets, partitions, checks and runs. The page of one asset is that of the first."""
    shown = {"path": assets[0].path}
    every = [{"path": asset.path} for asset in assets]
    middle = str(partitions.keys[len(partitions.keys) // 2])
    return [
        Question(name="catalog", label="list of assets", query=_CATALOG, variables={"limit": 1000}),
        Question(
            name="graph",
            label="states of all assets cut by month (graph, overview)",
            query=_GRAPH,
            variables={"assetKeys": every},
            cold=True,
        ),
        Question(
            name="stats", label="counts of one asset's partitions", query=_STATS, variables={"asset": shown}, cold=True
        ),
        Question(
            name="health", label="partitions page of one asset", query=_HEALTH, variables={"asset": shown}, cold=True
        ),
        Question(name="latest", label="latest materialization of one asset", query=_LATEST, variables={"asset": shown}),
        Question(
            name="partition", label="one partition", query=_PARTITION, variables={"asset": shown, "partition": middle}
        ),
        Question(name="events", label="an asset's last 100 events", query=_EVENTS, variables={"asset": shown}),
        Question(
            name="checks",
            label="an asset check's last 25 results",
            query=_CHECKS,
            variables={"asset": shown, "check": check},
        ),
        Question(name="runs", label="list of runs, first 25", query=_RUNS, variables={}),
    ]


def backfill(assets: Sequence[AssetKey], partitions: Partitions) -> Question:
    """All months of one owner, every table, as the dialog sends it: each partition by its key."""
    keys = [str(key) for key in partitions.owned_by(partitions.owners[0])]
    asked = {"assetSelection": [{"path": asset.path} for asset in assets], "partitionNames": keys}
    return Question(
        name="backfill",
        label="launch of a backfill: every table, one owner, all its months",
        query=_BACKFILL,
        variables={"asked": asked},
    )


_METADATA = """
fragment Entries on MetadataEntry {
  label description
  ... on TextMetadataEntry { text }
  ... on FloatMetadataEntry { floatValue }
  ... on IntMetadataEntry { intValue intRepr }
  ... on BoolMetadataEntry { boolValue }
  ... on TableMetadataEntry {
    table { records schema { columns { name type description constraints { nullable unique } } } }
  }
}
fragment Materialization on MaterializationEvent {
  partition tags { key value } runId timestamp stepKey label description metadataEntries { ...Entries }
  runOrError {
    ... on Run { id mode status pipelineName repositoryOrigin { id repositoryName repositoryLocationName } }
  }
}
"""
_CATALOG = """
query AssetCatalogTableQuery($limit: Int!) {
  assetsOrError(limit: $limit) {
    __typename
    ... on AssetConnection {
      nodes {
        id key { path }
        definition {
          id groupName opNames isMaterializable isPartitioned description kinds jobNames hasMaterializePermission
          partitionDefinition { description dimensionTypes { type dynamicPartitionsDefinitionName } }
          repository { id name location { id name } }
        }
      }
    }
  }
}
"""
_GRAPH = """
query AssetGraphLiveQuery($assetKeys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $assetKeys, loadMaterializations: true) {
    id opNames repository { id } assetKey { path }
    assetMaterializations(limit: 1) { timestamp runId stepKey }
    assetObservations(limit: 1) { timestamp runId stepKey }
    assetChecksOrError {
      ... on AssetChecks {
        checks {
          name canExecuteIndividually
          executionForLatestMaterialization { id runId status timestamp stepKey evaluation { severity } }
        }
      }
    }
    partitionStats { numMaterialized numMaterializing numPartitions numFailed }
  }
  assetsLatestInfo(assetKeys: $assetKeys) {
    id assetKey { path } unstartedRunIds inProgressRunIds latestRun { id status startTime endTime }
  }
}
"""
_STATS = """
query PartitionStats($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    __typename
    ... on AssetNode { id partitionStats { numMaterialized numMaterializing numPartitions numFailed } }
  }
}
"""
_HEALTH = """
query PartitionHealthQuery($asset: AssetKeyInput!) {
  assetNodeOrError(assetKey: $asset) {
    __typename
    ... on AssetNode {
      id
      partitionKeysByDimension { name type partitionKeys }
      assetPartitionStatuses {
        ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } }
        ... on DefaultPartitionStatuses { materializedPartitions materializingPartitions failedPartitions }
        ... on MultiPartitionStatuses {
          primaryDimensionName
          ranges {
            primaryDimStartKey primaryDimEndKey primaryDimStartTime primaryDimEndTime
            secondaryDim {
              ... on TimePartitionStatuses { ranges { status startTime endTime startKey endKey } }
              ... on DefaultPartitionStatuses { materializedPartitions materializingPartitions failedPartitions }
            }
          }
        }
      }
    }
  }
}
"""
_LATEST = """
query AssetOverviewMetadataEventsQuery($asset: AssetKeyInput!) {
  assetOrError(assetKey: $asset) {
    __typename
    ... on Asset {
      id
      assetMaterializations(limit: 1) { timestamp runId partition metadataEntries { ...Entries } }
      assetObservations(limit: 1) { timestamp runId partition metadataEntries { ...Entries } }
    }
  }
}
""" + _METADATA.split("fragment Materialization", maxsplit=1)[0]
_PARTITION = (
    """
query AssetPartitionDetailQuery($asset: AssetKeyInput!, $partition: String!) {
  assetOrError(assetKey: $asset) {
    __typename
    ... on Asset {
      id
      definition { id opNames latestRunForPartition(partition: $partition) { id status endTime } }
      assetEventHistory(
        partitions: [$partition], limit: 1000, eventTypeSelectors: [MATERIALIZATION, OBSERVATION, FAILED_TO_MATERIALIZE]
      ) { results { ... on MaterializationEvent { runId ...Materialization } } }
    }
  }
}
"""
    + _METADATA
)
_EVENTS = (
    """
query RecentAssetEventsQuery($asset: AssetKeyInput!) {
  assetsLatestInfo(assetKeys: [$asset]) { id unstartedRunIds inProgressRunIds latestRun { id status } }
  assetOrError(assetKey: $asset) {
    __typename
    ... on Asset {
      id key { path }
      assetEventHistory(limit: 100, eventTypeSelectors: [MATERIALIZATION, OBSERVATION, FAILED_TO_MATERIALIZE]) {
        results { ... on MaterializationEvent { ...Materialization } }
        cursor
      }
    }
  }
}
"""
    + _METADATA
)
_CHECKS = """
query AssetCheckDetailsQuery($asset: AssetKeyInput!, $check: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, limit: 25) {
    id runId status stepKey timestamp run { id status }
    evaluation {
      severity timestamp description partition metadataEntries { ...Entries }
      targetMaterialization { timestamp runId }
    }
  }
}
""" + _METADATA.split("fragment Materialization", maxsplit=1)[0]
_RUNS = """
query RunsFeedRootQuery {
  runsFeedOrError(limit: 25, view: ROOTS) {
    __typename
    ... on RunsFeedConnection {
      cursor hasMore
      results {
        __typename id runStatus creationTime startTime endTime tags { key value } jobName
        ... on Run {
          repositoryOrigin { id repositoryLocationName repositoryName }
          assetSelection { path } assetCheckSelection { name assetKey { path } }
          hasReExecutePermission hasTerminatePermission hasDeletePermission
        }
        ... on PartitionBackfill { backfillStatus: status assetSelection { path } isAssetBackfill numPartitions }
      }
    }
  }
  runsFeedCountOrError(view: ROOTS) { ... on RunsFeedCount { count } }
}
"""
_BACKFILL = """
mutation LaunchPartitionBackfill($asked: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $asked) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PartitionKeysNotFoundError { message }
    ... on PythonError { message stack }
  }
}
"""
