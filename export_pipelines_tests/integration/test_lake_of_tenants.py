"""The lake takes the same rows for the tenant's as the source does, and still finds those that are not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from export_pipelines.catalog.attestation import attest_session
from export_pipelines.catalog.resolving import resolve
from export_pipelines.catalog.rls import apply_rls
from export_pipelines.catalog.unknown import find_unknown
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.errors import IntegrityViolation
from export_pipelines.core.model import ExportPlan, TenantScope
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.pipeline.assembly import require_sound
from export_pipelines.pipeline.extract.lake_stage import stage_lake
from export_pipelines.pipeline.lake.materialize import REUSE_NOTHING, whole_partition, writing_lake
from export_pipelines.pipeline.progress import Unwatched
from export_pipelines.sources.postgres import PostgresSource
from export_pipelines_tests.tenancy.test_no_foreign_row_leaves import services_on
from export_pipelines_tests.workshop import login_url

TENANT = TenantScope(tenant_id="1")


def test_other_spellings_and_shared_rows_of_a_tenant_are_in_the_lake_and_come_out_of_it(
    postgres: Any, database: Callable[[str], str], tmp_path: Path
) -> None:
    url = database("lake_of_tenants")
    catalog = Catalog.model_validate(
        {
            "name": "spelled",
            "reader_role": url.rpartition("/")[2] + "_reader",
            "tenant": {"table": "public.tenants", "key": "id", "type": "numeric"},
            "tables": {
                "marks": {
                    "tenant": {"column": "tenant_id", "null_is_shared": True},
                    "deleted_column": "state",
                    "alive_when": "live",
                    "columns": {"tenant_id": {"type": "numeric"}, "state": {"type": "text", "nullable": False}},
                }
            },
        }
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE tenants (id numeric PRIMARY KEY)")
        connection.execute("INSERT INTO tenants VALUES (1), (2)")
        connection.execute("CREATE TABLE marks (tenant_id numeric REFERENCES tenants, state text NOT NULL)")
        connection.execute(
            "INSERT INTO marks VALUES (1, 'live'), (1.0, 'live'), (1.00, 'gone'), (NULL, 'live'), (2, 'live')"
        )
        apply_rls(connection, catalog)
    login = login_url(postgres, url, catalog.reader_role)
    source = PostgresSource(
        login, catalog, check_tables=require_sound, report=attest_session, compare=find_unknown, resolve=resolve
    )
    store = LocalStore(tmp_path)
    with writing_lake(catalog, store, run_id="run", scratch=tmp_path) as lake:
        (part,) = lake.materialize_all("marks", TENANT, [None], source, REUSE_NOTHING)
    assert part.valid, part.outcomes
    assert part.rows == 4

    now = dt.datetime.now(dt.UTC)
    plan = ExportPlan(
        request_id="lake",
        attempt=1,
        scope=TENANT,
        catalog=catalog.name,
        export_type="full_backup",
        name="lake",
        selections=(whole_partition(catalog, "marks", None),),
        format="csv",
        requested_at=now,
        point_in_time=now,
    )
    services = services_on(login, tmp_path, checked=True, catalog=catalog)
    assert stage_lake(plan, now, services, Unwatched()).tables[0].rows == 4

    with store.local(part.key) as path:
        stored = pq.read_table(path)
        foreign = stored.set_column(0, stored.field(0), pa.array(["1", "2", "1", None]))
        pq.write_table(foreign, path)
    with pytest.raises(IntegrityViolation, match="another tenant"):
        stage_lake(plan, now, services, Unwatched())
