"""Fills Dagster's event log as if every partition had been materialized, and the cleanup had pruned the runs since.

A real run over two months of one owner, a tenant or a bucket, is the model. SQL copies its rows for each owner, as one
run over all its months, with the keys put in their places: materializations, their tags, results of checks, the run.
What `prune_runs` takes from old runs, all other events, is not made.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from dagster import AssetKey, MultiPartitionKey
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from psycopg.rows import DictRow, dict_row

from benchmarks.scale.place import Place
from export_pipelines.core.buckets import bucket_of
from export_pipelines.core.catalog import Catalog, Grain
from export_pipelines.orchestration.assets import table_key
from export_pipelines.orchestration.jobs import materialize_job_name, tables_of
from export_pipelines.orchestration.partitions import PERIOD, owner_dimension, partitions_of, tenant_partitions_name

_QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_MODEL_PERIODS = 2


@dataclass(frozen=True, kw_only=True)
class Partitions:
    """Every key of a table that is cut by month, sorted by owner and period."""

    keys: tuple[MultiPartitionKey, ...]
    owners: tuple[str, ...]
    dimension: str  # of the owners

    @classmethod
    def of(cls, found: Place) -> Partitions:
        """As the assets' own definition lists them."""
        definition = partitions_of(found.catalog, Grain.MONTH)
        dimension = owner_dimension(found.catalog)
        listed = definition.get_partition_keys(dynamic_partitions_store=found.instance)
        keys = [key for key in listed if isinstance(key, MultiPartitionKey)]
        keys.sort(key=lambda key: (key.keys_by_dimension[dimension], key.keys_by_dimension[PERIOD]))
        owners = dict.fromkeys(key.keys_by_dimension[dimension] for key in keys)
        return cls(keys=tuple(keys), owners=tuple(owners), dimension=dimension)

    def owned_by(self, owner: str) -> list[MultiPartitionKey]:
        return [key for key in self.keys if key.keys_by_dimension[self.dimension] == owner]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What Dagster stored of the real run."""

    run: DictRow
    run_tags: tuple[DictRow, ...]
    materializations: tuple[DictRow, ...]  # one a table
    tags: tuple[DictRow, ...]  # of those
    checks: tuple[DictRow, ...]  # executions with their events
    key: str
    period: str
    owner: str
    first: str  # key of the run's range
    last: str


def monthly_keys(catalog: Catalog) -> list[AssetKey]:
    """The assets that are filled."""
    return [table_key(catalog, name) for name in tables_of(catalog, Grain.MONTH)]


def model_owner(found: Place, tenant: str) -> str:
    buckets = found.catalog.tenant_buckets
    return tenant if buckets is None else bucket_of(tenant, buckets)


def run_model(found: Place, owner: str) -> str:
    """A real run of every table over the newest months of an owner; its id."""
    keys = Partitions.of(found).owned_by(owner)[-_MODEL_PERIODS:]
    job = found.definitions.resolve_job_def(materialize_job_name(Grain.MONTH))
    done = job.execute_in_process(
        instance=found.instance,
        run_config=_QUIET,
        tags={ASSET_PARTITION_RANGE_START_TAG: keys[0], ASSET_PARTITION_RANGE_END_TAG: keys[-1]},
    )
    return done.run_id


def read_model(found: Place, run_id: str) -> Model:
    """The rows of that run."""
    dimension = owner_dimension(found.catalog)
    with psycopg.connect(found.dagster_url, row_factory=dict_row) as connection:
        (run,) = connection.execute("SELECT * FROM runs WHERE run_id = %s", (run_id,)).fetchall()
        run_tags = connection.execute("SELECT key, value FROM run_tags WHERE run_id = %s", (run_id,)).fetchall()
        newest = connection.execute(_NEWEST, (run_id,)).fetchall()
        tags = connection.execute(_TAGS, ([row["id"] for row in newest],)).fetchall()
        checks = connection.execute(_CHECKS, (run_id,)).fetchall()
    ranged = {row["key"]: row["value"] for row in run_tags}
    parts = {row["key"]: row["value"] for row in tags}
    return Model(
        run=run,
        run_tags=tuple(run_tags),
        materializations=tuple(newest),
        tags=tuple(tags),
        checks=tuple(checks),
        key=newest[0]["partition"],
        period=parts[f"dagster/partition/{PERIOD}"],
        owner=parts[f"dagster/partition/{dimension}"],
        first=ranged[ASSET_PARTITION_RANGE_START_TAG],
        last=ranged[ASSET_PARTITION_RANGE_END_TAG],
    )


def remove_model(found: Place, model: Model) -> None:
    """Nothing of the real run counts twice."""
    run_id = model.run["run_id"]
    found.instance.delete_run(run_id)
    with psycopg.connect(found.dagster_url) as connection:
        connection.execute("DELETE FROM asset_check_executions WHERE run_id = %s", (run_id,))
        connection.execute("DELETE FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)")
        connection.execute("DELETE FROM asset_keys")
    if found.catalog.tenant_buckets is None:
        name = tenant_partitions_name(found.catalog)
        for tenant in found.instance.get_dynamic_partitions(name):
            found.instance.delete_dynamic_partition(name, tenant)


def fill(found: Place, model: Model, partitions: Partitions) -> None:
    """A run for each owner, with a materialization of every table and period."""
    with psycopg.connect(found.dagster_url) as connection:
        _write_keys(connection, partitions)
        _write_runs(connection, model)
        for row in model.materializations:
            _write_materializations(connection, model, row)
        for check in model.checks:
            connection.execute(_INSERT_CHECK, {**_places(model), **check, "target": _target(check)})
    with psycopg.connect(found.dagster_url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
    _tell_asset_keys(found)


def _write_keys(connection: psycopg.Connection[Any], partitions: Partitions) -> None:
    runs = {owner: str(uuid.uuid4()) for owner in partitions.owners}
    connection.execute("CREATE TEMP TABLE keys (number int, key text, period text, owner text, run_id text)")
    connection.execute("CREATE TEMP TABLE newest (asset_key text, run_id text, id bigint)")
    with connection.cursor().copy("COPY keys FROM STDIN") as copy:
        for number, key in enumerate(partitions.keys):
            owner = key.keys_by_dimension[partitions.dimension]
            copy.write_row((number, str(key), key.keys_by_dimension[PERIOD], owner, runs[owner]))
    connection.execute("ANALYZE keys")


def _write_runs(connection: psycopg.Connection[Any], model: Model) -> None:
    connection.execute(_INSERT_RUNS, {**model.run, **_places(model)})
    for tag in model.run_tags:
        connection.execute(_INSERT_RUN_TAGS, {**tag, **_places(model)})


def _write_materializations(connection: psycopg.Connection[Any], model: Model, row: DictRow) -> None:
    tags = [tag for tag in model.tags if tag["event_id"] == row["id"]]
    wanted = {
        "month": f"month={model.period[:7]}/",
        "tag_keys": [tag["key"] for tag in tags],
        "tag_values": [tag["value"] for tag in tags],
    }
    connection.execute(_INSERT_MATERIALIZATIONS, {**_places(model), **row, **wanted})


def _places(model: Model) -> dict[str, Any]:
    """What is replaced."""
    return {
        "old_run": model.run["run_id"],
        "old_key": model.key,
        "old_period": model.period,
        "quoted_period": json.dumps(model.period),
        "old_owner": model.owner,
        "old_first": model.first,
        "old_last": model.last,
    }


def _target(check: DictRow) -> str:
    return f'"storage_id": {check["materialization_event_storage_id"]},'


def _tell_asset_keys(found: Place) -> None:
    """By Dagster's own storage: the table of assets holds the last event of each."""
    for key in monthly_keys(found.catalog):
        (record,) = found.instance.fetch_materializations(key, limit=1).records
        found.instance.event_log_storage.store_asset_event(record.event_log_entry, record.storage_id)  # type: ignore[attr-defined]


def forget_status(found: Place, keys: Sequence[AssetKey]) -> None:
    """Take away what Dagster remembers of the partitions' states, as before the first look at them."""
    with psycopg.connect(found.dagster_url) as connection:
        connection.execute(
            "UPDATE asset_keys SET cached_status_data = NULL WHERE asset_key = ANY(%s)",
            ([key.to_string() for key in keys],),
        )


_NEWEST = """
    SELECT DISTINCT ON (asset_key) * FROM event_logs
    WHERE run_id = %s AND dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY asset_key, partition DESC
"""
_TAGS = "SELECT event_id, asset_key, key, value FROM asset_event_tags WHERE event_id = ANY(%s) ORDER BY id"
_CHECKS = """
    SELECT c.asset_key, c.check_name, c.execution_status, c.evaluation_event, c.evaluation_event_timestamp,
           c.materialization_event_storage_id, e.event, e.dagster_event_type, e.timestamp, e.step_key
    FROM asset_check_executions c JOIN event_logs e ON e.id = c.evaluation_event_storage_id
    WHERE c.run_id = %s ORDER BY c.id
"""
_INSERT_RUNS = """
    INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set,
                      create_timestamp, update_timestamp, start_time, end_time, backfill_id)
    SELECT run_id, %(snapshot_id)s, %(pipeline_name)s, %(mode)s, %(status)s,
           replace(replace(replace(%(run_body)s::text, %(old_run)s, run_id), %(old_first)s, min(key)),
                   %(old_last)s, max(key)),
           %(partition)s, %(partition_set)s, %(create_timestamp)s, %(update_timestamp)s, %(start_time)s, %(end_time)s,
           %(backfill_id)s
    FROM keys GROUP BY run_id ORDER BY min(number)
"""
_INSERT_RUN_TAGS = """
    INSERT INTO run_tags (run_id, key, value)
    SELECT run_id, %(key)s,
           CASE %(value)s WHEN %(old_first)s THEN min(key) WHEN %(old_last)s THEN max(key) ELSE %(value)s END
    FROM keys GROUP BY run_id ORDER BY min(number)
"""
_INSERT_MATERIALIZATIONS = """
    WITH made AS (
        INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
        SELECT run_id,
               replace(replace(replace(replace(replace(%(event)s::text, %(old_key)s, key), %(quoted_period)s,
                       '"' || period || '"'), %(month)s, 'month=' || left(period, 7) || '/'), %(old_owner)s, owner),
                       %(old_run)s, run_id),
               %(dagster_event_type)s, %(timestamp)s, %(step_key)s, %(asset_key)s, key
        FROM keys ORDER BY number RETURNING id, run_id, partition
    ), tagged AS (
        INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp)
        SELECT made.id, %(asset_key)s, tag.key,
               CASE tag.value
                   WHEN %(old_period)s THEN keys.period WHEN %(old_owner)s THEN keys.owner ELSE tag.value
               END,
               %(timestamp)s
        FROM made JOIN keys ON keys.key = made.partition
        CROSS JOIN unnest(%(tag_keys)s::text[], %(tag_values)s::text[]) WITH ORDINALITY AS tag (key, value, place)
        ORDER BY made.id, tag.place
    )
    INSERT INTO newest SELECT %(asset_key)s, run_id, max(id) FROM made GROUP BY run_id
"""
_INSERT_CHECK = """
    WITH wanted AS (
        SELECT k.run_id, k.owner, n.id AS target FROM (SELECT DISTINCT run_id, owner FROM keys) k
        JOIN newest n ON n.run_id = k.run_id AND n.asset_key = %(asset_key)s
    ), made AS (
        INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key)
        SELECT run_id, replace(replace(replace(%(event)s::text, %(target)s, '"storage_id": ' || target || ','),
                               %(old_owner)s, owner), %(old_run)s, run_id),
               %(dagster_event_type)s, %(timestamp)s, %(step_key)s
        FROM wanted ORDER BY target RETURNING id, run_id, event
    )
    INSERT INTO asset_check_executions (asset_key, check_name, run_id, execution_status, evaluation_event,
        evaluation_event_timestamp, evaluation_event_storage_id, materialization_event_storage_id)
    SELECT %(asset_key)s, %(check_name)s, made.run_id, %(execution_status)s, made.event,
           %(evaluation_event_timestamp)s, made.id, wanted.target
    FROM made JOIN wanted USING (run_id) ORDER BY made.id
"""
