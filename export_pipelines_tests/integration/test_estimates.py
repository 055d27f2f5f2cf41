"""Estimates against exports that were really made, and against tables that planners know little of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from export_pipelines.catalog.rls import apply_rls
from export_pipelines.cli import app
from export_pipelines.core.access import Caller, Role
from export_pipelines.core.catalog import Catalog
from export_pipelines.core.configuration import Configuration
from export_pipelines.core.errors import RequestRejected
from export_pipelines.core.estimating import Basis, Estimate, History, Measure
from export_pipelines.core.model import TenantScope
from export_pipelines.core.ports import Source
from export_pipelines.core.status import RequestStatus
from export_pipelines.embedded.postgres import EmbeddedPostgres
from export_pipelines.formats.registry import all_formats
from export_pipelines.object_stores.local import LocalStore
from export_pipelines.object_stores.opening import open_store
from export_pipelines.pipeline.assembly import open_source
from export_pipelines.pipeline.planning.orders import Order, estimate_order, find_retained, plan_order
from export_pipelines.stores.control import ControlDatabase
from export_pipelines.stores.export_statistics import STATISTICS_PER_TABLE, MeasureStore
from export_pipelines.stores.tenant_session import ControlPool
from export_pipelines_tests.lanes import every_pair
from export_pipelines_tests.published import Publisher
from export_pipelines_tests.workshop import TENANTS, Workshop, login_url

ANONYMITY_THRESHOLD = ("two", "three", "four", "five", "six")
ORDER: dict[str, Any] = {"tables": ["pets", "clients", "invoice_items"], "format": "csv"}


def estimate(
    workshop: Workshop, config: dict[str, Any], tenant: str = TENANTS[0], *, source: Source | None = None
) -> Estimate:
    services = workshop.services
    order = Order(configuration=Configuration.of(config), scope=workshop.scope(tenant))
    retained = find_retained(order, workshop.catalog, services.requests, services.store)
    return estimate_order(
        plan_order(order, workshop.catalog, retained=retained),
        workshop.catalog,
        source=source or services.source,
        measures=services.measures,
        store=services.store,
    )


def export(workshop: Workshop, config: dict[str, Any], expected: Estimate) -> Any:
    request_id = workshop.order(config, launched_by="cli", estimate=expected)
    workshop.run(request_id)
    request = workshop.services.requests.get(request_id)
    assert (request.status, request.error_message) == (RequestStatus.COMPLETED, None)
    return request


@pytest.mark.parametrize(("format_name", "compression"), every_pair(list(all_formats()), ["none", "zip"], base="csv"))
def test_the_first_estimate_is_near_and_the_second_is_close(
    workshop: Workshop, format_name: str, compression: str
) -> None:
    """Rows through a relation are guessed at a half by the planner; what was exported corrects that."""
    config = {**ORDER, "format": format_name, "compression": compression}
    first = estimate(workshop, config)
    request = export(workshop, config, first)
    second = estimate(workshop, config)
    assert first.basis is Basis.BUILT_IN
    assert 0.3 < first.rows / request.package_rows <= 1.1
    assert 0.25 < first.size_bytes / request.package_bytes < 2.5
    assert (second.basis, second.tables[0].past_exports) == (Basis.PAST_EXPORTS, 1)
    assert second.rows == pytest.approx(request.package_rows, rel=0.02)
    assert second.size_bytes == pytest.approx(request.package_bytes, rel=0.3)


def test_an_order_with_an_estimate_knows_its_total_from_the_first_moment(workshop: Workshop) -> None:
    expected = estimate(workshop, ORDER)
    queued = workshop.services.requests.get(workshop.order(ORDER, estimate=expected))
    assert (queued.status, queued.total_rows, queued.percentage) == ("queued", expected.rows, 0)
    assert (queued.estimated_rows, queued.estimated_bytes) == (expected.rows, expected.size_bytes)
    done = export(workshop, ORDER, expected)
    assert done.total_rows == done.rows_processed == done.package_rows


def test_past_errors_are_those_of_the_exports_that_had_an_estimate(workshop: Workshop) -> None:
    assert estimate(workshop, ORDER).past_error is None
    workshop.export(ORDER)
    assert estimate(workshop, ORDER).past_error is None
    right = estimate(workshop, ORDER)
    for factor in (1, 2, 3):
        export(workshop, ORDER, replace(right, rows=right.rows * factor))
    found = estimate(workshop, ORDER).past_error
    assert found is not None
    assert (found.exports, found.own) == (3, False)
    assert found.rows == pytest.approx(1, abs=0.05)  # twice as many as there were: the median of the three


def test_a_conversion_knows_its_rows_and_asks_nothing_of_the_source(workshop: Workshop) -> None:
    origin = workshop.export(ORDER)
    away = open_source("postgresql://nobody@127.0.0.1:9/void", workshop.catalog)
    found = estimate(workshop, {"convert": origin.id, "format": "parquet"}, source=away)
    assert found.rows == origin.package_rows
    assert {table.table for table in found.tables} == set(ORDER["tables"])


def test_it_tells_classes_of_the_columns_chosen_and_who_gets_mail(workshop: Workshop) -> None:
    mail = {"method": "email", "recipients": ["ann@example.com", "bob@example.com"]}
    source = {"type": "clients", "fields": ["id", "full_name", "email"]}
    found = estimate(workshop, {"data_sources": [source], "format": "csv", "delivery": [mail, mail]})
    assert found.classes == {"identifier": 1, "personal": 2}
    assert found.recipients == ("ann@example.com", "bob@example.com")


def test_fewer_columns_are_fewer_bytes_of_the_same_rows(workshop: Workshop) -> None:
    whole = estimate(workshop, {"tables": ["clients"], "format": "csv"})
    narrow = estimate(workshop, {"data_sources": [{"type": "clients", "fields": ["id"]}], "format": "csv"})
    assert narrow.rows == whole.rows
    assert narrow.tables[0].size_bytes < whole.tables[0].size_bytes / 2


@pytest.mark.parametrize(
    ("config", "tenant", "field"),
    [
        ({"tables": ["petz"], "format": "csv"}, TENANTS[0], "tables"),
        ({"tables": ["pets"], "format": "doc"}, TENANTS[0], "format"),
        ({"tables": ["pets"], "format": "csv"}, "nobody", "tenant_id"),
    ],
)
def test_what_an_export_would_refuse_the_estimate_refuses(
    workshop: Workshop, config: dict[str, Any], tenant: str, field: str
) -> None:
    with pytest.raises(RequestRejected) as refused:
        estimate(workshop, config, tenant)
    assert refused.value.field == field


def test_it_answers_at_once(workshop: Workshop) -> None:
    took = []
    for _ in range(5):
        started = time.process_time()  # on a clock that other programs do not move
        estimate(workshop, {"tables": list(workshop.catalog.tables), "format": "csv"})
        took.append(time.process_time() - started)
    assert min(took) < 0.2  # measured: 0.03


def test_the_command_says_it_in_words_and_as_json(workshop: Workshop) -> None:
    done = workshop.export(ORDER)
    environment = {
        "EXPORT_SOURCE_URL": workshop.settings.require_source_url(),
        "EXPORT_CONTROL_URL": workshop.settings.require_control_url(),
        "EXPORT_HOME": str(workshop.settings.home),
    }
    options = ["--tenant", TENANTS[0], "--tables", ",".join(ORDER["tables"]), "--format", "csv", "--encrypt", "aes256"]
    words = CliRunner().invoke(app, ["estimate", *options], env=environment)
    reported = CliRunner().invoke(app, ["estimate", *options, "--json"], env=environment)
    assert (words.exit_code, reported.exit_code) == (0, 0), words.output + reported.output
    assert "once it runs" in words.output
    assert json.loads(reported.output)["rows"] == done.package_rows
    assert "password" not in reported.output


# Tables of other kinds ----------------------------------------------------------------------------------------------

CATALOG = {
    "name": "shop",
    "tenant": {"table": "public.tenants", "type": "text"},
    "reader_role": "estimate_reader",
    "tables": {
        name: {
            "tenant": {"column": "tenant_id"},
            "columns": {"id": {"type": "bigint"}, "tenant_id": {"type": "text"}, "note": {"type": "text"}},
        }
        for name in ("plain", "parted", "seen", "fresh")
    },
}
SHOP = """
CREATE TABLE tenants (id text PRIMARY KEY); INSERT INTO tenants VALUES ('a'), ('b');
CREATE TABLE plain (id bigint, tenant_id text, note text);
CREATE TABLE parted (LIKE plain) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (500);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (100000);
CREATE TABLE fresh (LIKE plain) WITH (autovacuum_enabled = false);
INSERT INTO plain SELECT i, CASE WHEN i % 4 = 0 THEN 'b' ELSE 'a' END, 'note ' || i FROM generate_series(0, 1999) i;
INSERT INTO parted SELECT * FROM plain;
INSERT INTO fresh SELECT * FROM plain;
CREATE VIEW seen WITH (security_invoker = true) AS SELECT * FROM plain WHERE id >= 1000;
ANALYZE plain; ANALYZE parted;
"""


@pytest.fixture(scope="module")
def shop(postgres: EmbeddedPostgres, database: Callable[[str], str]) -> tuple[str, Catalog]:
    url, catalog = database("shop"), Catalog.model_validate(CATALOG)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SHOP)
        apply_rls(connection, catalog, force=True)
    return login_url(postgres, url, "estimate_reader"), catalog


def estimate_of(shop: tuple[str, Catalog], control_url: str, *tables: str) -> Estimate:
    url, catalog = shop
    with closing(ControlDatabase(control_url)) as control:
        order = Order(
            configuration=Configuration.of({"tables": list(tables), "format": "csv"}), scope=TenantScope(tenant_id="a")
        )
        return estimate_order(
            plan_order(order, catalog),
            catalog,
            source=open_source(url, catalog),
            measures=MeasureStore(control),
            store=LocalStore(Path()),  # nothing in it is looked at
        )


@pytest.mark.parametrize(
    ("table", "rows", "analysed"), [("plain", 1500, True), ("parted", 1500, True), ("seen", 750, True)]
)
def test_partitioned_tables_and_views_are_guessed_like_plain_ones(
    shop: tuple[str, Catalog], control_url: str, table: str, rows: int, analysed: bool
) -> None:
    found = estimate_of(shop, control_url, table)
    assert found.rows == pytest.approx(rows, rel=0.1)
    assert found.tables[0].analysed is analysed


def test_a_table_that_was_never_analysed_is_said_to_be(shop: tuple[str, Catalog], control_url: str) -> None:
    found = estimate_of(shop, control_url, "fresh", "plain")
    assert {table.table: table.analysed for table in found.tables} == {"fresh": False, "plain": True}


# Measures -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher(control_url: str, tmp_path: Path) -> Iterator[Publisher]:
    with closing(ControlDatabase(control_url)) as control:
        yield Publisher(control=control, store=open_store(str(tmp_path)))


def measured(publisher: Publisher, tenant: str, rows: int, *, guess: int = 100, format_name: str = "csv") -> None:
    request_id = publisher.publish(tenant=tenant)
    measure = Measure(
        table="pets",
        selection="whole, all",
        planner_rows=guess,
        rows=rows,
        volume_bytes=rows * 100,
        size_bytes=rows * 50,
    )
    MeasureStore(publisher.control).record(
        request_id, [measure], catalog="clinic", format_name=format_name, compression="none", converted=False
    )


def history(store: MeasureStore, tenant: str, format_name: str = "csv") -> Any:
    return store.history(
        tenant, {"pets": "whole, all"}, catalog="clinic", format_name=format_name, compression="none", converted=False
    )


def test_the_tenants_own_past_is_told_apart_from_everybodys(publisher: Publisher) -> None:
    measured(publisher, "one", 200)
    for other in ANONYMITY_THRESHOLD:
        measured(publisher, other, 50, guess=10)
    found = history(MeasureStore(publisher.control), "one")
    assert found.ratios == {"pets": pytest.approx(201 / 101)}
    assert (found.by_tenant["pets"].exports, found.by_table["pets"].exports, found.by_format.exports) == (1, 6, 6)
    assert found.by_table["pets"].size_bytes == (200 + 5 * 50) * 50


def test_the_past_of_a_few_tenants_is_told_to_none_of_the_others(publisher: Publisher) -> None:
    """Sums over few would tell how much others export and how well their rows compress."""
    store = MeasureStore(publisher.control)
    measured(publisher, "one", 200)
    for other in (*ANONYMITY_THRESHOLD[:4], ANONYMITY_THRESHOLD[0]):
        measured(publisher, other, 50)
    own, new = history(store, "one"), history(store, "new")
    assert (own.by_table, own.by_format.exports, own.by_format.size_bytes) == ({}, 1, 200 * 50)
    assert (new.by_tenant, new.by_table["pets"].exports, new.by_format.exports) == ({}, 6, 6)  # of five others
    publisher.change("DELETE FROM export_control.export_measures WHERE tenant_id = %(id)s", id="one")
    assert history(store, "new") == History()


def test_past_errors_of_a_few_tenants_are_told_to_none_of_the_others(publisher: Publisher) -> None:
    store = MeasureStore(publisher.control)
    for tenant in ("one", *ANONYMITY_THRESHOLD[:4]):
        publisher.publish(tenant=tenant)
    publisher.change("UPDATE export_control.export_requests SET estimated_rows = 1, estimated_bytes = 1")
    found = store.past_error("one", ["csv"])
    assert found is not None
    assert (found.exports, found.own) == (1, False)
    everybodys = store.past_error("new", ["csv"])
    assert everybodys is not None
    assert everybodys.exports == 5
    publisher.change("UPDATE export_control.export_requests SET estimated_rows = NULL WHERE tenant_id = 'one'")
    assert store.past_error("new", ["csv"]) is None


def test_another_format_corrects_rows_and_says_nothing_of_bytes(publisher: Publisher) -> None:
    measured(publisher, "one", 200, format_name="xml")
    found = history(MeasureStore(publisher.control), "one")
    assert (set(found.ratios), found.by_tenant, found.by_table, found.by_format) == ({"pets"}, {}, {}, None)


def test_the_median_of_the_last_five_corrects_and_older_measures_make_room(publisher: Publisher) -> None:
    store = MeasureStore(publisher.control)
    for number in range(STATISTICS_PER_TABLE + 3):
        measured(publisher, "one", 1_000 if number < STATISTICS_PER_TABLE else 200 + number)
    (kept,) = publisher.control.rows("SELECT count(*) AS n FROM export_control.export_measures")
    assert kept["n"] == STATISTICS_PER_TABLE
    # The last five had 1000, 1000, 220, 221 and 222 rows.
    assert history(store, "one").ratios["pets"] == pytest.approx(223 / 101)


@pytest.mark.parametrize(("role", "exports"), [(Role.MEMBER, 6), (Role.ADMIN, 6), (None, 0)])
def test_the_api_gets_its_own_tenants_past_whichever_it_names(
    publisher: Publisher, control_url: str, role: Role | None, exports: int
) -> None:
    for tenant in ("one", *ANONYMITY_THRESHOLD):
        measured(publisher, tenant, 200)
    pool = ControlPool(control_url)
    pool.open()
    try:
        caller = Caller(role=role, tenant_id="new", credential="test") if role else None
        with pool.tenant_session(caller) as control:
            found = history(MeasureStore(control), "one")
            with pytest.raises(RequestRejected, match="may not do this"):
                control.rows("SELECT * FROM export_control.export_measures")
    finally:
        pool.close()
    assert (found.ratios, found.by_tenant) == ({}, {})
    assert sum(past.exports for past in found.by_table.values()) == exports
